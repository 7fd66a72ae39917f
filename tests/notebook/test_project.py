"""The project from within Python: what stands in the files, as objects."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import finished_pipeline
import keras_pipeline
from keras_pipeline import Project
from keras_pipeline.core.errors import DataError, ParamsError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project") / "checkout"
    finished_pipeline.by_hand(root)
    return root


def test_it_is_found_from_a_folder_within(root: Path, tmp_path: Path) -> None:
    assert Project(root / "data" / "normalized").folder == root.resolve()
    with pytest.raises(ParamsError, match=r"neither it nor a folder above it has dvc\.yaml and params\.yaml"):
        Project(tmp_path)


def test_params_and_dataset(root: Path) -> None:
    project = Project(root)
    assert project.params.train.batch_size == 20
    assert project.class_names == [str(digit) for digit in range(10)]
    assert project.record["dataset"]["dataset"] == "digits"


def test_raw_is_what_was_scaled(root: Path) -> None:
    project = Project(root)
    raw, split = project.raw("train"), project.split("train")
    assert (raw.dtype, raw.shape) == (np.uint8, split.inputs.shape[:3])
    assert raw.max() == 255
    np.testing.assert_array_equal((raw[..., np.newaxis] / np.float32(255)).astype(np.float32), split.scaled())
    with pytest.raises(ParamsError, match=r"got 'tests'\. Expected: one of train, validation, test"):
        project.split("tests")


def test_results_are_data_frames(root: Path) -> None:
    project = Project(root)
    assert list(project.history().index) == [1, 2]
    answers = project.predictions()
    scores = json.loads((root / "reports" / "metrics.json").read_text())
    assert (answers.target == answers.predicted).mean() == scores["test/accuracy"]
    assert (answers.target_name == answers.target.astype(str)).all()
    assert answers.output.between(0, 1).all()
    metrics = project.metrics()
    assert metrics.value["test/accuracy"] == scores["test/accuracy"]
    assert not {name for name in metrics.index if name.endswith(("_low", "_high"))}


def test_figures_are_those_of_the_reports(root: Path) -> None:
    assert {"learning_curves", "confusion_matrix", "per_class", "reliability"} <= {*Project(root).figures()}


def test_a_missing_file_names_who_writes_it(tmp_path: Path) -> None:
    finished_pipeline.with_data(tmp_path / "checkout")
    with pytest.raises(DataError, match="dvc repro"):
        Project(tmp_path / "checkout").history()


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, keras_pipeline; assert not {'numpy', 'pydantic'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'Projekt'"):
        keras_pipeline.Projekt  # noqa: B018
