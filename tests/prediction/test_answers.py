"""Outputs as CSV: every number as it is, every name safe in a spreadsheet."""

import csv
import io
from typing import Any

import numpy as np

from keras_pipeline.prediction.answers import Answers
from made_networks import BINARY, IMAGES, TABLE


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def described(task: dict[str, Any], **changes: Any) -> Any:
    return {**task, **changes}


def test_of_classes_label_and_probabilities_come_back_bit_by_bit() -> None:
    answers = Answers(described(IMAGES), "file")
    outputs = np.random.default_rng(0).dirichlet(np.ones(10), 50).astype(np.float32)
    outputs[0, 0] = np.float32(1e-40)
    assert read(answers.header()) == [["file", "label", *(f"probability of {name}" for name in "0123456789")]]
    lines = read(answers.rows([f"{index}.png" for index in range(50)], outputs))
    assert [line[0] for line in lines] == [f"{index}.png" for index in range(50)]
    assert [int(line[1]) for line in lines] == outputs.argmax(axis=1).tolist()
    np.testing.assert_array_equal(np.array([line[2:] for line in lines], np.float32), outputs)


def test_of_two_classes_both_have_a_probability() -> None:
    answers = Answers(described(BINARY), "index")
    assert read(answers.header() + answers.rows(["0", "1"], np.array([[0.25], [0.75]], np.float32))) == [
        ["index", "label", "probability of not 3", "probability of 3"],
        ["0", "not 3", "0.75", "0.25"], ["1", "3", "0.25", "0.75"],
    ]  # fmt: skip


def test_a_number_is_in_its_own_units() -> None:
    answers = Answers(described(TABLE), "row")
    assert read(answers.header())[0][0] == "row"
    outputs = np.array([[0.1], [-3]], np.float32)
    lines = read(answers.rows(["1", "2"], outputs))
    assert [float(number) for _, number in lines] == (outputs[:, 0].astype(np.float64) * 77 + 150).tolist()


def test_no_name_is_a_formula_and_any_name_is_one_cell() -> None:
    names = ["=1+1", "@a", 'quo"te, comma', "-1", "naïve"]
    answers = Answers(described(IMAGES, class_names=names), "file")
    lines = read(answers.header() + answers.rows(["=cmd|x.png", "a,b.png"], np.eye(5, dtype=np.float32)[[0, 3]]))
    assert [line[:2] for line in lines] == [["file", "label"], ["'=cmd|x.png", "'=1+1"], ["a,b.png", "-1"]]
    assert lines[0][2:] == [f"probability of {name}" for name in names]
