"""What a schema refuses is said with its place and what was expected."""

from typing import Annotated

import pytest
from pydantic import Field

from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml.faults import Block
from keras_pipeline.strict_yaml.reader import parse_yaml
from yaml_schema import NAMES, VALID, Dense, Dropout, Schema, Small, edited, refusal


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
    ("seed: 1", "seed: 1\nweights: 3"): "3:10: weights: 3 is a whole number. A block is expected.",
    ("  shuffle", f"  window: {'1' * 18}\n  shuffle"): (
        f"14:11: train.window: {'1' * 18} is a whole number. A list is expected: write [{'1' * 18}]."
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
    ("batch_size: 32", "batch_size: 32\n  name: adam"): (
        "11:3: train.name: this key is not known here. Allowed: epochs, batch_size, optimizer, shuffle, warmup, "
        "workers, precision, devices, window, crop. It belongs at the top level."
    ),
    ("seed: 1", "seed: 1\nlearning_rate: 1"): (
        f"3:1: learning_rate: this key is not known here. {NAMES} It belongs in train.optimizer."
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


def test_long_names_and_texts_are_cut() -> None:
    assert refusal(f"seed: 1\nname: a\n{'k' * 60}: 1\n{'l' * 61}: 1\n{'m ' * 40}: 1\n", Small).split("\n") == [
        f"3:1: {'k' * 60}: this key is not known here. Allowed: seed, name.",
        f"4:1: '{'l' * 60}': this key is not known here. Allowed: seed, name.",
        f"5:1: '{'m ' * 30}': this key is not known here. Allowed: seed, name.",
    ]
    text = "'" + "9" * 60 + "'"
    assert refusal(f"seed: {text}\nname: a\n", Small) == f"1:7: seed: {text} is a string. A whole number is expected."


def test_a_block_without_keys() -> None:
    class Nothing(Block):
        inner: Block

    assert refusal("inner: {a: 1}\n", Nothing) == "1:9: inner.a: this key is not known here. No key is."
