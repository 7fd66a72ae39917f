"""The stage train: normalized images to a trained network, its history, and the record of the run."""

import csv
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from keras_pipeline import architectures, distribution, files, layers, record, signals, workers
from keras_pipeline.checkpoints import Checkpoints
from keras_pipeline.errors import DivergedError, MachineError, StoppedError
from keras_pipeline.params import IMAGE_SHAPE, Params, Train
from keras_pipeline.preprocessing import STATISTICS, read_split

if TYPE_CHECKING:
    import keras

    from keras_pipeline.training import Row


class Observer(Protocol):
    """Whoever looks on while a network trains. Nothing it does may raise or change the training."""

    def started(self, run: dict[str, Any]) -> None:
        """Training begins, or goes on where `resumed` says so; `run` is the record as far as it is known."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done: the row of `fitting.fit`."""

    def ended(self, status: str, run: dict[str, Any], model: "keras.Sequential | None") -> None:
        """Training is over: FINISHED with the network, or FAILED or KILLED without one."""


class NoObserver:
    """Nobody looks on."""

    def started(self, run: dict[str, Any]) -> None:
        """Nothing happens."""

    def epoch(self, row: dict[str, float]) -> None:
        """Nothing happens."""

    def ended(self, status: str, run: dict[str, Any], model: "keras.Sequential | None") -> None:
        """Nothing happens."""


def check(params: Params, normalized: Path) -> tuple[distribution.Plan, dict[str, Any]]:
    """Every check that needs no framework: what will train, and the statistics of what it will train on."""
    statistics = files.read_json(normalized / "statistics.json", written_by="normalize", keys=STATISTICS)
    plan = distribution.plan(params.train, statistics["images"], os.environ)
    check_memory(params, plan.batch_size)
    return plan, statistics


def launch(params: Params, normalized: Path, models: Path, command: list[str]) -> int:
    """Run `command`, which runs this stage, as all the workers that the params ask for; the exit code."""
    check(params, normalized)
    with files.lock(models):
        return workers.launch(command, params.train.workers, params.train.strategy, os.environ)


def run(
    params: Params, normalized: Path, models: Path, observer: Observer, checkpoints: Path, *, resume: bool = True
) -> None:
    """Write history.csv (again after every epoch) and, at the end, model.keras and run.json.

    An interrupted training goes on from its checkpoint (unless not `resume`), to the same bytes. Every check
    that needs no framework comes before its import. Of several workers the chief alone writes and reports.
    """
    with ExitStack() as ending:
        if workers.PARENT not in os.environ:  # else who launched this worker holds the folder
            ending.enter_context(files.lock(models))
        plan, statistics = check(params, normalized)
        run = record.begun(params, normalized, statistics, __name__)
        kept = Checkpoints(checkpoints, record.identity(run))
        found = _found(kept, resume=resume)
        splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
        watch = workers.roll_call(plan.cluster, _digests(run, found)) if plan.cluster else None
        if not plan.chief:
            observer = NoObserver()
        distribution.prepare(plan)
        place = distribution.open_distribution(plan)
        ending.callback(place.close)

        from keras_pipeline import diagnosis, fitting, training

        classes = len(statistics["class_names"])
        weights = training.class_weights(splits[0].labels, classes, params.train.class_weights)
        data = training.Data(splits[0], splits[1], weights, params.seed, plan.batch_size, plan.validation_batch)

        def build(train: Train, place: distribution.Distribution) -> "keras.Sequential":
            return training.new_network(params.model, train, params.seed, place, data.steps, classes)

        model = build(params.train, place)
        run["strategy"] = record.strategy(plan, place, statistics=params.model.batch_normalized)
        run["weights"] = model.count_params()
        state, progress = _of_these_devices(found, place)
        run |= {name: progress.pop(name) for name in record.TAKEN_OVER if name in progress}
        stand = fitting.Progress(**progress)
        run["history"] = stand.history
        if state:
            run["resumed"].append(f"epoch {stand.epoch + 1} step {stand.step + 1}")
        if plan.chief:
            print("\n".join(_summary(params, plan, place, run)), flush=True)

        def save(state: fitting.State, progress: dict[str, Any]) -> None:
            if plan.chief:
                taken_over = {name: run[name] for name in record.TAKEN_OVER}
                kept.save(state, {**progress, **taken_over, "devices": list(place.devices)})

        def on_epoch(row: "Row") -> None:
            if plan.chief:
                _write_history(models / "history.csv", stand.history)
                observer.epoch(row)

        try:
            observer.started(run)
            # Workers are stopped together, by whoever started them: one alone would leave the others waiting.
            held: AbstractContextManager[list[int]] = nullcontext([]) if plan.cluster else signals.deferred()
            try:
                with held as requests:
                    watcher = fitting.Watcher(save, on_epoch, lambda: bool(requests), quiet=not plan.chief)
                    try:
                        fitting.fit(model, place, data, params.train, watcher, stand, state)
                    finally:
                        requests.clear()
            except fitting.NotFiniteError as fault:
                run["diverged"] = fault.received  # all that is known, should the search be interrupted
                found_out = diagnosis.explain(fault, kept, build, place, data, params.train)
                run["diverged"] = found_out.cause
                raise DivergedError(found_out.message) from None
            if watch:
                watch.leave()
            if not plan.chief:
                return
            run |= {"ended": time.time(), "train_seconds": stand.seconds}
            run["best_epoch"] = training.best_epoch(stand.history, params.train.early_stopping)
            place.close()
            trained = _write(params, model, classes, run, models)
        except BaseException as error:
            killed = isinstance(error, StoppedError) or not isinstance(error, Exception)
            observer.ended("KILLED" if killed else "FAILED", run, None)
            raise
        observer.ended("FINISHED", run, trained)
        kept.remove()
    best = run["history"][run["best_epoch"] - 1]
    print(
        f"train: {len(run['history'])} epochs in {run['train_seconds']:.0f} s; weights of epoch "
        f"{run['best_epoch']}, val/accuracy {best['val/accuracy']:.4f}, val/loss {best['val/loss']:.4f}"
    )


