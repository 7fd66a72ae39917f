"""Run as a program with a folder and a backend: trains into the scenarios and keeps what each ended with."""

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

import small
from keras_pipeline.config.params import Params
from keras_pipeline.core import files, json_files
from keras_pipeline.data import splits
from keras_pipeline.data.splits import Split, read_split
from keras_pipeline.records.observer import Observer
from small import IMAGE_SHAPE

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


class Witness(Observer):
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
    """A copy of the arrays, of float32, in which one pixel of an image is NaN; the digests are those of the copy."""
    to = own / "normalized"
    shutil.copytree(normalized, to)
    statistics = json.loads((to / "statistics.json").read_text())
    statistics["input"]["dtype"] = "<f4"
    for path in to.glob("*_images.npy"):
        images = np.load(path).astype("<f4")
        if path.name.startswith(split):
            images[index, 5, 5, 0] = np.nan
        np.save(path, images)
        statistics["sha256"][path.name] = files.file_sha256(path)
    (to / "statistics.json").write_text(json.dumps(statistics))
    return to


def diverged(normalized: Path, own: Path, chosen: Params) -> dict[str, Any]:
    """Train into the scenario; what was said, and what was kept."""
    from keras_pipeline.core.errors import DivergedError
    from keras_pipeline.stages import train
    from keras_pipeline.tracking import live_run
    from keras_pipeline.tracking.stores import address

    tracked = own.name == "validation_pixel"
    witness = Witness(live_run.LiveTracker(address.store_location(own), "diverging") if tracked else Observer())
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

    statistics = json_files.parse_json((normalized / "statistics.json").read_bytes())
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
            loss = float(model.train_on_batch(split.scaled(batch), targets[batch]))
            if not all(np.isfinite(one).all() for one in [loss, *model.get_weights()]):
                model.set_weights(before)
                layers = not_finite(model, split.scaled(batch))
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

    from keras_pipeline.training import divergence, fit
    from keras_pipeline.training.training import Training

    statistics = json_files.parse_json((folder / "normalized" / "statistics.json").read_bytes())
    splits: list[Split] = [read_split(folder / "normalized", name, statistics) for name in ("train", "validation")]
    training = small.training(small.params(), splits, fused=False)
    several = replace(training, strategy=replace(training.strategy, workers=2))

    class Broken(Training):
        def begun_anew(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("no memory\nat all")

    fault = fit.NotFiniteError("train/loss", math.nan, 1, 5, 0.1)
    later = fit.NotFiniteError("train/loss", math.nan, 2, 5, 0.1)
    return [
        divergence.explain_divergence(fault, None, training).cause,
        divergence.explain_divergence(fault, None, several).cause,
        divergence.explain_divergence(later, None, training).cause,
        divergence.explain_divergence(fault, None, Broken(**vars(training))).cause,
    ]


def main(folder: Path, backend: str) -> None:
    splits._check_range = lambda *_: None  # which would refuse the spoiled pixels, as what train is given
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


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
