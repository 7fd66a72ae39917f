"""Fixtures of real workspaces in which the pipeline has run, and what it printed and left."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from keras_pipeline.core import files
from real_workspace import Workspace, origin

CURVES = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/learning_rate"}
FIGURES = {f"{name}.png" for name in ("confusion_matrix", "learning_curves", "per_class", "reliability")}
FIGURES |= {"worst_mistakes.png"}
TABLES = ("per_class", "calibration", "confusion")
REPORTS = (
    "dataset.html",
    "predictions.npz",
    "metrics.json",
    "intervals.json",
    *(f"tables/{name}.csv" for name in TABLES),
)
REPRODUCED = [
    "models/model.keras",
    "models/history.csv",
    *(f"reports/{name}" for name in REPORTS),
    *(f"reports/figures/{name}" for name in sorted(FIGURES)),
]
SMALL = {
    "seed": 1,
    "fetch__dataset": "mnist",
    "normalize__scaling": "unit",
    "model__architecture": "mlp",
    "model__hidden_units": [16],
    "model__dropout": 0.3,
    "train__epochs": 2,
    "train__batch_size": 32,  # as `make run` sets it for the digits
    "train__loss": "categorical_crossentropy",
    "train__optimizer": {"name": "adam", "learning_rate": 0.01},
    "train__schedule__name": "constant",
    "train__schedule__warmup_epochs": 0,
    "train__device_type": "cpu",
    "evaluate__calibration_bins": 15,
}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A repository of this checkout whose params ask for MNIST and a network that trains in a second."""
    made = origin(tmp_path_factory.mktemp("source") / "checkout")
    made.set(**SMALL)
    made.commit()
    return made


@pytest.fixture(scope="session")
def first_repro(source: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A clone with the digits after its first `dvc repro`, committed; and what that printed."""
    made = source.clone(tmp_path_factory.mktemp("finished") / "checkout")
    made.set(fetch__dataset="digits")
    output = made.good("dvc repro")
    made.commit()
    return made, output


@pytest.fixture(scope="session")
def finished(first_repro: tuple[Workspace, str]) -> Workspace:
    """For reading only."""
    return first_repro[0]


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """A copy of the finished workspace for one test: one run in MLflow, nothing to do."""
    made = finished.copy(tmp_path / "checkout")
    made.good("keras-pipeline relocate")
    yield made
    made.close()


def stages_run(output: str) -> list[str]:
    """But for `scan`, which looks every time."""
    return [stage for stage in re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE) if stage != "scan"]


def digests(workspace: Workspace, paths: list[str]) -> dict[str, str]:
    return {path: files.file_sha256(workspace.folder / path) for path in paths}
