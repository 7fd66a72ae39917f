"""The training side of the conformance check: one process that trains its jobs and leaves their results as .npz."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline import distribution, files, preprocessing, roll_call, strict_yaml
from keras_pipeline.datasets import IMAGE_SHAPE
from keras_pipeline.params import Model, Params
from keras_pipeline.preprocessing import STATISTICS, Question, Split

Results = Mapping[str, NDArray[Any]]
"""Of one training: a history's columns by name (epochs,); weights/0 … of the last epoch; best/0 … where sought."""


@dataclass(frozen=True)
class Job:
    """One training: all params, and the training images, the first `images` of all or of `uneven_classes`."""

    values: dict[str, Any]
    images: int
    uneven_classes: bool

    def params(self) -> Params:
        """The params. Raises ParamsError where they make no sense together."""
        return strict_yaml.loads(json.dumps(self.values, indent=1).encode(), "params.yaml", Params)


def run(folder: Path) -> None:
    """Train the jobs of `folder`/task.json, all at one place, and leave NAME.npz of each in `folder`.

    `Results` are written by the chief alone. What the framework prints goes to a file log-RANK.txt there; the
    devices, once they are opened, to standard error.
    """
    task = files.read_json(folder / "task.json", "conformance")
    data = Path(task["data"])
    statistics = files.read_json(data / "statistics.json", "normalize", STATISTICS)
    splits = [preprocessing.read_split(data, name, statistics) for name in ("train", "validation")]
    standard_error = os.dup(2)
    place, watch = None, None
    for name, values in task["jobs"].items():
        job = Job(**values)
        params = job.params()
        train, validation = _cut(splits[0], job), splits[1]
        images = {"train": len(train.labels), "validation": len(validation.labels)}
        plan = distribution.plan(params.train, images, os.environ)
        if place is None:
            _print_to(folder / f"log-{plan.cluster.rank if plan.cluster else 0}.txt")
            if plan.cluster:
                watch = roll_call.attend(plan.cluster, {"task": files.sha256(folder / "task.json")})
            distribution.prepare(plan)
            place = distribution.open_distribution(plan)
            if plan.chief:
                os.write(standard_error, f"{', '.join(place.devices)} … ".encode())
        results = _train(params.model, params.seed, plan, place, train, validation, statistics["scaling"])
        if plan.chief:
            np.savez(folder / f"{name}.npz", allow_pickle=False, **results)
    if watch:
        watch.leave()
    if place:
        place.close()


def _print_to(path: Path) -> None:
    log = path.open("w")
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log.fileno(), stream.fileno())


def _cut(split: Split, job: Job) -> Split:
    chosen = np.arange(len(split.labels))
    if job.uneven_classes:  # of the upper half of the classes only every fourth image
        chosen = chosen[(split.labels <= split.labels.max() // 2) | (chosen % 4 == 0)]
    return Split(split.images[chosen[: job.images]], split.labels[chosen[: job.images]])


def _train(
    model: Model,
    seed: int,
    plan: distribution.Plan,
    place: distribution.Distribution,
    train: Split,
    validation: Split,
    scaling: dict[str, Any],
) -> Results:
    from keras_pipeline import augmentation, fitting, training, training_state

    classes = int(max(train.labels.max(), validation.labels.max())) + 1
    weights = training.class_weights(train.labels, classes, plan.train.class_weights)
    deformation = augmentation.of(plan.train.augmentation, seed, scaling)
    data = training.Data(train, validation, weights, seed, plan.batch_size, plan.validation_batch, deformation)
    network = training.new_network(
        model, plan.train, seed, place, data.steps, Question("classes", IMAGE_SHAPE, classes)
    )
    last: list[NDArray[Any]] = []

    def keep(state: training_state.State, progress: dict[str, Any]) -> None:
        last[:] = [array for name, array in state.items() if name.startswith("trainable/")]

    progress = fitting.Progress()
    fitting.fit(network, place, data, plan.train, fitting.Watcher(save=keep, quiet=True), progress)
    groups = {"weights": network.get_weights()}
    if plan.train.early_stopping.patience:  # then these are the best epoch's
        groups = {"weights": last, "best": groups["weights"]}
    results = {name: np.array([row[name] for row in progress.history]) for name in progress.history[0]}
    for group, arrays in groups.items():
        results |= {f"{group}/{number}": array for number, array in enumerate(arrays)}
    return results
