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
        strategies.set_environment(self.plan)
        self.place = strategies.open_strategy(self.plan)

    def params(self, changes: Mapping[str, Any], values: dict[str, Any] | None = None) -> Any:
        """The shipped params with these changes, and those of all trainings of this process."""
        from keras_pipeline.audit import conformance
        from keras_pipeline.audit.conformance_worker import Job
        from keras_pipeline.checks.params import load_params

        own = values is None
        if values is None:
            values = load_params(PARAMS).model_dump(exclude_unset=True, mode="json")
        fixed = {f"train.{name}": value for name, value in self.fixed.items()}
        device = {"train.device_type": self.task["device"]}
        for key, value in {**(PLAIN if own else {}), **fixed, **device, **changes}.items():
            conformance.set_value(values, key, value)
        return Job(values, 0, False).params()

    def data(self, params: Any, count: int | None = None) -> Any:
        """The first `count` images, or all, in batches as the params say."""
        from keras_pipeline.data.splits import Split
        from keras_pipeline.distribution import strategies
        from keras_pipeline.training import augmentation, batches

        x_train, y_train, x_test, y_test = self.images
        split, validation = Split(x_train[:count], y_train[:count]), Split(x_test, y_test)
        plan = strategies.plan_training(params.train, {"train": len(split.targets), "validation": len(y_test)}, {})
        deformation = augmentation.deformation_for(
            params.train.augmentation, params.seed, {"offset": 0.0, "divisor": 255.0}
        )
        weights = batches.class_weights(split.targets, 10, params.train.class_weights)
        return batches.Data(
            split, validation, weights, params.seed, plan.batch_size, plan.validation_batch, deformation
        )

    def network(self, params: Any, data: Any) -> Any:
        """With its first weights, compiled."""
        from keras_pipeline.config.datasets import IMAGE_SHAPE
        from keras_pipeline.data.task_spec import TaskSpec
        from keras_pipeline.training import compilation

        question = TaskSpec("classes", IMAGE_SHAPE, 10)
        return compilation.new_network(params.model, params.train, params.seed, self.place, data.steps, question)


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
    from keras_pipeline.training.checkpoints import Checkpoints
    from keras_pipeline.training.engines import fused

    changes = {"train.epochs": cell["epochs"], "train.precision": cell["precision"]}
    params = pipeline.params({**network_changes(cell["network"]), **changes})
    data = pipeline.data(params)
    model = pipeline.network(params, data)
    progress, saving = fit.Progress(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        kept = Checkpoints(Path(folder), {})

        def save(state: Any, stand: dict[str, Any]) -> None:
            nonlocal saving
            began = time.perf_counter()
            kept.save(state, stand)
            saving += time.perf_counter() - began

        clock = networks.Clock()
        watcher = fit.FitHooks(save, lambda row: clock.epoch(), quiet=True)
        fit.fit_network(model, pipeline.place, data, params.train, watcher, progress)
    return {
        "seconds": clock.seconds,
        "checkpoint_seconds": saving / cell["epochs"],
        "accuracy": progress.history[-1]["val/accuracy"],
        "fused": fused.can_fuse(model, pipeline.place, data),
        "ran_on": pipeline.place.devices[0],
    }


def together(task: Cell) -> Work:
    """Seconds of an epoch of many seeds as one program, as `study run --together` trains them, and of one alone."""
    pipeline = Pipeline(task, backend="jax", fused=True)

    def work(cell: Cell) -> dict[str, Any]:
        alone = _timed(pipeline, cell)
        from keras_pipeline.training.engines.vectorized import fit_together
        from keras_pipeline.training.prepared import Prepared

        changes = {"train.epochs": cell["epochs"], "train.precision": cell["precision"]}
        prepared = []
        for seed in range(1, cell["count"] + 1):
            params = pipeline.params({**network_changes(cell["network"]), **changes, "seed": seed})
            data = pipeline.data(params)
            model = pipeline.network(params, data)
            prepared.append(Prepared(params, pipeline.plan, pipeline.place, data, model, {"history": []}))
        clock = networks.Clock()
        lanes = fit_together(prepared, lambda epoch, step: clock.epoch() if step == prepared[0].data.steps else None)
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
        from keras_pipeline.training.checkpoints import Checkpoints

        params = pipeline.params({**network_changes(cell["network"]), "train.epochs": cell["epochs"]})
        data = pipeline.data(params, cell["images"])
        model = pipeline.network(params, data)
        kept = Checkpoints(Path(cell["folder"]), {"network": cell["name"]})
        found = kept.latest()
        stood = fit.Progress(**found[1]) if found else fit.Progress()
        last = None

        def save(state: Any, progress: dict[str, Any]) -> None:
            nonlocal last
            kept.save(state, progress)
            last = progress["epoch"] + 1, progress["step"]

        def asked() -> bool:  # after some steps, before what was computed is kept
            if cell.get("kill") and last and last[0] > 1 and last[1]:
                cell["say"]({"killed": f"some steps after the checkpoint at epoch {last[0]} step {last[1]}"})
                os.kill(os.getpid(), signal.SIGKILL)
            return False

        resumed = f"epoch {stood.epoch + 1} step {stood.step}" if found else ""
        watcher = fit.FitHooks(save, asked=asked, quiet=True)
        fit.fit_network(model, pipeline.place, data, params.train, watcher, stood, found[0] if found else None)
        if cell.get("kill"):
            raise RuntimeError("it trained to its end before it was killed")
        digest = hashlib.sha256(json.dumps([{**row, "time": 0} for row in stood.history]).encode())
        for array in model.get_weights():
            digest.update(array.tobytes())
        return {"digest": digest.hexdigest(), "resumed": resumed, "loss": stood.history[-1]["val/loss"]}

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
        data = pipeline.data(chosen, cell["images"])
        model = pipeline.network(chosen, data)
        progress = fit.Progress()
        fit.fit_network(model, pipeline.place, data, chosen.train, fit.FitHooks(quiet=True), progress)
        results = {name: np.array([row[name] for row in progress.history]) for name in progress.history[0]}
        results |= {f"weights/{number}": array for number, array in enumerate(model.get_weights())}
        results["answers"] = model.predict(pipeline.images[2], batch_size=1000, verbose=0).argmax(1)
        np.savez(cell["file"], **results)
        return {"ran_on": pipeline.place.devices[0], "loss": progress.history[-1]["val/loss"]}

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
