import enum
import json
import os
import re
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML

from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml.faults import Block, KeyedError
from keras_pipeline.strict_yaml.nodes import parse_nodes
from keras_pipeline.strict_yaml.reader import load_yaml, parse_yaml
from yaml_mutants import mutants


class Dense(Block):
    type: Literal["dense"]
    units: Annotated[int, Field(ge=1, le=4096)]


class Dropout(Block):
    type: Literal["dropout"]
    rate: Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Block):
    name: Literal["adam", "adamw", "rmsprop", "sgd"]
    learning_rate: Annotated[float, Field(gt=0, le=1)]


class Precision(enum.Enum):
    SINGLE = "float32"
    MIXED = "mixed"


class Train(Block):
    epochs: Annotated[int, Field(ge=1)]
    batch_size: int
    optimizer: Optimizer
    shuffle: bool
    warmup: Annotated[int, Field(le=10, multiple_of=5)] | None = None
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    precision: Precision = Precision.SINGLE
    devices: int = 1
    window: tuple[int, int] = (1, 1)
    crop: Literal["center", "random"] = "center"

    @field_validator("batch_size")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value < 1 or value.bit_count() != 1:
            raise ValueError(f"{value} is not a power of two.\nUse 64, for example.")
        return value

    @field_validator("crop")
    @classmethod
    def _no_random_crop(cls, value: str) -> str:
        if value == "random":
            raise PydanticCustomError("crop", "random crops are not there yet.")
        return value

    @model_validator(mode="after")
    def _fits_devices(self) -> "Train":
        if self.batch_size % self.devices:
            size = KeyedError(("batch_size",), f"{self.batch_size} is no multiple of {self.devices} devices.")
            raise KeyedError(("warmup",), "is needed for many devices.", size)
        return self


class Schema(Block):
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    name: Annotated[str, Field(pattern="^[a-z-]{1,20}$", description="lowercase letters and '-', 20 at most")]
    layers: Annotated[
        tuple[Annotated[Dense | Dropout, Field(discriminator="type")], ...], Field(min_length=1, max_length=3)
    ]
    train: Train
    weights: dict[str, float] = Field(default_factory=dict)
    note: Annotated[str, Field(max_length=5)] = ""


VALID = """\
# a comment
seed: 1
name: first-run
layers:
  - type: dense
    units: 64
  - {type: dropout, rate: 0.5}
train:
  epochs: 3         # passes
  batch_size: 32
  optimizer:
    name: adam
    learning_rate: 1e-3
  shuffle: true
"""
NAMES = "Allowed: seed, name, layers, train, weights, note."


def refusal(content: str | bytes, schema: type[Block] = Schema) -> str:
    """The faults of `content`, without the file name, which is checked to stand before each."""
    with pytest.raises(ParamsError) as refused:
        parse_yaml(content.encode() if isinstance(content, str) else content, "params.yaml", schema)
    return faults_of(refused.value)


def faults_of(error: ParamsError) -> str:
    *faults, last = str(error).split("\n")
    assert last == "Nothing was changed."
    assert faults
    for fault in faults:
        assert re.fullmatch(r"params\.yaml:[1-9]\d*:[1-9]\d*: [^\x00-\x1f\x7f-\x9f]+", fault)
    return "\n".join(fault.removeprefix("params.yaml:") for fault in faults)


def edited(old: str, new: str) -> str:
    assert VALID.count(old) == 1
    return VALID.replace(old, new)


def test_valid_file_is_typed_and_frozen() -> None:
    params = parse_yaml(VALID.encode(), "params.yaml", Schema)
    assert params.train.optimizer.learning_rate == 0.001
    assert params.layers == (Dense(type="dense", units=64), Dropout(type="dropout", rate=0.5))
    assert params.train.precision is Precision.SINGLE
    with pytest.raises(ValidationError):
        params.seed = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "content",
    [
        VALID.replace("\n", "\r\n"),
        VALID.replace("\n", "\r"),
        VALID.replace("\n", "  \n"),
        "\ufeff" + VALID,
        "---\n" + VALID + "...\n",
        VALID.replace("first-run", "'first-run'"),
        VALID.replace("seed:", '"seed":'),
        VALID.rstrip("\n"),
        json.dumps(YAML(typ="safe", pure=True).load(VALID)),
    ],
    ids=["CRLF", "CR", "trailing spaces", "BOM", "document marks", "quotes", "quoted key", "no end", "JSON"],
)
def test_other_spellings_are_the_same(content: str) -> None:
    assert parse_yaml(content.encode(), "params.yaml", Schema) == parse_yaml(VALID.encode(), "params.yaml", Schema)


