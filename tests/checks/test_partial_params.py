"""A partial params file laid over params.yaml: checked as a whole, and only its values change."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from keras_pipeline.checks.params import load_params
from keras_pipeline.checks.partial_params import lay_over
from keras_pipeline.cli import main
from keras_pipeline.config.params import flatten
from keras_pipeline.core.errors import ParamsError
from places import ROOT, SHIPPED

EXAMPLES = sorted(ROOT.glob("examples/*.yaml"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_bytes(SHIPPED.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def use(partial: str, *options: str) -> int:
    Path("p.yaml").write_text(partial)
    return main.main(["params", "use", "p.yaml", *options])


def leaves(block: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in block.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_what_differs_from_the_shipped_params(path: Path, place: Path) -> None:
    shipped = dict(flatten(load_params(SHIPPED)))
    own = leaves(YAML(typ="safe", pure=True).load(path.read_text()))
    assert main.main(["params", "use", str(path)]) == 0
    made = dict(flatten(load_params(place / "params.yaml")))
    assert {key for key in made if made[key] != shipped[key]} == own.keys()
    assert list(made) == list(shipped)
    assert f"#   keras-pipeline params use examples/{path.name} && dvc repro\n" in path.read_text()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_nothing_but_its_values_is_touched(path: Path) -> None:
    before, after = lay_over(path, SHIPPED)
    assert re.findall("#.*", after) == re.findall("#.*", before)
    rest = [re.sub(r"(?m)^( *[a-z0-9_]+:).*|^ *- .*\n", r"\1", text) for text in (before, after)]
    assert rest[0] == rest[1]
    there, now = (set(re.sub(r"(?m)^ *- .*\n", "", text).splitlines()) for text in (before, after))
    own = leaves(YAML(typ="safe", pure=True).load(path.read_text()))
    assert {line.partition(":")[0].strip() for line in there - now} <= {key.rpartition(".")[2] for key in own}


def test_a_diff_is_shown_and_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = SHIPPED.read_text()
    assert use("train:\n  epochs: 3\n", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert re.search(r"(?m)^-  epochs: 20 +# 1", shown)
    assert re.search(r"(?m)^\+  epochs: 3 +# 1", shown)
    assert shown.endswith("params.yaml: nothing was changed (--dry-run)\n")
    assert (place / "params.yaml").read_text() == before
    assert use("train:\n  epochs: 3\n") == 0
    assert capsys.readouterr().out.startswith(shown.rpartition("params.yaml: ")[0])
    assert (place / "params.yaml").read_text() == re.sub(r"(?m)^(  epochs: )20", r"\g<1>3 ", before)
    assert use("train: {epochs: 3}\n") == 0
    assert capsys.readouterr().out == "params.yaml: has the values of p.yaml already\n"


@pytest.mark.parametrize(
    ("partial", "expected"),
    [
        ("train:\n  epoch: 3\n", "p.yaml:2:3: train.epoch: this key is not known here. Allowed: epochs, "),
        ("train:\n  epochs: 0\n", "p.yaml:2:11: train.epochs: 0 is out of range. Expected: 1 <= value <= 10000."),
        ("train.epochs: 3\n", "p.yaml:1:1: 'train.epochs': this key is not known here. Allowed: seed, "),
        ("model: 4\n", "p.yaml:1:8: model: 4 is a whole number. A block with the keys architecture, "),
        ("model:\n", "p.yaml:1:1: model: no value."),
        ("seed: &a 4\n", "p.yaml:1:7: seed: an anchor"),
        ("", "p.yaml:1:1: no values. Expected: some of params.yaml's, in the same blocks, such as train: "),
        ("- 1\n", "p.yaml:1:1: no values."),
        ("train: {epochs: 1}\n", r"params.yaml:\d+:\d+: train.schedule.warmup_epochs: 1 leaves .* \(with p.yaml\)"),
        ("fetch: {dataset: line}\ntrain: {augmentation: {shift: 1}}\n", "p.yaml:2:24: train.augmentation: images are"),
        ("train: {optimizer: {momentum: 0.9}}\n", "p.yaml:1:21: train.optimizer.momentum: this key is not known"),
        ("train: {optimizer: {name: sdg}}\n", "p.yaml:1:27: train.optimizer.name: 'sdg' is not known. Allowed: "),
    ],
)
def test_a_fault_is_told_where_it_stands(
    partial: str, expected: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert use(partial) == 2
    said = capsys.readouterr().err
    assert re.search(expected if "\\" in expected else re.escape(expected), said), said
    assert "Nothing was changed.\n" in said
    assert (place / "params.yaml").read_bytes() == SHIPPED.read_bytes()


def test_a_fault_of_params_yaml_that_it_mends_is_no_fault(place: Path) -> None:
    (place / "params.yaml").write_text(SHIPPED.read_text().replace("epochs: 20 ", "epochs: -2 "))
    assert use("train: {epochs: 5}\n") == 0
    assert load_params(place / "params.yaml").train.epochs == 5


def test_an_argument_of_the_optimizer_is_added_and_one_of_another_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert use("train:\n  optimizer:\n    beta_1: 0.8\n") == 0
    assert "learning_rate: 0.003      # above" in (place / "params.yaml").read_text().partition("    beta_1: 0.8\n")[0]
    assert use("train: {optimizer: {name: sgd}}\n") == 2
    assert re.search(r"params.yaml:\d+:5: train.optimizer.beta_1: this key is not known .*\(with p.yaml\)",
                     capsys.readouterr().err)  # fmt: skip


def test_a_layout_that_cannot_be_edited_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SHIPPED.read_text()
    (place / "params.yaml").write_text(re.sub(r"(?m)^seed: 1 .*", "? seed  # a:\n: 1", text))
    load_params(place / "params.yaml")
    assert use("seed: 2\n") == 2
    assert "params.yaml:1:1: is written in a way in which single values cannot be" in capsys.readouterr().err
    (place / "params.yaml").write_text(re.sub(r"  experiment: .*", "  experiment: |-\n    keras-pipeline", text))
    assert use("tracking: {experiment: other}\n") == 0
    assert load_params(place / "params.yaml").tracking.experiment == "other"


def test_without_a_file_the_examples_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["params", "use"]) == 2
    assert "params use: no file. Expected: one with some of params.yaml's values" in capsys.readouterr().err


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ParamsError, match=r"nowhere\.yaml: no such file"):
        lay_over(Path("nowhere.yaml"), SHIPPED)
