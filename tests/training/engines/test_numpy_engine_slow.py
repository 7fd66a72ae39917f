"""Whole trainings in NumPy against those of Keras, interrupted ones too."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from numpy_params import PLAIN, SGD
from programs import run_program
from real_workspace import wait_until

pytestmark = pytest.mark.slow


# Against Keras.


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("from_scratch"))


class Trained:
    """A network trained in this process, with its rows and the weights after every step."""

    def __init__(self, normalized: Path, changes: dict[str, Any]) -> None:
        from keras_pipeline.core import json_files
        from keras_pipeline.data.splits import read_split
        from keras_pipeline.training import fit

        chosen = small.params({**PLAIN, "train.checkpoint_steps": 1, "train.batch_size": 32, **changes})
        statistics = json_files.parse_json((normalized / "statistics.json").read_bytes())
        splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
        training, progress, keeper = small.training(chosen, splits), fit.Progress(), small.Keeper()
        fit.fit_network(training, progress, observers=[keeper], quiet=True)
        self.steps = [
            flat([one for name, one in state.items() if name.startswith("trainable/")]) for state, _ in keeper.kept
        ]
        self.rows, self.weights = progress.history, flat(training.model.get_weights())


def flat(arrays: list[Any]) -> Any:
    return np.concatenate([one.ravel() for one in arrays])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"model.architecture": "softmax_regression"}, id="softmax_regression"),
        pytest.param(
            {"model.activation": "tanh", "model.l2": 1e-3, "model.hidden_units": [30, 20],
             "train.optimizer": {**SGD, "learning_rate": 0.02, "momentum": 0.9}, "train.schedule.name": "cosine"},
            id="two layers, tanh, L2, momentum, cosine",
        ),
        pytest.param(
            {"model.activation": "sigmoid", "model.output_activation": "sigmoid", "train.loss": "mean_squared_error",
             "train.optimizer": {**SGD, "learning_rate": 5.0}, "train.schedule.name": "exponential"},
            id="sigmoid, squares, exponential",
        ),
        pytest.param(
            {"train.loss": "mean_absolute_error", "train.optimizer": {**SGD, "learning_rate": 0.5},
             "train.schedule": {"name": "reduce_on_plateau", "warmup_epochs": 0, "decay_rate": 0.9, "factor": 0.5,
                                "patience": 1},
             "train.early_stopping": {"monitor": "val/accuracy", "patience": 1}},
            id="relu, absolute errors, plateau, early stopping",
        ),
    ],
)  # fmt: skip
def test_a_training_is_that_of_keras(normalized: Path, changes: dict[str, Any], fused: bool) -> None:
    changes = {"train.epochs": 5, "train.fused": fused, **changes}
    ours, theirs = (Trained(normalized, {**changes, "train.engine": engine}) for engine in ("numpy", "keras"))
    assert len(ours.steps) == len(theirs.steps) >= 41
    largest = np.abs(theirs.weights).max()
    for steps, within in ((1, 5e-7), (10, 2e-6), (len(ours.steps), 1e-4)):
        np.testing.assert_allclose(ours.steps[steps - 1], theirs.steps[steps - 1], rtol=0, atol=within * largest)
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=0, atol=1e-4 * largest)
    assert np.abs(ours.weights - ours.steps[0]).max() > 0.01  # it was a training
    for row, other in zip(ours.rows, theirs.rows, strict=True):
        assert list(row) == list(other)
        for name in ("epoch", "train/learning_rate"):
            assert row[name] == other[name]
        for name in ("train/loss", "val/loss"):
            assert row[name] == pytest.approx(other[name], rel=1e-4)
        for name in ("train/accuracy", "val/accuracy"):
            assert row[name] == pytest.approx(other[name], abs=2 / 144)


def test_it_goes_on_from_every_step_to_the_same_bytes(normalized: Path) -> None:
    changes = {
        **PLAIN,
        "train.optimizer": {**SGD, "momentum": 0.9},
        "train.schedule": {"name": "cosine", "warmup_epochs": 1, "decay_rate": 0.9, "factor": 0.5, "patience": 1},
        "train.epochs": 3, "train.batch_size": 16, "train.checkpoint_steps": 1,
    }  # fmt: skip
    printed = run_program("resume_everywhere.py", normalized, json.dumps(changes), "1")
    assert "15 positions of 15, the same bytes" in printed


# The stage, as a process.


class Stage:
    """A folder in which `train` runs with these changes."""

    def __init__(self, folder: Path, normalized: Path, changes: dict[str, Any]) -> None:
        folder.mkdir()
        self.folder, self.log = folder, folder / "log"
        self.program = [sys.executable, "-m", "keras_pipeline.cli.main"]
        self.options = ["--normalized", str(normalized)]
        (folder / "params.yaml").write_bytes(small.params_text({"fetch.dataset": "digits", **PLAIN, **changes}))

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        environ = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}
        with self.log.open("w") as log:
            return subprocess.Popen(
                [*self.program, *command, *self.options], cwd=self.folder, env=environ, stdout=log, stderr=log
            )

    def ended(self, *command: str) -> tuple[int, str]:
        return self.start(*command).wait(300), self.log.read_text()

    def bytes(self) -> list[bytes]:
        return [(self.folder / "models" / name).read_bytes() for name in ("model.keras", "history.csv")]


def test_the_stage_leaves_the_same_files_and_interrupted_the_same_bytes(normalized: Path, tmp_path: Path) -> None:
    changes = {"model.hidden_units": [256], "train.epochs": 10, "train.batch_size": 16}
    whole, stopped = (Stage(tmp_path / name, normalized, changes) for name in ("whole", "stopped"))
    code, text = whole.ended("train")
    assert code == 0, text
    assert "train: numpy, strategy none on /cpu:0; batches of 16" in text
    assert len(re.findall(r"(?m)^Epoch \d+/10: train/loss 0\.\d{4}  train/accuracy ", text)) >= 7
    record = json.loads((whole.folder / "models/run.json").read_text())
    assert (record["strategy"]["backend"], record["strategy"]["fused"]) == ("numpy", False)
    assert record["params"]["train.engine"] == "numpy"
    code, text = whole.ended("evaluate")
    assert code == 0, text
    assert json.loads((whole.folder / "reports/metrics.json").read_text())["test/accuracy"] > 0.9

    process = stopped.start("train")
    wait_until(
        lambda: list(stopped.folder.glob(".checkpoints/*/*.checkpoint")) or process.poll() is not None,
        200,
        "a checkpoint",
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75, stopped.log.read_text()
    code, text = stopped.ended("train")
    assert code == 0, text
    assert "train: goes on from its checkpoint" in text
    assert stopped.bytes() == whole.bytes()


def test_a_divergence_says_so(normalized: Path, tmp_path: Path) -> None:
    steep = {**SGD, "learning_rate": 1000.0, "momentum": 0.9}
    stage = Stage(tmp_path / "steep", normalized, {"model.activation": "linear", "train.optimizer": steep})
    code, text = stage.ended("train")
    assert code == 5, text
    found = re.search(r"training diverged: .* is (nan|inf|-inf) at step \d+ of epoch \d+, learning rate 1000", text)
    assert found, text
    assert "  cause: " in text
    assert "try: train.optimizer.learning_rate: 100;" in text
    assert "clipnorm" not in text  # nothing that this engine refuses
    assert "RuntimeWarning" not in text


def test_a_profile_of_numpy_is_refused(normalized: Path, tmp_path: Path) -> None:
    code, text = Stage(tmp_path / "profile", normalized, {}).ended("debug", "profile")
    assert code == 2
    assert "params.yaml: train.engine: numpy, but debug profile measures the steps of Keras." in text