@pytest.mark.parametrize("rate", ["1e-3", "1E-3", "0.1e-2", "1.0e-03", "+.001", ".1e-2", "0.001"])
def test_floats_in_every_notation(rate: str) -> None:
    params = parse_yaml(edited("1e-3", rate).encode(), "params.yaml", Schema)
    assert params.train.optimizer.learning_rate == 0.001


def test_all_faults_at_once_in_the_order_of_the_file() -> None:
    content = (
        VALID.replace("seed: 1", "seed: 010").replace("adam", "adm").replace("0.5", "1.5").replace("epochs", "epoch")
    )
    with pytest.raises(ParamsError) as refused:
        parse_yaml(content.encode(), "conf/params.yaml", Schema)
    assert str(refused.value) == (
        "conf/params.yaml:2:7: seed: 010 is an ambiguous number: YAML readers differ on its base. "
        "Write a decimal without leading 0.\n"
        "conf/params.yaml:7:27: layers[1].rate: 1.5 is out of range. Expected: 0 <= value < 1.\n"
        "conf/params.yaml:8:1: train.epochs: missing. Add it: a whole number, 1 <= value.\n"
        "conf/params.yaml:9:3: train.epoch: this key is not known here. Allowed: epochs, batch_size, "
        "optimizer, shuffle, warmup, workers, precision, devices, window, crop. Did you mean 'epochs'?\n"
        "conf/params.yaml:12:11: train.optimizer.name: 'adm' is not known. "
        "Allowed: adam, adamw, rmsprop, sgd. Did you mean 'adam'?\n"
        "Nothing was changed."
    )
    assert refused.value.exit_code == 2


