"""benchmarks/frameworks.py: what it says of trainings, and MXNet's against our own network in NumPy."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.studies import results
from keras_pipeline.training.engines import from_scratch
from keras_pipeline.training.engines.from_scratch import Layer, Network

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import frameworks  # noqa: E402

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


def trained(losses: list[float], weight: float, answers: list[int], seconds: list[float]) -> frameworks.Trained:
    return frameworks.Trained(losses, seconds, [np.array([[weight, -4.0]]), np.zeros(2)], np.array(answers))


# What it says.


def test_the_largest_difference_of_any_seed_stands_there_and_who_is_missing() -> None:
    baseline = {1: trained([2.0, 1.0], 1.0, [0, 1, 2], [0.5]), 2: trained([2.0, 1.0], 1.0, [0, 1, 2], [0.7])}
    other = {1: trained([2.002, 1.0], 1.0, [0, 1, 2], [3.0]), 2: trained([2.0, 0.99], 1.04, [0, 2, 2], [5.0, 4.0])}
    runs = {"A": baseline, "B": other, "MXNet": {}}
    assert frameworks.compared(runs, "A") == [
        "| beside A | epoch 1 | epoch 2 | weights | same answers |",
        "|---|---|---|---|---|",
        "| B | 1e-03 | 1e-02 | 1e-02 | 2 of 3 |",
        "| MXNet | not installed: make mxnet |  |  |  |",
    ]
    assert frameworks.timed(runs) == [
        "|  | seconds of an epoch |",
        "|---|---|",
        "| A | 0.60 |",
        "| B | 4.00 |",
        "| MXNet | not installed: make mxnet |",
    ]


def test_the_peer_imports_mxnet_and_numpy_alone() -> None:
    """In its environment there is nothing of ours."""
    source = ast.parse((ROOT / "benchmarks" / "peer_mxnet.py").read_text())
    names = {name.name for node in ast.walk(source) if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module or "" for node in ast.walk(source) if isinstance(node, ast.ImportFrom)}
    assert names - sys.stdlib_module_names == {"mxnet", "numpy"}


# Where it cannot be installed.


def make_mxnet(folder: Path, environ: dict[str, str]) -> str:
    for name in ("Makefile", "requirements-mxnet.lock"):
        shutil.copy(ROOT / name, folder)
    done = subprocess.run(
        ["make", "mxnet"], cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2
    assert "Error 6" in done.stderr
    assert not (folder / ".venv-mxnet").exists()
    return done.stderr


def test_a_python_that_is_too_new_is_told(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "make", "rm"):
        (tools / name).symlink_to(shutil.which(name) or "")
    said = make_mxnet(tmp_path, {"PATH": str(tools)})
    assert said.startswith(
        "MXNet is not installed: it needs Python 3.10 or 3.11 with its venv module. Nothing else needs MXNet.\n"
    )


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.needs_mxnet
def test_mxnet_trains_as_our_network_in_numpy_does(ours: tuple[dict[str, Any], frameworks.Trained]) -> None:
    given, left = ours
    assert_same(frameworks.with_mxnet(given), left)
