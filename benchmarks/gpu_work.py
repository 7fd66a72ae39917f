"""A process that `gpu.py` starts: it opens one program and works through its cells, a line of JSON after each.

The first argument is a file: {"program", "cells", "data", "device", "lines", "parent", and what the program needs}.
"""

import hashlib
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gpu_bare
import networks
import numpy as np
from gpu_bare import Cell, Work

from keras_pipeline.records.observer import Observer

PARAMS = Path(__file__).parents[1] / "params.yaml"
PLAIN = {
    "model.architecture": "mlp",
    "train.optimizer": {"name": "adam", "learning_rate": 0.001},
    "train.schedule": {"name": "constant"},
    "train.early_stopping": {"monitor": "val/loss", "patience": 0},
}


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    threading.Thread(target=_end_with, args=(task["parent"],), daemon=True).start()

    def say(number: int, found: Mapping[str, Any]) -> None:
        with Path(task["lines"]).open("a") as lines:
            lines.write(json.dumps({"cell": number, **found}) + "\n")

    try:
        work = OPEN[task["program"]](task)
    except Exception as error:
        for number, _ in task["cells"]:
            say(number, {"error": _told(error)})
        raise
    for number, cell in task["cells"]:
        cell["say"] = lambda found, number=number: say(number, found)
        try:
            found = work(cell)
        except Exception as error:
            found = {"error": _told(error)}
        say(number, found)


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1]}"[:300]


def _end_with(parent: int) -> None:
    """Leave nothing behind on the card when whoever started this process is killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class Pipeline:
    """The pipeline's own training: its strategy `none` opened on one device, for any number of networks."""

    def __init__(self, task: Cell, **fixed: Any) -> None:
        from keras_pipeline.distribution import strategies

        self.task, self.fixed = task, fixed
        self.images = gpu_bare.images(Path(task["data"]))
        params = self.params({})
        self.plan = strategies.plan_training(
            params.train, {"train": len(self.images[1]), "validation": len(self.images[3])}, {}
        )
        self.opened = strategies.open_strategy(self.plan)  # for as long as this process works
        self.strategy = self.opened.__enter__()

    def params(self, changes: Mapping[str, Any], values: dict[str, Any] | None = None) -> Any:
        """The shipped params with these changes, and those of all trainings of this process."""
        from keras_pipeline.audit import conformance
        from keras_pipeline.audit.conformance_worker import TrainingJob
        from keras_pipeline.checks.params import load_params

        own = values is None
        if values is None:
            values = load_params(PARAMS).model_dump(exclude_unset=True, mode="json")
        fixed = {f"train.{name}": value for name, value in self.fixed.items()}
        device = {"train.device_type": self.task["device"]}
        for key, value in {**(PLAIN if own else {}), **fixed, **device, **changes}.items():
            conformance.set_value(values, key, value)
        return TrainingJob(values, 0, False).params()

    def training(self, params: Any, count: int | None = None) -> Any:
        """Of the first `count` images, or all, ready to begin."""
        from keras_pipeline.data.splits import Split
        from keras_pipeline.data.task_spec import TaskSpec
        from keras_pipeline.distribution import strategies
        from keras_pipeline.training.training import prepare_training

        x_train, y_train, x_test, y_test = self.images
        splits = [Split(x_train[:count], y_train[:count]), Split(x_test, y_test)]
        plan = strategies.plan_training(params.train, {"train": len(splits[0].targets), "validation": len(y_test)}, {})
        unit, ten_classes = {"name": "unit", "offset": 0.0, "divisor": 255.0}, TaskSpec("classes", (28, 28, 1), 10)
        return prepare_training(params, plan, self.strategy, splits, ten_classes, unit)


class Keeper(Observer):
    """Keeps checkpoints in a folder. `clock`: of epochs; `seconds`: how long keeping took; `last`: the epoch and the
    step of the last one."""

    def __init__(self, folder: Path, clock: networks.Clock | None = None, **identity: str) -> None:
        from keras_pipeline.training.checkpoints import Checkpoints

        self.kept, self.clock, self.seconds = Checkpoints(folder, identity), clock, 0.0
        self.last: tuple[int, int] | None = None

    def checkpoint(self, state: Any, progress: Any) -> None:
        began = time.perf_counter()
        self.kept.save(state, progress)
        self.seconds += time.perf_counter() - began
        self.last = progress["epoch"] + 1, progress["step"]

    def epoch(self, row: dict[str, float]) -> None:
        if self.clock:
            self.clock.epoch()


def network_changes(network: Cell) -> dict[str, Any]:
    """A network of `gpu.py` as the params name it."""
    regularized = network["regularized"]
    return {
        "model.architecture": "cnn" if network["filters"] else "mlp",
        **({"model.filters": network["filters"]} if network["filters"] else {}),
        "model.hidden_units": network["units"],
        "model.batch_normalization": regularized,
        "model.dropout": networks.DROPOUT if regularized else 0.0,
        "model.l2": networks.L2 if regularized else 0.0,
        "train.batch_size": network["batch"],
    }


def speed(task: Cell) -> Work:
    """Seconds of an epoch, with validation after each and a checkpoint of it."""
    pipeline = Pipeline(task, backend=task["backend"], fused=task["fused"])
    return lambda cell: _timed(pipeline, cell)