SCHEMA_FAULTS = {
    # ranges
    ("1e-3", "0"): "13:20: train.optimizer.learning_rate: 0 is out of range. Expected: 0 < value <= 1.",
    ("1e-3", "1e9"): "13:20: train.optimizer.learning_rate: 1e9 is out of range. Expected: 0 < value <= 1.",
    ("0.5", "1"): "7:27: layers[1].rate: 1 is out of range. Expected: 0 <= value < 1.",
    ("epochs: 3", "epochs: 0"): "9:11: train.epochs: 0 is out of range. Expected: 1 <= value.",
    ("seed: 1", "seed: -1"): "2:7: seed: -1 is out of range. Expected: 0 <= value <= 4294967295.",
    ("seed: 1", "seed: 4294967296"): ("2:7: seed: 4294967296 is out of range. Expected: 0 <= value <= 4294967295."),
    ("shuffle: true", "shuffle: true\n  warmup: 15"): (
        "15:11: train.warmup: 15 is out of range. Expected: value <= 10, a multiple of 5."
    ),
    ("shuffle: true", "shuffle: true\n  warmup: 4"): (
        "15:11: train.warmup: 4 is out of range. Expected: value <= 10, a multiple of 5."
    ),
    # types
    ("seed: 1", "seed: 1.5"): "2:7: seed: 1.5 is a decimal number. A whole number is expected.",
    ("seed: 1", "seed: 1e3"): "2:7: seed: 1e3 is a decimal number. A whole number is expected: write 1000.",
    ("seed: 1", "seed: true"): "2:7: seed: true is a boolean. A whole number is expected.",
    (
        "seed: 1",
        "seed: '1'",
    ): "2:7: seed: '1' is a string. A whole number is expected: write 1 without quotes.",
    ("seed: 1", "seed: abc"): "2:7: seed: 'abc' is a string. A whole number is expected.",
    ("seed: 1", "seed: [1]"): "2:7: seed: a list is given. A whole number is expected.",
    ("seed: 1", "seed: {a: 1}"): "2:1: seed: a block is given. A whole number is expected.",
    ("1e-3", '"1e-3"'): (
        "13:20: train.optimizer.learning_rate: '1e-3' is a string. A number is expected: write 1e-3 without quotes."
    ),
    ("1e-3", "abc"): "13:20: train.optimizer.learning_rate: 'abc' is a string. A number is expected.",
    ("1e-3", "false"): "13:20: train.optimizer.learning_rate: false is a boolean. A number is expected.",
    ("shuffle: true", "shuffle: 1"): "14:12: train.shuffle: 1 is a whole number. True or false is expected.",
    ("shuffle: true", "shuffle: 'no'"): "14:12: train.shuffle: 'no' is a string. True or false is expected.",
    ("first-run", "3"): ("3:7: name: 3 is a whole number. A string is expected: write '3'."),
    # lists
    ("  shuffle", "  window: 3\n  shuffle"): (
        "14:11: train.window: 3 is a whole number. A list is expected: write [3]."
    ),
    ("  shuffle", "  window: {a: 3}\n  shuffle"): (
        "14:3: train.window: a block is given. A list is expected: begin each item with '- '."
    ),
    ("  shuffle", "  window: [3]\n  shuffle"): "14:3: train.window[1]: missing. Add it: a whole number.",
    ("  shuffle", "  window: [1, 2, 3]\n  shuffle"): (
        "14:11: train.window: 3 is not the right number of items. Expected: 2 <= items <= 2."
    ),
    ("  shuffle", "  window: [1, x]\n  shuffle"): (
        "14:15: train.window[1]: 'x' is a string. A whole number is expected."
    ),
    ("seed: 1", "seed: 1\nnote: abcdef"): (
        "3:7: note: 6 is not the right number of characters. Expected: characters <= 5."
    ),
    # choices
    ("name: adam", "name: Adam"): (
        "12:11: train.optimizer.name: 'Adam' is not known. Allowed: adam, adamw, rmsprop, sgd. Did you mean 'adam'?"
    ),
    ("name: adam", "name: xyz"): (
        "12:11: train.optimizer.name: 'xyz' is not known. Allowed: adam, adamw, rmsprop, sgd."
    ),
    ("name: adam", "name: 3"): ("12:11: train.optimizer.name: 3 is not known. Allowed: adam, adamw, rmsprop, sgd."),
    ("name: adam", "name: [adam]"): (
        "12:11: train.optimizer.name: a list is given. One of adam, adamw, rmsprop, sgd is expected."
    ),
    ("  shuffle", "  precision: float16\n  shuffle"): (
        "14:14: train.precision: 'float16' is not known. Allowed: float32, mixed. Did you mean 'float32'?"
    ),
    ("  shuffle", "  workers: all\n  shuffle"): (
        "14:12: train.workers: 'all' is not accepted. Expected: a whole number, 1 <= value or auto."
    ),
    ("type: dense", "type: dnse"): (
        "5:11: layers[0].type: 'dnse' is not known. Allowed: dense, dropout. Did you mean 'dense'?"
    ),
    ("type: dense\n    units", "units"): "5:5: layers[0].type: missing. Add it: one of dense, dropout.",
    ("type: dense\n    units: 64", "dense"): (
        "5:5: layers[0]: 'dense' is a string. A block with the key type is expected."
    ),
    (
        "units: 64",
        "units: 6.4",
    ): "6:12: layers[0].units: 6.4 is a decimal number. A whole number is expected.",
    ("units: 64", "units: 64\n    dense: 1"): (
        "7:5: layers[0].dense: this key is not known here. Allowed: type, units."
    ),
    ("0.5}", "0.5, units: 1}"): "7:32: layers[1].units: this key is not known here. Allowed: type, rate.",
    ("  - {type: dropout, rate: 0.5}", "  - {type: dropout}"): (
        "7:5: layers[1].rate: missing. Add it: a number, 0 <= value < 1."
    ),
    # keys
    ("learning_rate", "learnin_rate"): (
        "11:3: train.optimizer.learning_rate: missing. Add it: a number, 0 < value <= 1.\n"
        "13:5: train.optimizer.learnin_rate: this key is not known here. Allowed: name, learning_rate. "
        "Did you mean 'learning_rate'?"
    ),
    ("seed: 1", "Seed: 1"): (
        "2:1: seed: missing. Add it: a whole number, 0 <= value <= 4294967295.\n"
        f"2:1: Seed: this key is not known here. {NAMES} Did you mean 'seed'?"
    ),
    ("seed: 1", "seed: 1\nshuffle: true"): (f"3:1: shuffle: this key is not known here. {NAMES} It belongs in train."),
    ("name: adam", "name: adam\n    seed: 3"): (
        "13:5: train.optimizer.seed: this key is not known here. Allowed: name, learning_rate. "
        "It belongs at the top level."
    ),
    ("seed: 1", "seed: 1\nweights: {a: 1, b: x}"): ("3:20: weights.b: 'x' is a string. A number is expected."),
    ("seed: 1", "seed: 1\n'a b\\n': 1"): f"3:1: 'a b\\\\n': this key is not known here. {NAMES}",
    ("seed: 1", "seed: 1\nAPI_KEY: x"): (
        "3:1: API_KEY: this key is not known, and looks like a secret. Params are committed to git "
        "and logged with every run: delete it, pass secrets by the environment."
    ),
    # strings
    ("first-run", "$(id); rm -rf x"): (
        "3:7: name: '$(id); rm -rf x' does not fit. Expected: lowercase letters and '-', 20 at most."
    ),
    ("first-run", "../run"): ("3:7: name: '../run' does not fit. Expected: lowercase letters and '-', 20 at most."),
    ("first-run", '"first\\nrun"'): (
        "3:7: name: 'first\\nrun' does not fit. Expected: lowercase letters and '-', 20 at most."
    ),
    ("first-run", "x" * 5000): (
        f"3:7: name: '{'x' * 59}…' does not fit. Expected: lowercase letters and '-', 20 at most."
    ),
    # the schema's own validators
    ("batch_size: 32", "batch_size: 48"): ("10:15: train.batch_size: 48 is not a power of two. Use 64, for example."),
    ("  shuffle", "  crop: random\n  shuffle"): "14:9: train.crop: random crops are not there yet.",
    ("shuffle: true", "shuffle: true\n  devices: 3"): (
        "8:1: train.warmup: is needed for many devices.\n10:15: train.batch_size: 32 is no multiple of 3 devices."
    ),
}


