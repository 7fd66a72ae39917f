"""Values changed in the text of a YAML file: nothing else is."""

from typing import Any

import pytest
from ruamel.yaml import YAML

from keras_pipeline.strict_yaml.edits import edit_yaml, flow_text, value_text
from keras_pipeline.strict_yaml.nodes import Key, plain_scalar

TEXT = """\
# first
seed: 1          # a number
model:
  units: [512,   256]   # a list
  layers: []     # layers
  rate: 1.0e-5   # kept as it is written

train:           # a block
  optimizer:
    name: adam   # which
    rate: 0.1    # how fast
  # behind it
  epochs: 3
last: 'x'
"""


def load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize(
    ("key", "value", "old", "new"),
    [
        (("seed",), "12", "seed: 1          #", "seed: 12         #"),
        (("seed",), "123456789012", "seed: 1          # a", "seed: 123456789012  # a"),
        (("model", "units"), "[1, 2]", "units: [512,   256]   # a list", "units: [1, 2]         # a list"),
        (("train", "epochs"), "40", "epochs: 3\n", "epochs: 40\n"),
        (("last",), "y", "last: 'x'\n", "last: y\n"),
        (("train", "optimizer", "beta"), "0.9", "# how fast\n", "# how fast\n    beta: 0.9\n"),
        (("more",), "2", "last: 'x'\n", "last: 'x'\nmore: 2\n"),
        (
            ("model", "layers"),
            "- {layer: Flatten}\n- layer: Dense\n  units: 3  # few",
            "layers: []     # layers\n",
            "layers:        # layers\n  - {layer: Flatten}\n  - layer: Dense\n    units: 3  # few\n",
        ),
        (
            ("train", "optimizer"),
            "{name: sgd, rate: 1}",
            "optimizer:\n    name: adam   # which\n    rate: 0.1    # how fast\n",
            "optimizer: {name: sgd, rate: 1}\n",
        ),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "BOM"])
def test_one_value(key: Key, value: str, old: str, new: str, ends: str, mark: str) -> None:
    assert TEXT.count(old) == 1
    expected = mark + TEXT.replace(old, new).replace("\n", ends)
    assert edit_yaml(mark + TEXT.replace("\n", ends), {key: value}) == expected


def test_many_values_at_once_are_the_same_as_one_by_one() -> None:
    changes: dict[Key, str] = {
        ("train", "optimizer", "rate"): "1",
        ("train", "optimizer", "beta"): "0.9",
        ("train", "optimizer", "gamma"): "0.8",
        ("model", "layers"): "- 1\n- 2",
        ("seed",): "2",
        ("model", "units"): "[]",
    }
    one_by_one = TEXT
    for key, value in changes.items():
        one_by_one = edit_yaml(one_by_one, {key: value})
    assert edit_yaml(TEXT, changes) == one_by_one
    assert load(one_by_one)["train"]["optimizer"] == {"name": "adam", "rate": 1, "beta": 0.9, "gamma": 0.8}


@pytest.mark.parametrize("column", ["", "    "])
def test_a_list_of_lines_stays_one_until_it_is_empty(column: str) -> None:
    lines = f"a:\n  # behind\n  b:  # of it\n  {column}- 1\n  {column}- x: 2\n  {column}  y: 3\n  c: 4\n"
    other = edit_yaml(lines, {("a", "b"): "[3, {x: 4}]"})
    assert other == f"a:\n  # behind\n  b:  # of it\n  {column}- 3\n  {column}- {{x: 4}}\n  c: 4\n"
    assert edit_yaml(other, {("a", "b"): "[]"}) == "a:\n  # behind\n  b: []  # of it\n  c: 4\n"


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_file_in_brackets(end: str) -> None:
    text = '{"a": 1, "b": {\n "c": "x",\n "d": [1]\n}, "e": {}}' + end
    changes: dict[Key, str] = {("a",): "2", ("b", "d"): "[2]", ("b", "n"): "3", ("e", "n"): "4"}
    assert edit_yaml(text, changes) == '{"a": 2, "b": {\n "c": "x",\n "d": [2], n: 3\n}, "e": {n: 4}}' + end


def test_a_value_is_taken_as_it_is_written() -> None:
    assert value_text(TEXT, ("model", "rate")) == "1.0e-5"
    assert value_text(TEXT, ("model", "units")) == "[512,   256]"
    assert value_text(TEXT, ("last",)) == "'x'"
    listed = edit_yaml(TEXT, {("model", "layers"): "- {a: 1}  # one\n# two\n- b: 2\n  c: 3"})
    assert value_text(listed, ("model", "layers")) == "- {a: 1}  # one\n# two\n- b: 2\n  c: 3"
    assert value_text("a: [1,\n  2]\n", ("a",)) == "[1, 2]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (True, "true"),
        (1e-05, "1.0e-5"),
        (2.5e-07, "2.5e-7"),
        (0.1, "0.1"),
        ("adam", "adam"),
        ("val/loss", "val/loss"),
        ("two words", "two words"),
        ("yes", '"yes"'),
        ("1", '"1"'),
        ("", '""'),
        ("a: b", '"a: b"'),
        ("a #b", '"a #b"'),
        ("[a", '"[a"'),
        ("ü", '"ü"'),
        ([{"layer": "Dense", "units": 3}, [1.5]], "[{layer: Dense, units: 3}, [1.5]]"),
        ((), "[]"),
        ({}, "{}"),
    ],
)
def test_a_value_in_one_line_is_read_as_what_it_is(value: Any, text: str) -> None:
    assert flow_text(value) == text
    read = load(f"a: {text}")["a"]
    assert repr(read) == repr(list(value) if isinstance(value, tuple) else value)
    if not isinstance(value, list | dict | tuple) and not text.startswith('"'):
        assert plain_scalar(text) == value