def _timed(pipeline: Pipeline, cell: Cell) -> dict[str, Any]:
    from keras_pipeline.training import fit
    from keras_pipeline.training.engines import fused

    changes = {"train.epochs": cell["epochs"], "train.precision": cell["precision"]}
    params = pipeline.params({**network_changes(cell["network"]), **changes})
    training, progress = pipeline.training(params), fit.Progress()
    with tempfile.TemporaryDirectory() as folder:
        clock = networks.Clock()
        keeper = Keeper(Path(folder), clock)
        fit.fit_network(training, progress, observers=[keeper], quiet=True)
    return {
        "seconds": clock.seconds,
        "checkpoint_seconds": keeper.seconds / cell["epochs"],
        "accuracy": progress.history[-1]["val/accuracy"],
        "fused": fused.can_fuse(training.model, pipeline.strategy, training.data),
        "ran_on": pipeline.strategy.devices[0],
    }


def together(task: Cell) -> Work:
    """Seconds of an epoch of many seeds as one program, as `study run --together` trains them, and of one alone."""
    pipeline = Pipeline(task, backend="jax", fused=True)

    def work(cell: Cell) -> dict[str, Any]:
        alone = _timed(pipeline, cell)
        from keras_pipeline.training.engines.vectorized import fit_together
        from keras_pipeline.training.recorded_training import RecordedTraining

        changes = {"train.epochs": cell["epochs"], "train.precision": cell["precision"]}
        trainings = []
        for seed in range(1, cell["count"] + 1):
            params = pipeline.params({**network_changes(cell["network"]), **changes, "seed": seed})
            trainings.append(RecordedTraining(**vars(pipeline.training(params)), run={"history": []}))
        clock, steps = networks.Clock(), trainings[0].data.steps
        lanes = fit_together(trainings, lambda epoch, step: clock.epoch() if step == steps else None)
        # The first epoch compiles the steps; the second begins with what validation compiles.
        seconds = [statistics.median(one[2:]) for one in (alone["seconds"], clock.seconds)]
        return {
            "alone": seconds[0],
            "together": seconds[1],
            "ratio": seconds[1] / seconds[0],
            "fused": alone["fused"],
            "accuracy": [lane.progress.history[-1]["val/accuracy"] for lane in lanes],
        }

    return work


def repeated(task: Cell) -> Work:
    """A training with checkpoints in the middle of its epochs: the SHA-256 of its history and last weights.

    It goes on from a checkpoint, where one is in the cell's `folder`; with `kill` it kills itself without warning a
    while after it kept one in the middle of the second epoch.
    """
    pipeline = Pipeline(
        task, backend=task["backend"], reproducibility=task["level"], checkpoint_steps=task["checkpoint_steps"]
    )

    def work(cell: Cell) -> dict[str, Any]:
        from keras_pipeline.training import fit

        class KilledKeeper(Keeper):
            def stop_requested(self) -> bool:  # after some steps, before what was computed is kept
                if cell.get("kill") and self.last and self.last[0] > 1 and self.last[1]:
                    at = f"epoch {self.last[0]} step {self.last[1]}"
                    cell["say"]({"killed": f"some steps after the checkpoint at {at}"})
                    os.kill(os.getpid(), signal.SIGKILL)
                return False

        params = pipeline.params({**network_changes(cell["network"]), "train.epochs": cell["epochs"]})
        training = pipeline.training(params, cell["images"])
        keeper = KilledKeeper(Path(cell["folder"]), network=cell["name"])
        found = keeper.kept.latest()
        progress = fit.Progress(**found[1]) if found else fit.Progress()
        resumed = f"epoch {progress.epoch + 1} step {progress.step}" if found else ""
        fit.fit_network(training, progress, found[0] if found else None, observers=[keeper], quiet=True)
        if cell.get("kill"):
            raise RuntimeError("it trained to its end before it was killed")
        digest = hashlib.sha256(json.dumps([{**row, "time": 0} for row in progress.history]).encode())
        for array in training.model.get_weights():
            digest.update(array.tobytes())
        return {"digest": digest.hexdigest(), "resumed": resumed, "loss": progress.history[-1]["val/loss"]}

    return work


def compared(task: Cell) -> Work:
    """A training of the conformance check, its results and its answers left in the cell's file."""
    pipeline = Pipeline(task, backend=task["backend"], reproducibility="seeded")

    def work(cell: Cell) -> dict[str, Any]:
        from keras_pipeline.audit import conformance
        from keras_pipeline.checks.params import load_params
        from keras_pipeline.training import fit

        values = load_params(PARAMS).model_dump(exclude_unset=True, mode="json")
        small = {**conformance.PLAIN, **conformance.SMALL, "train.epochs": cell["epochs"]}
        for key, value in {**small, **cell["changes"]}.items():
            conformance.set_value(values, key, value)
        chosen = pipeline.params({}, values)
        training, progress = pipeline.training(chosen, cell["images"]), fit.Progress()
        fit.fit_network(training, progress, quiet=True)
        results = {name: np.array([row[name] for row in progress.history]) for name in progress.history[0]}
        results |= {f"weights/{number}": array for number, array in enumerate(training.model.get_weights())}
        results["answers"] = training.model.predict(pipeline.images[2], batch_size=1000, verbose=0).argmax(1)
        np.savez(cell["file"], **results)
        return {"ran_on": pipeline.strategy.devices[0], "loss": progress.history[-1]["val/loss"]}

    return work


OPEN: dict[str, Callable[[Cell], Work]] = {
    "torch_loop": gpu_bare.torch_loop,
    "jax_by_hand": gpu_bare.jax_by_hand,
    "speed": speed,
    "together": together,
    "repeated": repeated,
    "compared": compared,
}

if __name__ == "__main__":
    main()