@pytest.mark.parametrize(("old", "new", "faults"), [(*edit, faults) for edit, faults in SCHEMA_FAULTS.items()])
def test_what_the_schema_refuses(old: str, new: str, faults: str) -> None:
    assert refusal(edited(old, new)) == faults


BASE = "is an ambiguous number: YAML readers differ on its base. Write a decimal without leading 0."
POINT = "is not a number to YAML. Write '.' as the decimal point, and nothing between thousands."
AMBIGUOUS = {
    "yes": "yes is text to some YAML readers, true or false to others. Write true, false or 'yes'.",
    "No": "No is text to some YAML readers, true or false to others. Write true, false or 'No'.",
    "ON": "ON is text to some YAML readers, true or false to others. Write true, false or 'ON'.",
    "off": "off is text to some YAML readers, true or false to others. Write true, false or 'off'.",
    "y": "y is text to some YAML readers, true or false to others. Write true, false or 'y'.",
    "N": "N is text to some YAML readers, true or false to others. Write true, false or 'N'.",
    **{number: f"{number} {BASE}" for number in ("010", "-0777", "08", "0o17", "0x1f", "0b11")},
    "12:30:45": "12:30:45 is an ambiguous number: in base 60 to some YAML readers. Write a decimal one, or '12:30:45'.",
    "1_000": "1_000 is an ambiguous number: some YAML readers do not allow '_' in it. Leave '_' out.",
    "1__0": "1__0 is an ambiguous number: some YAML readers do not allow '_' in it. Leave '_' out.",
    "1_0.5": "1_0.5 is an ambiguous number: some YAML readers do not allow '_' in it. Leave '_' out.",
    "0,001": f"0,001 {POINT}",
    "1,000,000": f"1,000,000 {POINT}",
    ".nan": ".nan is not a finite number. Write a finite one.",
    "-.Inf": "-.Inf is not a finite number. Write a finite one.",
    "1e400": "1e400 is too large: it would be read as infinity. Write a smaller number.",
    "-1e-400": "-1e-400 is too small: it would be read as 0. Write 0, or a larger number.",
    "9" * 5000: f"{'9' * 18}… is too large: a whole number has 18 characters at most.",
    ".5e3": ".5e3 is text to some YAML readers. Write a digit before the decimal point.",
    "2024-12-31": "2024-12-31 is a date. Write '2024-12-31', in quotes.",
    "=": "= has a meaning of its own in YAML. Write '=', in quotes.",
    "<<": "<< has a meaning of its own in YAML. Write '<<', in quotes.",
    "null": "no value. Write one, or delete the line if the key may be left out.",
    "~": "no value. Write one, or delete the line if the key may be left out.",
    "http://me:pw@host/": "an address with a password or token in it. Params are committed to git and logged "
    "with every run: delete it, pass secrets by the environment.",
    '"\\x1b[2J"': "the invisible character U+001B (a control character). Delete it.",
    '"\\ud800"': "the invisible character U+D800 (a control character). Delete it.",
    "&a 1": "an anchor ('&'). Anchors are refused: delete it.",
    "*a": "an alias ('*') of another value. Aliases are refused: write the value itself.",
    "!!python/object/apply:os.system [x]": "a tag ('!'). Tags are refused: delete it.",
    "!include x": "a tag ('!'). Tags are refused: delete it.",
    "!!str 5": "a tag ('!'). Tags are refused: delete it.",
}


