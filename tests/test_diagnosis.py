"""Divergence: the step, the layer, the gradients and the way out, each against what stock Keras finds.

Run as a program with a folder and a backend, this file trains into the scenarios and prints what each ended with.
"""

import contextlib
import json
import math
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.config.datasets import IMAGE_SHAPE
from keras_pipeline.config.params import Params
from keras_pipeline.core import files
from keras_pipeline.data.splits import Split, read_split
from keras_pipeline.distribution import strategies

FLAT = {"layer": "Flatten"}
PLAIN = {
    "train.schedule.name": "constant",
    "model.batch_normalization": False,
    "model.dropout": 0.0,
    "model.l2": 0.0,
    "train.reproducibility": "deterministic",
}
EXPONENTIAL = {
    **PLAIN,
    "model.architecture": "layers",
    "model.layers": [
        FLAT,
        {"layer": "Dense", "units": 32, "activation": "relu"},
        {"layer": "Dense", "units": 32, "activation": "exponential"},
        {"layer": "Dense", "units": 8},
    ],
    "train.optimizer": {"name": "sgd", "learning_rate": 0.5},
}
CALM = {**PLAIN, "train.optimizer": {"name": "sgd", "learning_rate": 0.1}}
GROWING = {
    **PLAIN,
    "model.architecture": "softmax_regression",
    "train.optimizer": {"name": "sgd", "learning_rate": 60.0, "weight_decay": 1.0},
}
"""Each step makes the weights 59 times larger: the outputs overflow in the second epoch."""
SCENARIOS: dict[str, dict[str, dict[str, Any]]] = {
    "tensorflow": {
        "rate": {**PLAIN, "train.optimizer": {"name": "sgd", "learning_rate": 1000.0}},  # 1e30, beyond the params
        "pixel": {**CALM, "train.fused": False},
        "validation pixel": {},
        "exponential": EXPONENTIAL,
        "second epoch": GROWING,
        "weights": {
            **PLAIN,
            "model.activation": "tanh",
            "model.output_activation": "sigmoid",
            "train.loss": "mean_squared_error",
            "train.optimizer": {"name": "sgd", "learning_rate": 700.0, "weight_decay": 1.0},
            "train.batch_size": 50,
            "train.checkpoint_steps": 1,
        },
        "precision": {
            **PLAIN,
            "model.activation": "exponential",
            "train.precision": "mixed_float16",
            "train.optimizer": {"name": "sgd", "learning_rate": 2.0},
        },
    },
    "jax": {
        "pixel": {**CALM, "train.backend": "jax", "train.strategy": "data_parallel", "train.devices": 2},
        "second epoch": {
            **GROWING,
            "train.backend": "jax",
            "train.strategy": "data_parallel",
            "train.devices": 2,
        },
    },
    "torch": {
        "pixel": {**CALM, "train.backend": "torch"},
        "second epoch": {**GROWING, "train.backend": "torch"},
    },
}
SPOILED = {"pixel": ("train", 709), "validation pixel": ("validation", 7)}

SHARE = 0.0995
"""Held out: 1,294 training images are left, which two devices share evenly."""


# The program.


class Witness:
    """An observer that keeps the record and how it ended, and lets another one look too."""

    def __init__(self, other: Any) -> None:
        self.other = other

    def started(self, run: dict[str, Any]) -> None:
        self.run = run
        self.other.started(run)

    def epoch(self, row: dict[str, float]) -> None:
        self.other.epoch(row)

    def ended(self, status: str, run: dict[str, Any], model: Any) -> None:
        self.status = status
        self.other.ended(status, run, model)


def params_of(scenario: str, changes: dict[str, Any]) -> Params:
    chosen = small.params({"normalize.validation_share": SHARE, **changes})
    if scenario != "rate":
        return chosen
    optimizer = chosen.train.optimizer.model_copy(update={"learning_rate": 1e30})
    return chosen.model_copy(update={"train": chosen.train.model_copy(update={"optimizer": optimizer})})


def spoiled(normalized: Path, own: Path, split: str, index: int) -> Path:
    """A copy of the arrays in which one pixel of an image is NaN, and the digest is that of the copy."""
    to = own / "normalized"
    shutil.copytree(normalized, to)
    path = to / f"{split}_images.npy"
    images = np.load(path)
    images[index, 5, 5, 0] = np.nan
    np.save(path, images)
    statistics = json.loads((to / "statistics.json").read_text())
    statistics["sha256"][path.name] = files.file_sha256(path)
    (to / "statistics.json").write_text(json.dumps(statistics))
    return to


def diverged(normalized: Path, own: Path, chosen: Params) -> dict[str, Any]:
    """Train into the scenario; what was said, and what was kept."""
    from keras_pipeline.core.errors import DivergedError
    from keras_pipeline.records.observer import Observer
    from keras_pipeline.stages import train
    from keras_pipeline.tracking import live_run, store

    tracked = own.name == "validation_pixel"
    witness = Witness(live_run.LiveTracker(store.store_location(own), "diverging") if tracked else Observer())
    try:
        train.train_network(chosen, normalized, own / "models", witness, own / "checkpoints")
    except DivergedError as error:
        kept = sorted((own / "checkpoints").rglob("*.checkpoint"))
        return {
            "message": str(error).replace(str(own), "OWN"),
            "cause": witness.run["diverged"],
            "status": witness.status,
            "kept": [path.name for path in kept],
        }
    return {"message": "it did not diverge"}