def _found(kept: Checkpoints, *, resume: bool) -> Any:
    """The arrays and the progress of the training's checkpoint; None where there is none, or not `resume`."""
    if not resume:
        kept.remove()
        return None
    if differences := kept.differences():
        print("train: begins anew; the newest checkpoint is of another training:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in differences), file=sys.stderr, flush=True)
    return kept.latest()


def _of_these_devices(found: Any, place: distribution.Distribution) -> tuple[Any, dict[str, Any]]:
    """What was found, unless it was computed on other devices, which `device_type: auto` and `single` can choose."""
    if not found:
        return None, {}
    state, progress = found
    before, now = progress.pop("devices"), list(place.devices)
    if before == now:
        return state, progress
    print(f"train: begins anew; the checkpoint is of {', '.join(before)}, this is {', '.join(now)}", file=sys.stderr)
    return None, {}


def _digests(run: dict[str, Any], found: Any) -> dict[str, str]:
    """What all workers must have alike before they compute together."""
    position = f"epoch {found[1]['epoch']} step {found[1]['step']}" if found else "none"
    return {**run["sha256"], "checkpoint": position, "keras": run["versions"]["keras"]}


def _write(
    params: Params, model: "keras.Sequential", classes: int, run: dict[str, Any], models: Path
) -> "keras.Sequential":
    """Write the network and then the record; the network as it is kept: one copy without strategy, optimizer,
    synchronized BatchNormalization or the state of random generators."""
    from keras_pipeline import model_file

    trained = architectures.build(params.model, IMAGE_SHAPE, classes)
    trained.set_weights(model.get_weights())
    model_file.save(trained, models / "model.keras")
    run["sha256"]["model"] = files.sha256(models / "model.keras")
    files.write_json(models / "run.json", run)
    return trained


def check_memory(params: Params, batch_size: int) -> None:
    """Raise MachineError when a training step cannot fit into this machine's memory by the least estimate."""
    hidden = architectures.hidden_layers(params.model)
    needed = layers.training_memory(hidden, IMAGE_SHAPE, batch_size)
    available = psutil.virtual_memory().total
    if needed > available:
        raise MachineError(
            f"params.yaml: model: a training step needs at least {needed / 1e9:.1f} GB of memory "
            f"({layers.weight_count(hidden, IMAGE_SHAPE):,} weights, batches of {batch_size}), this machine has "
            f"{available / 1e9:.1f} GB. Use fewer units, filters or layers, or a smaller train.batch_size."
        )


def _summary(
    params: Params, plan: distribution.Plan, place: distribution.Distribution, run: dict[str, Any]
) -> Iterator[str]:
    """What will be trained, on what, and what of it is worth a second look."""
    images, where = run["dataset"]["images"], run["strategy"]
    needed = layers.training_memory(
        architectures.hidden_layers(params.model), IMAGE_SHAPE, plan.batch_size // place.replicas
    )
    yield (
        f"train: {params.model.architecture}, {run['weights']:,} weights, at least {needed / 1e6:.0f} MB a replica; "
        f"{images['train']:,} training and {images['validation']:,} validation images of {run['dataset']['dataset']}"
    )
    share = f", {where['batch_per_replica']} on each of {where['replicas']} replicas" if where["replicas"] > 1 else ""
    of_each = " of each worker" if where["workers"] > 1 else ""
    yield (
        f"train: {where['backend']}, strategy {where['name']} on {', '.join(where['devices'])}{of_each}; "
        f"batches of {plan.batch_size}{share}"
    )
    if where["replicas"] > 1 and params.model.batch_normalized:
        yield f"train: BatchNormalization's statistics: {where['batch_statistics']}"
    elif where["replicas"] > 1:
        yield "train: no BatchNormalization in this network, so train.batch_statistics changes nothing"
    if place.asked:
        yield f"train: {place.asked} was asked for and is not there; one device trains instead, as params.yaml allows"
    if params.train.precision != "float32" and where["devices"][0].startswith("/cpu"):
        yield f"train: {params.train.precision} is slower than float32 on a CPU, and less exact"
    if run["resumed"]:
        yield f"train: goes on from its checkpoint at {run['resumed'][-1]}, in the same run"


def _write_history(path: Path, history: list[dict[str, float]]) -> None:
    """All epochs as CSV, without times: the same training gives the same bytes."""
    text = io.StringIO()
    columns = [name for name in history[0] if name != "time"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    files.write_atomically(path, text.getvalue().encode())