@pytest.mark.parametrize("scalar", AMBIGUOUS)
def test_scalars_that_readers_read_differently(scalar: str) -> None:
    assert refusal(edited("1e-3", scalar)) == f"13:20: train.optimizer.learning_rate: {AMBIGUOUS[scalar]}"


@pytest.mark.parametrize("scalar", ["yes", "010", "12:30:45", "0,001", ".nan", "2024-12-31", "null", "=", "<<"])
def test_in_quotes_they_are_text(scalar: str) -> None:
    root, faults = parse_nodes(f"a: '{scalar}'".encode())
    assert not faults
    assert root
    assert root.plain() == {"a": scalar}


COLON = (
    "a ':' where no key can stand. Look for a missing ':' in the line above, too deep an indentation, "
    "or a text with ': ' in it that needs quotes."
)
ALIGN = (
    "this does not continue what stands above it. Align it with its neighbours, write one key a line, "
    "and put quotes around the whole of a text."
)
YAML_FAULTS = {
    "empty": ("", "1:1: the file holds no params. A block with the keys seed, name is expected."),
    "comment only": ("# x\n", "1:1: the file holds no params. A block with the keys seed, name is expected."),
    "--- only": ("---\n", "2:1: the file holds no params. A block with the keys seed, name is expected."),
    "null": ("null\n", "1:1: no value. Write one, or delete the line if the key may be left out."),
    "text": ("abc\n", "1:1: 'abc' is a string. A block with the keys seed, name is expected."),
    "list": ("- seed: 1\n", "1:1: a list is given. A block with the keys seed, name is expected."),
    "number": ("3\n", "1:1: 3 is a whole number. A block with the keys seed, name is expected."),
    "no value": (
        "seed:\nname: a\n",
        "1:1: seed: no value. Write one, or delete the line if the key may be left out.",
    ),
    "no space": ("seed:1\n", "1:1: 'seed:1' is a string. A block with the keys seed, name is expected."),
    "duplicate key": (
        "seed: 1\nname: a\nseed: 2\n",
        "3:1: seed: this key stands in line 1 already. Keep one of the two.",
    ),
    "tabs": (
        "seed: 1\n\tname: a\n  \t# x\n",
        "2:1: a tab in the indentation, where YAML allows spaces only. Use spaces.\n"
        "3:3: a tab in the indentation, where YAML allows spaces only. Use spaces.",
    ),
    "tab before a value": ("seed:\t1\n", "1:6: a tab, where YAML allows spaces only. Use spaces."),
    "conflict": (
        "<<<<<<< HEAD\nseed: 1\n=======\nseed: 2\n>>>>>>> other\nname: a\n",
        "1:1: a git conflict marker, '<<<<<<<'. Keep one side of the conflict and delete its markers.\n"
        "3:1: a git conflict marker, '======='. Keep one side of the conflict and delete its markers.\n"
        "5:1: a git conflict marker, '>>>>>>>'. Keep one side of the conflict and delete its markers.",
    ),
    "directive": ("%YAML 1.1\n---\nseed: 1\n", "1:1: a YAML directive, '%'. None is read: delete the line."),
    "two documents": (
        "seed: 1\nname: a\n---\nseed: 2\n",
        "3:1: a second YAML document begins here. One is expected: delete '---' or the rest.",
    ),
    "merge key": (
        "seed: 1\nname: a\n<<: {seed: 2}\n",
        "3:1: '<<': a merge key. Merging is refused: write the keys themselves.",
    ),
    "recursion": (
        "seed: 1\nname: &a [*a]\n",
        "2:7: name: an anchor ('&'). Anchors are refused: delete it.\n"
        "2:11: name[0]: an alias ('*') of another value. Aliases are refused: write the value itself.",
    ),
    "anchor at a key": (
        "&a seed: 1\nname: a\n",
        "1:1: seed: an anchor ('&'). Anchors are refused: delete it.",
    ),
    "number as key": (
        "seed: 1\nname: a\n010: 2\n",
        "3:1: 010: this key is no text to some YAML readers. Write a name in letters.",
    ),
    "on as key": (
        "seed: 1\nname: a\non: 2\n",
        "3:1: on: this key is no text to some YAML readers. Write a name in letters.",
    ),
    "no key": (
        "seed: 1\nname: a\n: 2\n",
        "3:1: '': this key is no text to some YAML readers. Write a name in letters.",
    ),
    "list as key": ("[a]: 1\n", "1:1: this key is a list or a block. Write 'name: value'."),
    "alias as key": (
        "*a : 1\n",
        "1:1: an alias ('*') of another value. Aliases are refused: write the value itself.",
    ),
    "invisible key": (
        '"\\u202e": 1\n',
        "1:1: '\\u202e': the invisible character U+202E (RIGHT-TO-LEFT OVERRIDE). Delete it.",
    ),
    "missing colon": ("seed: 1\nname\n", "2:1: this line has no ':' after its key. Write 'key: value'."),
    "two colons": (
        "seed: 1\nname: a: b\n",
        f"2:8: {COLON}",
    ),
    "indented too far": (
        "seed: 1\n  name: a\n",
        f"2:7: {COLON}",
    ),
    "indented unlike its neighbours": (
        "train:\n    seed: 1\n  name: a\n",
        f"3:3: {ALIGN}",
    ),
    "open quote": ("seed: 1\nname: 'a\n\n", "2:7: this quoted text has no end. Close its quote."),
    "open list": (
        "seed: [1, 2\nname: a\n",
        "1:7: this list has no end, or lacks a comma. Close '[' with ']'.",
    ),
    "open braces": (
        "seed: {a: 1\nname: a\n",
        "1:7: this block has no end, or lacks a comma. Close '{' with '}'.",
    ),
    "at sign": ("seed: @a\n", "1:7: this character cannot begin a value. Put text in quotes."),
    "comma": ("seed: ,\n", "1:7: a value is missing here. Write one, or put text in quotes."),
    "escape": (
        'name: "C:\\qux"\n',
        "1:11: an escape after '\\' that YAML does not know. Use single quotes, or '\\\\' for a backslash.",
    ),
    "escape without character": (
        'seed: 1\nname: "\\U00110000"\n',
        "2:1: an escape from here on names no character, such as '\\U00110000'. Use single quotes.",
    ),
    "list in a line": ("name: - a\n", "1:7: a '-' where no list can begin. Put it in a line of its own."),
    "after the end": (
        "- 1\nseed: 1\n",
        f"2:1: {ALIGN}",
    ),
    "a fault and then broken": (
        "seed: 010\nname: 'a\n",
        "1:7: seed: 010 is an ambiguous number: YAML readers differ on its base. "
        "Write a decimal without leading 0.\n"
        "2:7: this quoted text has no end. Close its quote.",
    ),
    "rare": ("seed: |x\n", "1:8: expected chomping or indentation indicators, but found 'x'."),
}


