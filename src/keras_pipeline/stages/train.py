"""The stage train: normalized images to a trained network, its history, and the record of the run."""

import os
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pipeline import distribution, files, preparation, record, roll_call, signals, spent, workers
from keras_pipeline.checkpoints import Checkpoints
from keras_pipeline.errors import StoppedError
from keras_pipeline.observer import Observer
from keras_pipeline.params import Params
from keras_pipeline.preparation import Prepared
from keras_pipeline.preprocessing import read_split
from keras_pipeline.tasks import beside_the_loss

if TYPE_CHECKING:
    from keras_pipeline.fitting import Progress
    from keras_pipeline.training import Row
    from keras_pipeline.training_state import State


def launch(params: Params, normalized: Path, models: Path, command: list[str]) -> int:
    """Run `command`, which runs this stage, as all the workers that the params ask for; the exit code."""
    preparation.check(params, normalized)
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
        plan, statistics = preparation.check(params, normalized)
        run = record.begun(params, normalized, statistics, __name__)
        kept = Checkpoints(checkpoints, record.identity(run))
        found = _found(kept, resume=resume)
        splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
        watch = roll_call.attend(plan.cluster, _digests(run, found)) if plan.cluster else None
        distribution.prepare(plan)
        place = distribution.open_distribution(plan)
        ending.callback(place.close)
        prepared = preparation.prepare(params, plan, place, splits, run)
        state, stand = _stand(found, prepared)
        if plan.chief:
            print("\n".join(prepared.summary()), flush=True)
        else:
            observer = Observer()
        try:
            observer.started(run)
            _fit(prepared, stand, state, kept, models / "history.csv", observer)
            if watch:
                watch.leave()
            if not plan.chief:
                return
            trained = prepared.write(models / "model.keras", models / "run.json")
        except BaseException as error:
            killed = isinstance(error, StoppedError) or not isinstance(error, Exception)
            observer.ended("KILLED" if killed else "FAILED", run, None)
            raise
        observer.ended("FINISHED", run, trained)
        _remove(kept)
    best = run["history"][run["best_epoch"] - 1]
    metric = f"val/{beside_the_loss(best)}"
    print(
        f"train: {len(run['history'])} epochs in {run['train_seconds']:.0f} s; weights of epoch "
        f"{run['best_epoch']}, {metric} {best[metric]:.4f}, val/loss {best['val/loss']:.4f}"
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


def _digests(run: dict[str, Any], found: Any) -> dict[str, str]:
    """What all workers must have alike before they compute together."""
    position = f"epoch {found[1]['epoch']} step {found[1]['step']}" if found else "none"
    return {**run["sha256"], "checkpoint": position, "keras": run["versions"]["keras"]}


def _stand(found: Any, prepared: Prepared) -> tuple["State | None", "Progress"]:
    """From where the training goes on, with the record told so.

    What was found is of no use where it was computed on other devices, which `device_type: auto` and `single` choose.
    """
    from keras_pipeline.fitting import Progress

    state: State | None = None
    progress: dict[str, Any] = {}
    devices = list(prepared.place.devices)
    if found:
        state, progress = found
        before = progress.pop("devices")
        if before != devices:
            there, here = ", ".join(before), ", ".join(devices)
            print(f"train: begins anew; the checkpoint is of {there}, this is {here}", file=sys.stderr)
            state, progress = None, {}
    run = prepared.run
    run.update({name: progress.pop(name) for name in record.TAKEN_OVER if name in progress})
    stand = Progress(**progress)
    run["history"] = stand.history
    if state:
        run["resumed"].append(f"epoch {stand.epoch + 1} step {stand.step + 1}")
    return state, stand


def _fit(
    prepared: Prepared, stand: "Progress", state: "State | None", kept: Checkpoints, history: Path, observer: Observer
) -> None:
    """Train to the end, keeping every epoch; a request to end waits for a checkpoint."""
    from keras_pipeline.fitting import NotFiniteError, Watcher

    run, plan = prepared.run, prepared.plan

    def save(state: "State", progress: dict[str, Any]) -> None:
        if plan.chief:
            taken_over = {name: run[name] for name in record.TAKEN_OVER}
            with spent.on("checkpoint"):
                kept.save(state, {**progress, **taken_over, "devices": list(prepared.place.devices)})

    def on_epoch(row: "Row") -> None:
        if plan.chief:
            prepared.write_history(history)
            observer.epoch(row)

    # Workers are stopped together, by whoever started them: one alone would leave the others waiting.
    held: AbstractContextManager[list[int]] = nullcontext([]) if plan.cluster else signals.deferred()
    try:
        with held as requests:
            watcher = Watcher(save, on_epoch, lambda: bool(requests), quiet=not plan.chief)
            try:
                prepared.fit(prepared.params.train, watcher, stand, state)
            finally:
                requests.clear()
    except NotFiniteError as fault:
        raise prepared.explained(fault, kept) from None


def _remove(kept: Checkpoints) -> None:
    try:
        kept.remove()
    except OSError as error:
        print(f"{kept.own}: cannot be removed ({error.strerror}); it is of no more use", file=sys.stderr)