def stock(normalized: Path, chosen: Params) -> dict[str, Any]:
    """The same training by stock Keras, on batches cut here: the first step whose loss is not finite or
    leaves weights that are not, that loss, the layers whose output is not finite there, and how far the weights moved
    in the three steps before, by the rate: this is the gradient's norm, where the weights do not decay."""
    import keras

    from keras_pipeline.models import architectures
    from keras_pipeline.training import compilation

    statistics = files.read_json(normalized / "statistics.json", "normalize")
    split = read_split(normalized, "train", statistics)
    targets = np.eye(10, dtype=np.float32)[split.targets]
    model = architectures.build_network(chosen.model, IMAGE_SHAPE, 10)
    compilation.draw_weights(model, chosen.seed)
    optimizer = chosen.train.optimizer
    model.compile(keras.optimizers.SGD(optimizer.learning_rate, **optimizer.arguments()), "categorical_crossentropy")
    norms: list[float] = []
    for epoch in range(2):
        order = np.random.default_rng([chosen.seed, 1, epoch]).permutation(len(targets))
        for step, start in enumerate(range(0, len(order), 100), 1):
            batch = order[start : start + 100]
            before = model.get_weights()
            model.reset_metrics()
            loss = float(model.train_on_batch(split.inputs[batch], targets[batch]))
            if not all(np.isfinite(one).all() for one in [loss, *model.get_weights()]):
                model.set_weights(before)
                layers = not_finite(model, split.inputs[batch])
                return {"epoch": epoch + 1, "step": step, "loss": loss, "layers": layers, "norms": norms[-3:]}
            moved = [one.astype(float) - after for one, after in zip(before, model.get_weights(), strict=True)]
            norms.append(math.sqrt(sum(np.square(part).sum() for part in moved)) / optimizer.learning_rate)
    return {}


def not_finite(model: Any, images: Any) -> list[str]:
    import keras

    outputs = keras.Model(model.inputs, [layer.output for layer in model.layers]).predict(images, verbose=0)
    return [layer.name for layer, output in zip(model.layers, outputs, strict=True) if not np.isfinite(output).all()]


def unexplained(folder: Path) -> list[str]:
    """What is said of faults that cannot be found: in a training that is sound, by several workers, and where no
    checkpoint is."""
    from dataclasses import replace

    from keras_pipeline.training import batches, compilation, divergence, fit

    chosen = small.params()
    statistics = files.read_json(folder / "normalized" / "statistics.json", "normalize")
    splits: list[Split] = [read_split(folder / "normalized", name, statistics) for name in ("train", "validation")]
    place = strategies.Distribution("none", ("/cpu:0",))
    data = batches.Data(*splits, np.ones(10, np.float32), chosen.seed, 100, 144)

    def build(train: Any, place: Any) -> Any:
        return compilation.new_network(chosen.model, train, chosen.seed, place, data.steps, small.TEN_CLASSES)

    def broken(train: Any, place: Any) -> Any:
        raise RuntimeError("no memory\nat all")

    fault = fit.NotFiniteError("train/loss", math.nan, 1, 5, 0.1)
    later = fit.NotFiniteError("train/loss", math.nan, 2, 5, 0.1)
    return [
        divergence.explain_divergence(fault, None, build, place, data, chosen.train).cause,
        divergence.explain_divergence(fault, None, build, replace(place, workers=2), data, chosen.train).cause,
        divergence.explain_divergence(later, None, build, place, data, chosen.train).cause,
        divergence.explain_divergence(fault, None, broken, place, data, chosen.train).cause,
    ]


def main(folder: Path, backend: str) -> None:
    result: dict[str, Any] = {}
    for scenario, changes in SCENARIOS[backend].items():
        own = folder / backend / scenario.replace(" ", "_")
        normalized = spoiled(folder / "normalized", own, *SPOILED[scenario]) if scenario in SPOILED else None
        normalized = normalized or folder / "normalized"
        result[scenario] = diverged(normalized, own, params_of(scenario, changes))
        if scenario in ("rate", "pixel", "exponential", "second epoch"):
            result[scenario]["stock"] = stock(normalized, params_of(scenario, changes))
    if backend == "tensorflow":
        result["unexplained"] = unexplained(folder)
    (folder / f"{backend}.json").write_text(json.dumps(result))


# The tests.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = tmp_path_factory.mktemp("diagnosis")
    small.normalized_digits(result, SHARE)
    return result


def results(folder: Path, backend: str) -> dict[str, Any]:
    """What became of the backend's scenarios, in a process of their own."""
    done = subprocess.run(
        [sys.executable, __file__, folder, backend], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / f"{backend}.json").read_text())
    return found


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
NONE_KEPT = "No checkpoint is kept: the same command begins anew, and diverges again. Change a value of params.yaml."


def as_stock(scenario: dict[str, Any], found: dict[str, Any]) -> None:
    """The step and the gradients before it are those of stock Keras."""
    expected = scenario["stock"]
    assert (found["epoch"], found["step"]) == (expected["epoch"], expected["step"])
    norms = dict(zip(range(found["step"] - 1, 0, -1), reversed(expected["norms"]), strict=False))
    assert found["norms"] == pytest.approx(norms, rel=6e-3)  # three digits are told


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_second_epoch_is_replayed_from_the_checkpoint_of_the_first(tensorflow: dict[str, Any]) -> None:
    second_epoch(tensorflow["second epoch"])


@pytest.mark.slow
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


@pytest.mark.slow
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


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