class Small(Block):
    seed: int
    name: str


@pytest.mark.parametrize(("content", "faults"), YAML_FAULTS.values(), ids=YAML_FAULTS)
def test_what_is_no_plain_yaml(content: str, faults: str) -> None:
    assert refusal(content, Small) == faults


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        ("seed: 1".encode("utf-16"), "1:1: this is UTF-16 text. UTF-8 is expected: save the file as UTF-8."),
        (
            "seed: 1".encode("utf-16-be"),
            "1:1: this is UTF-16 text. UTF-8 is expected: save the file as UTF-8.",
        ),
        (
            "# r\r\nname: é".encode("latin-1"),
            "2:7: the byte 0xe9 is not UTF-8; the text may be Latin-1. Save the file as UTF-8.",
        ),
        (b"seed: 1\nname: a\0b", "2:8: the invisible character U+0000 (a control character). Delete it."),
        (b"seed: 1 # \x1b[31m", "1:11: the invisible character U+001B (a control character). Delete it."),
        (
            "seed: 1 # \u202e".encode(),
            "1:11: the invisible character U+202E (RIGHT-TO-LEFT OVERRIDE). Delete it.",
        ),
        (
            "seed: 1\n\ufeffname: a".encode(),
            "2:1: the invisible character U+FEFF (ZERO WIDTH NO-BREAK SPACE). Delete it.",
        ),
        (b"#" * 65537, "1:1: larger than 64 KiB, which no params are. Remove what does not belong here."),
    ],
)
def test_what_is_no_plain_text(content: bytes, faults: str) -> None:
    assert refusal(content, Small) == faults


