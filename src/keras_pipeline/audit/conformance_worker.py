"""The training side of the conformance check: one process that trains its jobs and leaves their results as .npz."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.checks.params import CheckedParams
from keras_pipeline.config.params import Params
from keras_pipeline.core import files
from keras_pipeline.core.json_files import parse_json
from keras_pipeline.data.splits import Split, read_split
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.distribution import strategies
from keras_pipeline.records.observer import Observer
from keras_pipeline.strict_yaml import reader
from keras_pipeline.training.training import Training, prepare_training

Results = Mapping[str, NDArray[Any]]
"""Of one training: a history's columns by name (epochs,); weights/0 … of the last epoch; best/0 … where sought."""


@dataclass(frozen=True)
class TrainingJob:
    """One training: all params, and the training images, the first `images` of all or of `uneven_classes`."""

    values: dict[str, Any]
    images: int
    uneven_classes: bool

    def params(self) -> Params:
        """The params. Raises ParamsError where they make no sense together."""
        return reader.parse_yaml(json.dumps(self.values, indent=1).encode(), "params.yaml", CheckedParams)


def train_jobs(folder: Path) -> None:
    """Train the jobs of `folder`/task.json, all at one place, and leave NAME.npz of each in `folder`.

    `Results` are written by the chief alone. What the framework prints goes to a file log-RANK.txt there; the
    devices, once they are opened, to standard error.
    """
    task = parse_json((folder / "task.json").read_bytes())  # of the process that began this one
    data = Path(task["data"])
    statistics = read_statistics(data)
    splits = [read_split(data, name, statistics) for name in ("train", "validation")]
    standard_error, strategy = os.dup(2), None
    with ExitStack() as ending:
        for name, values in task["jobs"].items():
            job = TrainingJob(**values)
            params = job.params()
            used = [_cut(splits[0], job), splits[1]]
            images = {"train": len(used[0].targets), "validation": len(used[1].targets)}
            plan = strategies.plan_training(params.train, images, os.environ)
            if strategy is None:
                _print_to(folder / f"log-{plan.cluster.rank if plan.cluster else 0}.txt")
                digests = {"task": files.file_sha256(folder / "task.json")}
                strategy = ending.enter_context(strategies.open_strategy(plan, digests))
                if plan.chief:
                    with suppress(OSError):  # nobody may read it
                        os.write(standard_error, f"{', '.join(strategy.devices)} … ".encode())
            classes = int(max(split.targets.max() for split in used)) + 1
            task_spec = TaskSpec("classes", tuple(statistics["shape"]), classes)
            results = _train(prepare_training(params, plan, strategy, used, task_spec, statistics["scaling"]))
            if plan.chief:
                np.savez(folder / f"{name}.npz", allow_pickle=False, **results)


def _print_to(path: Path) -> None:
    log = path.open("w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log.fileno(), stream.fileno())


def _cut(split: Split, job: TrainingJob) -> Split:
    chosen = np.arange(len(split.targets))
    if job.uneven_classes:  # of the upper half of the classes only every fourth image
        chosen = chosen[(split.targets <= split.targets.max() // 2) | (chosen % 4 == 0)]
    return split.part(chosen[: job.images])


class _LastWeights(Observer):
    """Keeps the weights of the last checkpoint."""

    def __init__(self) -> None:
        self.weights: list[NDArray[Any]] = []

    def checkpoint(self, state: Mapping[str, NDArray[Any]], progress: Mapping[str, Any]) -> None:
        self.weights = [array for name, array in state.items() if name.startswith("trainable/")]


def _train(training: Training) -> Results:
    from keras_pipeline.training import fit

    last, progress = _LastWeights(), fit.Progress()
    fit.fit_network(training, progress, observers=[last], quiet=True)
    groups = {"weights": training.model.get_weights()}
    if training.params.train.early_stopping.patience:  # then these are the best epoch's
        groups = {"weights": last.weights, "best": groups["weights"]}
    results = {name: np.array([row[name] for row in progress.history]) for name in progress.history[0]}
    for group, arrays in groups.items():
        results |= {f"{group}/{number}": array for number, array in enumerate(arrays)}
    return results
