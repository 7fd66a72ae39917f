"""Divergence: the step, the layer, the gradients and the way out, each against what stock Keras finds."""

import contextlib
import functools
import math
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from diverging_runs import SHARE
from programs import run_scenarios

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = tmp_path_factory.mktemp("diagnosis")
    small.normalized_digits(result, SHARE)
    return result


results = functools.partial(run_scenarios, "diverging_runs.py")


@pytest.fixture(scope="module")
def tensorflow(folder: Path) -> dict[str, Any]:
    return results(folder, "tensorflow")


def told(scenario: dict[str, Any]) -> dict[str, Any]:
    """The message, taken apart."""
    first, cause, norms, tries, kept = scenario["message"].splitlines()
    found = re.fullmatch(
        r"training diverged: (.+) is (.+) at step (\d+) of epoch (\d+), learning rate (.+)\. "
        r"Expected: a finite number\.",
        first,
    )
    assert found
    assert cause.startswith("  cause: ")
    assert norms.startswith("  gradient's norm: ")
    assert tries.startswith("  try: ")
    where = cause.removeprefix("  cause: ")
    assert scenario["cause"] == f"{found[1]} {found[2]} at step {found[3]} of epoch {found[4]}: {where}"
    assert scenario["status"] == "FAILED"
    return {
        "name": found[1],
        "step": int(found[3]),
        "epoch": int(found[4]),
        "rate": float(found[5]),
        "cause": where,
        "norms": {int(step): float(norm) for norm, step in re.findall(r"(\S+) in step (\d+)", norms)},
        "tries": tries.removeprefix("  try: ").split("; "),
        "kept": kept.strip(),
    }


CALMER = ["train.optimizer.clipnorm: 1.0", "a warm-up (train.schedule: cosine, warmup_epochs: 1)"]
NONE_KEPT = "No checkpoint is kept: the same command starts again, and diverges again. Change a value of params.yaml."


def as_stock(scenario: dict[str, Any], found: dict[str, Any]) -> None:
    """The step and the gradients before it are those of stock Keras."""
    expected = scenario["stock"]
    assert (found["epoch"], found["step"]) == (expected["epoch"], expected["step"])
    norms = dict(zip(range(found["step"] - 1, 0, -1), reversed(expected["norms"]), strict=False))
    assert found["norms"] == pytest.approx(norms, rel=6e-3)  # three digits are told


def test_a_learning_rate_beyond_all_measure(tensorflow: dict[str, Any]) -> None:
    scenario = tensorflow["rate"]
    found = told(scenario)
    as_stock(scenario, found)
    assert found["step"] == 2
    assert found["rate"] == 1e30
    assert scenario["stock"]["layers"] == ["output"]
    assert re.fullmatch(
        r"the output of output \(Dense, softmax\); its inputs reach .+e\+30, its weights .+e\+\d+", found["cause"]
    )
    assert found["tries"] == ["train.optimizer.learning_rate: 1e+29", *CALMER]
    assert found["kept"] == NONE_KEPT


def test_the_layer_that_overflows_is_named_with_the_gradient_that_explodes(tensorflow: dict[str, Any]) -> None:
    scenario = tensorflow["exponential"]
    found = told(scenario)
    as_stock(scenario, found)
    assert scenario["stock"]["layers"] == ["dense_2", "dense_3", "output"]
    assert found["cause"].startswith("the output of dense_2 (Dense, exponential); its inputs reach ")
    assert found["tries"] == [
        "train.optimizer.learning_rate: 0.05",
        *CALMER,
        "another activation than exponential",
    ]


def test_a_pixel_that_is_no_number_is_named_although_the_loss_may_stay_finite(tensorflow: dict[str, Any]) -> None:
    """On some processors TensorFlow's relu gives 0 for NaN: the loss never shows it, and only the weights are spoiled.
    On others it gives NaN, and so the loss is. Which it is here, stock Keras says."""
    scenario = tensorflow["pixel"]
    found = told(scenario)
    order = np.random.default_rng([1, 1, 0]).permutation(1294)
    step = int(np.flatnonzero(order == 709)[0]) // 100 + 1
    assert step == scenario["stock"]["step"]
    cause = "the input, image 709 of the training split (counted from 0)"
    if math.isfinite(scenario["stock"]["loss"]):
        assert (found["name"], found["step"]) == ("a weight", 13)  # where the epoch's state was to be kept
        assert found["cause"] == f"{cause}, in step {step}, whose loss was still finite"
        assert list(found["norms"]) == [step - 2, step - 1, step]
        before = [found["norms"][step - 2], found["norms"][step - 1]]
        assert before == pytest.approx(scenario["stock"]["norms"][-2:], rel=6e-3)
    else:
        assert (found["name"], found["cause"]) == ("train/loss", cause)
        as_stock(scenario, found)
    assert found["tries"] == ["dvc repro --force normalize, which writes the images again"]


