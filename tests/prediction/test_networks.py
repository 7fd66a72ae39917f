"""Which network is asked, and that its record is enough to build it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluated_project import Project
from keras_pipeline.core import files
from keras_pipeline.core.errors import MachineError, ModelFileError, ParamsError
from keras_pipeline.prediction.networks import find_network, recorded_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    changes = {"model.architecture": "layers", "model.layers": [{"layer": "Flatten"}, {"layer": "Dense", "units": 3}]}
    return Project(tmp_path_factory.mktemp("project"), changes)


@pytest.fixture
def folder(made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made.models, tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "models"


def change(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "run.json").read_text())
    files.write_json(folder / "run.json", record | changes)


def test_the_project_s_own_network_and_that_of_another_folder(folder: Path, made: Project) -> None:
    for wanted in (None, str(folder), str(folder.parent)):
        with find_network(wanted) as found:
            assert found.weights.samefile(folder / "model.keras")
            assert recorded_model(found.record, found.name).model_dump() == made.params.model.model_dump()


def test_where_there_is_none_it_is_said_what_to_do(folder: Path, tmp_path: Path) -> None:
    (folder / "model.keras").unlink()
    with pytest.raises(ModelFileError, match=r"models/model\.keras: not there\. .*dvc repro train"), find_network(None):
        pass
    shutil.rmtree(folder)
    with (
        pytest.raises(ModelFileError, match=r"models: no trained network .*first `dvc repro`, or --model"),
        find_network(None),
    ):
        pass
    for wanted in ("models:/digits@champion", "mlp 11-28"):
        with pytest.raises(ParamsError, match="there is no store yet"), find_network(wanted):
            pass
    assert list(tmp_path.iterdir()) == []  # nothing was made


def test_another_network_than_the_record_names_is_not_asked(folder: Path) -> None:
    content = bytearray((folder / "model.keras").read_bytes())
    content[-30] ^= 1
    (folder / "model.keras").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"got the network .* one of them was exchanged"), find_network(None):
        pass


def test_a_run_without_a_network_is_told(folder: Path) -> None:
    change(folder, diverged="the loss is NaN", best_epoch=None)
    with (
        pytest.raises(ModelFileError, match=r"models: the training diverged"),
        find_network(None),
    ):
        pass


def test_what_records_of_earlier_versions_did_not_have_is_as_it_was_then(folder: Path, made: Project) -> None:
    record = json.loads((folder / "run.json").read_text())
    assert record["params"].pop("model.global_average_pooling") is False
    assert recorded_model(record, "models/").model_dump() == made.params.model.model_dump()


def test_a_network_of_another_version_is_told(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    record["params"]["model.architecture"] = 7
    with pytest.raises(ModelFileError, match=r"models/: the params in its record are not those of a network of this"):
        recorded_model(record, "models/")


def test_a_store_that_is_away_is_the_machine_s_fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(MachineError), find_network("models:/digits/1"):
        pass