def test_64_kib_are_read() -> None:
    content = b"seed: 1\nname: a\n"
    assert parse_yaml(content + b"#" * (65536 - len(content)), "p", Small).seed == 1


DEEP = "nested deeper than 8 levels, which no params are. Take levels away."
BOMBS = {
    "brackets": (b"[" * 65000, f"1:9: {DEEP}"),
    "braces": (b"{a: " * 16000, f"1:33: {DEEP}"),
    "dashes": (b"- " * 32000, f"1:17: [0][0][0][0][0][0][0][0]: {DEEP}"),
    "indentation": (b"".join(b" " * n + b"a:\n" for n in range(350)), f"9:9: a.a.a.a.a.a.a.a: {DEEP}"),
    "questions": (b"? " * 32000, "1:3: this key is a list or a block. Write 'name: value'."),
}


@pytest.mark.parametrize(("content", "faults"), BOMBS.values(), ids=BOMBS)
def test_depth_bombs(content: bytes, faults: str) -> None:
    seconds = []
    for _ in range(3):  # the least counts: the others may be what another process took
        started = time.thread_time()
        assert refusal(content, Small) == faults
        seconds.append(time.thread_time() - started)
    assert min(seconds) < 0.05


def test_eight_levels_are_read() -> None:
    root, faults = parse_nodes(b"[" * 8 + b"]" * 8)
    assert not faults
    assert root
    assert root.plain() == [[[[[[[[]]]]]]]]


def test_alias_bomb() -> None:
    levels = "bcdefghij"
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("a" + levels, levels, strict=False)
    )
    tracemalloc.start()
    started = time.thread_time()
    faults = refusal(bomb, Small).split("\n")
    seconds, (_, peak) = time.thread_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "1:4: a: an anchor ('&'). Anchors are refused: delete it." in faults
    assert len(faults) == 31
    assert faults[-1].endswith(": more from here on. Mend the above first.")
    assert seconds < 0.05
    assert peak < 10 << 20


def test_a_key_that_looks_like_a_union_tag() -> None:
    assert refusal(edited("units: 64", "units: x\n    dense: {units: 1}")) == (
        "6:12: layers[0].units: 'x' is a string. A whole number is expected.\n"
        "7:5: layers[0].dense: this key is not known here. Allowed: type, units."
    )


