"""The shipped params with some values changed, and small data to run them on."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from keras_pipeline.checks.params import CheckedParams
from keras_pipeline.config.params import Params
from keras_pipeline.data.encoding import number_columns
from keras_pipeline.data.splits import Split
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.distribution import strategies
from keras_pipeline.records.observer import Observer
from keras_pipeline.stages import fetch, normalize
from keras_pipeline.strict_yaml import reader
from keras_pipeline.training.training import Training, prepare_training
from places import SHIPPED

IMAGE_SHAPE = (28, 28, 1)
"""Of the digits."""
TEN_CLASSES = TaskSpec("classes", IMAGE_SHAPE, 10)
"""What the digits ask of a network."""
QUICK = {"fetch.dataset": "digits", "model.hidden_units": [16], "train.epochs": 2, "train.batch_size": 100}


def params_text(changes: Mapping[str, Any]) -> bytes:
    """params.yaml with the values at these dotted keys replaced (or added), as JSON, which is YAML too."""
    values = YAML(typ="safe", pure=True).load(SHIPPED.read_text())
    for key, value in changes.items():
        *blocks, last = key.split(".")
        block = values
        for name in blocks:
            block = block[name]
        block[last] = value
    return json.dumps(values, indent=1).encode()


def params(changes: Mapping[str, Any] | None = None) -> Params:
    """The digits, a tiny network, two epochs, and these changes."""
    return reader.parse_yaml(params_text({**QUICK, **(changes or {})}), "params.yaml", CheckedParams)


def described(name: str = "digits", shape: Sequence[int] = IMAGE_SHAPE) -> dict[str, Any]:
    """What statistics.json says of where images of this shape are from."""
    return {
        "dataset": name,
        "title": f"The title of {name}",
        "licence": "CC0 1.0",
        "facts": {},
        "source": {"files": 4, "bytes": 1000, "sha256": "d" * 64},
        "input": {"kind": "images", "shape": list(shape), "dtype": "|u1", "low": 0.0, "high": 255.0},
        "shape": list(shape),
        "drawing": None,
        "preparation": None,
    }


def table(features: Sequence[str], target: str = "y") -> dict[str, Any]:
    """The same of a table of numbers."""
    return {"input": number_columns(features, target), "shape": [len(features)]}


def statistics(images: Mapping[str, int], **changes: Any) -> dict[str, Any]:
    """A whole statistics.json of so many digits of each split, whose arrays nobody has; with these changes."""
    return {
        "format": 2,
        **described(),
        "task": "classes",
        "class_names": list("0123456789"),
        "scaling": {"name": "unit", "offset": 0.0, "divisor": 255.0},
        "target": None,
        "images": dict(images),
        "sha256": {f"{split}_{kind}.npy": "0" * 64 for split in images for kind in ("images", "labels")},
        "normalize": {},
        "class_counts": {split: [count, *[0] * 9] for split, count in images.items()},
        "test_images_also_in_train": 0,
        **changes,
    }


class Keeper(Observer):
    """Keeps each checkpoint of a training: `kept`, pairs of its arrays and its progress."""

    def __init__(self) -> None:
        self.kept: list[tuple[Any, Any]] = []

    def checkpoint(self, state: Any, progress: Any) -> None:
        self.kept.append((state, progress))


def training(chosen: Params, splits: Sequence[Split], *, fused: bool | None = None) -> Training:
    """A training of these splits of the digits on one device, ready to begin; `fused`: other than the params say."""
    images = {name: len(split.targets) for name, split in zip(("train", "validation"), splits, strict=True)}
    plan = strategies.plan_training(chosen.train, images, os.environ)
    with strategies.open_strategy(plan) as strategy:  # of one device, which needs no closing
        if fused is not None:
            strategy = dataclasses.replace(strategy, fused=fused)
        unit = {"name": "unit", "offset": 0.0, "divisor": 255.0}
        return prepare_training(chosen, plan, strategy, splits, TEN_CLASSES, unit)


def normalized_digits(folder: Path, validation_share: float = 0.1) -> Path:
    """The digits as `fetch` and `normalize` leave them: 1,437 images for training and validation, 360 for test."""
    chosen = params({"normalize.validation_share": validation_share})
    fetch.fetch_dataset(chosen, folder / "raw", folder / "downloads")
    normalize.normalize_dataset(chosen, folder / "raw", folder / "normalized")
    return folder / "normalized"
