"""What is edited while DVC runs a stage is noticed at its end."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from keras_pipeline.checks import unchanged_inputs
from keras_pipeline.core.errors import BusyError
from places import ROOT, SHIPPED


@pytest.fixture(autouse=True)
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The params, the stages and the code of this checkout, in the current folder, as DVC runs a stage there."""
    shutil.copy(SHIPPED, tmp_path / "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train")


def stage(name: str, meanwhile: Callable[[], object]) -> None:
    with unchanged_inputs.require_unchanged_inputs(name):
        meanwhile()


def edit(old: str, new: str) -> Callable[[], object]:
    def replace() -> None:
        text = Path("params.yaml").read_text()
        assert text.count(old) == 1
        Path("params.yaml").write_text(text.replace(old, new))

    return replace


def code(path: str) -> Callable[[], object]:
    return lambda: Path("src/keras_pipeline", path).write_text("# edited\n")


@pytest.mark.parametrize(
    ("meanwhile", "named"),
    [
        (edit("\nseed: ", "\nseed: 7"), "params.yaml: seed"),
        (edit("  hidden_units:\n  - 512", "  hidden_units:\n  - 513"), "params.yaml: model.hidden_units"),
        (edit("    learning_rate: ", "    learning_rate: 1"), "train.optimizer.learning_rate"),
        (lambda: Path("params.yaml").write_text("model: ["), "and 30 more"),
        (lambda: Path("params.yaml").unlink(), "and 30 more"),
        (code("training/fit.py"), "src/keras_pipeline/training/fit.py changed while"),
        (code("stages/train.py"), "src/keras_pipeline/stages/train.py"),
        (code("training/new.py"), "src/keras_pipeline/training/new.py"),
        (lambda: Path("src/keras_pipeline/training/fit.py").unlink(), "src/keras_pipeline/training/fit.py"),
    ],
)
def test_what_the_stage_depends_on(meanwhile: Callable[[], object], named: str) -> None:
    with pytest.raises(BusyError) as refused:
        stage("train", meanwhile)
    assert named.replace("and 30 more", " more changed while this stage ran") in str(refused.value)
    assert refused.value.exit_code == 75
    assert "Run `dvc repro` again" in str(refused.value)


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda: None,
        edit("calibration_bins: ", "calibration_bins: 1"),  # of another stage
        edit("\nseed: ", "\n# a word\nseed: "),
        code("tracking/store.py"),
        lambda: Path("src/keras_pipeline/training/fit.py").touch(),
    ],
)
def test_what_it_does_not(meanwhile: Callable[[], object]) -> None:
    stage("train", meanwhile)


def test_without_dvc_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE")
    Path("dvc.yaml").unlink()
    stage("train", lambda: Path("params.yaml").unlink())


def test_a_fault_of_the_stage_comes_first() -> None:
    def fail() -> None:
        code("training/fit.py")()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stage("train", fail)


def test_every_stage_of_dvc_is_looked_at() -> None:
    from ruamel.yaml import YAML

    stages = YAML(typ="safe", pure=True).load(Path("dvc.yaml").read_text())["stages"]
    for name, row in stages.items():
        found = unchanged_inputs._inputs(name)
        if row.get("always_changed"):
            assert found == {}
            continue
        assert None not in found.values()
        assert {key.partition(": ")[2].partition(".")[0] for key in found if key.startswith("params.yaml")} == {
            one.partition(".")[0] for one in row["params"]
        }
        assert f"src/keras_pipeline/stages/{name}.py" in found