def test_a_key_of_a_union_branch_is_sent_there() -> None:
    class Net(Block):
        layer: Annotated[Dense | Dropout, Field(discriminator="type")]

    assert refusal("layer: {type: dense, units: 1}\nrate: 0.5\n", Net) == (
        "2:1: rate: this key is not known here. Allowed: layer. It belongs in layer."
    )


def test_an_empty_list_item_is_reported_in_its_line() -> None:
    faults = refusal("seed:\n  - 1\n  -\n  - 3\nname: a\n", Small).split("\n")
    assert faults[1] == "3:4: seed[1]: no value. Write one, or delete the line if the key may be left out."


def test_load_names_the_file_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conf").mkdir()
    Path("conf/params.yaml").write_text(VALID)
    assert load_yaml(Path("conf/params.yaml"), Schema).seed == 1
    Path("conf/params.yaml").write_text("seed: x\nname: a\n")
    with pytest.raises(ParamsError, match=r"^conf/params\.yaml:1:7: seed: 'x' is a string\."):
        load_yaml(Path("conf/params.yaml"), Small)


def file_refusal(path: str) -> str:
    with pytest.raises(ParamsError) as refused:
        load_yaml(Path(path), Small)
    first, last = str(refused.value).split("\n")
    assert last == "Nothing was changed."
    return first


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("dangling").symlink_to("gone.yaml")
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe")
    assert file_refusal("no.yaml") == (
        "no.yaml: no such file. Run the command where it is, or restore it: `git restore no.yaml`."
    )
    assert file_refusal("folder") == "folder: this is a directory. A YAML file is expected: name one."
    assert file_refusal("pipe") == "pipe: this is no regular file. A YAML file is expected: name one."
    assert file_refusal("dangling") == (
        "dangling: a link to 'gone.yaml', where no file is. Restore that file, or replace the link."
    )
    assert file_refusal("loop") == (
        "loop: cannot be read: Too many levels of symbolic links. Expected: a file you may read, see `ls -l loop`."
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(VALID)
    path.chmod(0)
    assert file_refusal(str(path)) == (
        f"{path}: cannot be read: Permission denied. Expected: a file you may read, see `ls -l {path}`."
    )


SCALARS = st.text(alphabet="0123456789._-+eExob:,ynTrue~<=! '", min_size=1, max_size=8)


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(SCALARS)
@pytest.mark.slow
def test_what_is_read_is_what_dvc_reads(scalar: str) -> None:
    content = f"a: {scalar}\n"
    root, faults = parse_nodes(content.encode())
    if root is not None and not faults:
        theirs = YAML(typ="safe", pure=True).load(content)
        assert repr(root.plain()) == repr(theirs)  # repr: 1 is not 1.0, nor true


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_floats_survive_to_the_last_bit(value: float) -> None:
    class Number(Block):
        value: float

    assert parse_yaml(f"value: {value!r}".encode(), "p", Number).value == value


@pytest.mark.parametrize(
    ("count", "seed"), [(200, 1), pytest.param(2000, 2, marks=pytest.mark.slow)], ids=["200", "2000"]
)
def test_mutants_are_read_as_dvc_reads_them_or_refused(count: int, seed: int) -> None:
    valid = 0
    for mutant in mutants(VALID.encode(), count, seed):
        started = time.thread_time()
        try:
            parse_yaml(mutant, "params.yaml", Schema)
        except ParamsError as error:
            faults_of(error)
        else:
            valid += 1
            root, _ = parse_nodes(mutant)
            assert root
            assert root.plain() == YAML(typ="safe", pure=True).load(mutant)
        assert time.thread_time() - started < 1
    assert count / 50 < valid < count / 2


def test_mutants_repeat() -> None:
    assert list(mutants(b"a: 1\n", 50, seed=3)) == list(mutants(b"a: 1\n", 50, seed=3))
    assert list(mutants(b"a: 1\n", 50, seed=3)) != list(mutants(b"a: 1\n", 50, seed=4))


def test_import_is_light() -> None:
    code = "import sys, keras_pipeline.strict_yaml.reader; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pydantic" in loaded
    assert not {"tensorflow", "keras", "mlflow", "numpy", "dvc"} & set(loaded)
