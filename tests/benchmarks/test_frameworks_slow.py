"""benchmarks/frameworks.py: MXNet's training against our own network in NumPy."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import frameworks
import numpy as np
import pytest

import small
from keras_pipeline.studies import results
from keras_pipeline.training.engines import from_scratch
from keras_pipeline.training.engines.from_scratch import Layer, Network
from mxnet_setup import make_mxnet

pytestmark = pytest.mark.slow

CHANGES = {
    "train.engine": "numpy",
    "model.activation": "tanh",
    "model.dropout": 0.0,
    "model.batch_normalization": False,
    "model.l2": 0.0,
    "train.optimizer": {"name": "sgd", "learning_rate": 0.1},
    "train.schedule.name": "constant",
    "train.early_stopping.patience": 0,
    "train.epochs": 3,
    "train.batch_size": 50,
}
"""The training of the study, on the digits; 43 images are in the last batch."""
APART = 5e-5
"""How far two trainings in float32 may be apart: of the loss, and of the largest weight."""


# Where it cannot be installed.


def test_without_a_network_it_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    said = make_mxnet(tmp_path, {**os.environ, **offline})
    assert "MXNet is not installed: " in said
    assert "Nothing else needs MXNet." in said


# What it computes.


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], frameworks.Trained]:
    """What a training with train.engine: numpy began with, and what it left."""
    folder = tmp_path_factory.mktemp("frameworks")
    normalized = small.normalized_digits(folder)
    (folder / "params.yaml").write_bytes(small.params_text({**small.QUICK, **CHANGES}))
    environ = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    for verb in ("train", "evaluate"):
        program = [sys.executable, "-m", "keras_pipeline.cli.main", verb, "--normalized", str(normalized)]
        done = subprocess.run(
            program, cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((folder / "models" / "run.json").read_text())
    params = small.params(CHANGES)
    left = frameworks._left(results.RunResult("NumPy", "", params.seed, record, folder))
    return frameworks.given(params, normalized), left


def assert_same(one: frameworks.Trained, other: frameworks.Trained) -> None:
    assert len(one.losses) == len(other.losses) == 3
    assert other.losses[-1] < other.losses[0] / 2  # it was a training
    np.testing.assert_allclose(one.losses, other.losses, rtol=APART)
    assert frameworks._apart(one.weights, other.weights) < APART
    assert len(one.seconds) == len(other.seconds) == 2
    assert (one.answers != other.answers).sum() <= 1  # of 360: two classes may be as likely as each other


def test_what_is_given_is_what_the_training_began_with(ours: tuple[dict[str, Any], frameworks.Trained]) -> None:
    """The same training by hand, from the arrays alone."""
    given, left = ours
    first, second = (given[f"weights_{number}"].copy() for number in (0, 2))
    layers = [Layer(first, given["weights_1"].copy(), given["activation"])]
    layers.append(Layer(second, given["weights_3"].copy(), "softmax"))
    network = Network(layers, "categorical_crossentropy")
    still = [np.zeros_like(one) for one in network.parameters]
    targets = np.eye(10, dtype=np.float32)
    losses = []
    for order in given["orders"]:
        total = 0.0
        for start in range(0, len(order), given["batch_size"]):
            chosen = order[start : start + given["batch_size"]]
            images, labels = given["train_images"][chosen], given["train_labels"][chosen]
            total += (
                len(chosen) * from_scratch.step(network, still, images, targets[labels], given["learning_rate"], 0.0)[0]
            )
        losses.append(total / len(order))
    answers = from_scratch.forward(network, given["test_images"])[0][-1].argmax(axis=1)
    assert_same(frameworks.Trained(losses, left.seconds, network.parameters, answers), left)


@pytest.mark.needs_mxnet
def test_mxnet_trains_as_our_network_in_numpy_does(ours: tuple[dict[str, Any], frameworks.Trained]) -> None:
    given, left = ours
    assert_same(frameworks.with_mxnet(given), left)