def test_a_validation_loss_that_is_not_finite_is_found_and_told_to_mlflow(
    tensorflow: dict[str, Any], folder: Path
) -> None:
    scenario = tensorflow["validation pixel"]
    found = told(scenario)
    assert (found["name"], found["epoch"], found["step"]) == ("val/loss", 1, 13)
    assert found["cause"] == "the input, image 7 of the validation split (counted from 0)"
    assert list(found["norms"]) == [11, 12, 13]
    assert all(0 < norm < 100 for norm in found["norms"].values())
    database = folder / "tensorflow" / "validation_pixel" / "mlruns" / "mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("FAILED",)]
        tags = connection.execute("SELECT value FROM tags WHERE key = 'diverged'").fetchall()
    assert tags == [(scenario["cause"],)]


def test_weights_that_overflow_are_never_kept(tensorflow: dict[str, Any]) -> None:
    scenario = tensorflow["weights"]
    found = told(scenario)
    assert (found["name"], found["step"]) == ("a weight", 14)
    assert found["cause"] == (
        "the weights of dense_1 (Dense) after the update by a finite gradient, in step 14, whose loss was still finite"
    )
    assert "a smaller train.optimizer.weight_decay" in found["tries"]
    assert found["kept"] == (
        "The last good checkpoint, after step 13 of epoch 1, stays in OWN/checkpoints/. The same command goes on from "
        "it and diverges again; change a value of params.yaml, and a new training begins."
    )
    assert scenario["kept"] == ["00000012.checkpoint", "00000013.checkpoint"]


def test_half_precision_is_told_from_a_network_that_overflows_anyway(tensorflow: dict[str, Any]) -> None:
    found = told(tensorflow["precision"])
    assert re.fullmatch(
        r"the output of activation_1 \(Activation, exponential\); its inputs reach .+; in float32 it would be finite",
        found["cause"],
    )
    assert found["tries"] == ["train.precision: mixed_bfloat16, which has the range of float32"]


def second_epoch(scenario: dict[str, Any]) -> None:
    """Replayed from the checkpoint of the first epoch, to the step at which stock Keras diverges too."""
    found = told(scenario)
    expected = scenario["stock"]
    assert (found["epoch"], found["step"]) == (2, expected["step"])
    layer = "the output of output (Dense, softmax)" if expected["layers"] else "the loss itself"
    assert found["cause"].startswith(layer)
    assert list(found["norms"]) == [found["step"] - 3, found["step"] - 2, found["step"] - 1]
    assert found["kept"].startswith("The last good checkpoint, after epoch 1, stays in OWN/checkpoints/. ")
    assert scenario["kept"] == ["00000001.checkpoint"]


def test_the_second_epoch_is_replayed_from_the_checkpoint_of_the_first(tensorflow: dict[str, Any]) -> None:
    second_epoch(tensorflow["second epoch"])


@pytest.mark.parametrize(
    "backend",
    [pytest.param("jax", marks=pytest.mark.needs_jax), pytest.param("torch", marks=pytest.mark.needs_torch)],
)
def test_on_other_backends(folder: Path, backend: str) -> None:
    found = results(folder, backend)
    second_epoch(found["second epoch"])
    pixel = told(found["pixel"])
    as_stock(found["pixel"], pixel)
    assert pixel["name"] == "train/loss"
    assert pixel["cause"] == "the input, image 709 of the training split (counted from 0)"


def test_what_cannot_be_found_is_said(tensorflow: dict[str, Any]) -> None:
    """In a sound training, by several workers, without a checkpoint of the epoch before, and in a search that fails."""
    assert tensorflow["unexplained"] == [
        "train/loss nan at step 5 of epoch 1: not found: trained again, these steps stayed finite. This training does "
        "not repeat itself exactly (train.reproducibility: seeded)",
        "train/loss nan at step 5 of epoch 1: not looked for, because several workers trained; with train.workers: 1 "
        "it would be",
        "train/loss nan at step 5 of epoch 2: not looked for, because no checkpoint is there from which to train this "
        "epoch again",
        "train/loss nan at step 5 of epoch 1: not found, because the search failed (RuntimeError: no memory)",
    ]
