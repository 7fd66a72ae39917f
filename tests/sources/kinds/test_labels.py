"""Labels of files are the classes of the dataset by one rule, and what is no class is named with its place."""

from typing import Any

import numpy as np
import pytest

from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.sources.kinds.kind import Kind
from keras_pipeline.sources.kinds.labels import ClassOf
from keras_pipeline.strict_yaml.reader import parse_yaml


def place(index: int) -> str:
    return f"row {index}"


def class_of(*classes: str, label_values: tuple[Any, ...] = ()) -> ClassOf:
    return ClassOf(Kind(kind="arrays", path="own", classes=classes, label_values=label_values))


def test_texts_are_names_and_numbers_count_from_0() -> None:
    digits = class_of("2", "1", "0")
    assert digits.texts_to_classes(["0", "2"], place).tolist() == [2, 0]
    assert digits.numbers_to_classes(np.array([0, 2]), place).tolist() == [0, 2]


def test_label_values_say_what_stands_for_each_class() -> None:
    letters = class_of("A", "B", label_values=(1, -7))
    assert letters.texts_to_classes(["-7", "1"], place).tolist() == [1, 0]
    for kind in ("<i8", ">i4", "<f8", "<f4", "|i1"):
        assert letters.numbers_to_classes(np.array([-7, 1, 1], kind), place).tolist() == [1, 0, 0]
    assert class_of("no", "yes").numbers_to_classes(np.array([True, False]), place).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["A", "C", "D"], "row 1: got the label 'C' (and 1 more that are no class's). Expected: one of 'A', 'B'."),
        (["A", None], "row 1: got no label. Expected"),
        ([""], "row 0: got no label. Expected"),
        (["1"], "Are the labels numbers of classes? Then write them as `label_values`."),
        (["x" * 5000], f"got the label '{'x' * 59}…. Expected"),
        (["a\x1b[31m"], "got the label 'a\\x1b[31m'."),
        (np.array([0, 2]), "row 1: got the label 2. Expected: one of 0, 1. Correct the data, or `classes` and"),
        (np.array([1, 2]), "They seem to count from 1: write `label_values: [1, 2, …, 2]`."),
        (np.array([-1, 0]), "row 0: got the label -1."),
        (np.array([0.5]), "row 0: got the label 0.5."),
        (np.array([np.nan, np.inf]), "row 0: got the label nan (and 1 more"),
        (np.array([2**64 - 1], np.uint64), "row 0: got the label 18446744073709551615."),
    ],
)
def test_what_is_no_class_is_refused(labels: Any, message: str) -> None:
    letters = class_of("A", "B")
    with pytest.raises(DataError) as refused:
        (letters.texts_to_classes if isinstance(labels, list) else letters.numbers_to_classes)(labels, place)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [A, B, A]", "x.yaml:2:17: classes[2]: 'A' is classes[0] already."),
        ("classes: [A, B]\nlabel_values: [1]", "x.yaml:3:15: label_values: 1 values for 2 classes."),
        ("classes: [A, B]\nlabel_values: [1, '1']", "x.yaml:3:19: label_values[1]: '1' is label_values[0] already."),
    ],
)
def test_classes_and_their_values_are_checked_with_the_file(text: str, message: str) -> None:
    with pytest.raises(ParamsError) as refused:
        parse_yaml(f"kind: arrays\n{text}\npath: own\n".encode(), "x.yaml", Kind)
    assert message in str(refused.value)
