"""The stage train: normalized images to a trained network, its history, and the record of the run."""

import os
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pipeline import distribution, files, preparation, record, roll_call, signals, spent, workers
from keras_pipeline.checkpoints import Checkpoints, forget
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


def launch(params: Params, normalized: Path, models: Path, checkpoints: Path, command: list[str]) -> int:
    """Run `command`, which runs this stage, as all the workers that the params ask for; the exit code."""
    preparation.check(params, normalized)
    with files.lock(models):
        code = workers.launch(command, params.train.workers, params.train.strategy, os.environ)
        if not code:
            _forget(checkpoints, files.read_json(models / "run.json", written_by="train"))
        return code


def run(
    params: Params, normalized: Path, models: Path, observer: Observer, checkpoints: Path, *, resume: bool = True
) -> None:
    """Write history.csv (again after every epoch) and, at the end, model.keras and run.json.

    An interrupted training goes on from its checkpoint (unless not `resume`), to the same bytes and in the same run.
    Every check that needs no framework comes before its import. Of several workers the chief alone writes and reports.
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
            kept.begin(_taken_over(prepared))
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
        if workers.PARENT not in os.environ:
            _forget(checkpoints, run)
    best = run["history"][run["best_epoch"] - 1]
    metric = f"val/{beside_the_loss(best)}"
    print(
        f"train: {len(run['history'])} epochs in {run['train_seconds']:.0f} s; weights of epoch "
        f"{run['best_epoch']}, {metric} {best[metric]:.4f}, val/loss {best['val/loss']:.4f}"
    )


def _found(kept: Checkpoints, *, resume: bool) -> Any:
    """The arrays and the progress of the training's checkpoint; None and its run where it was begun and kept none yet;
    None where it was not begun, or not `resume`."""
    if not resume:
        kept.remove()
        return None
    if differences := kept.differences():
        print("train: begins anew; the newest checkpoint is of another training:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in differences), file=sys.stderr, flush=True)
    return kept.latest() or ((None, begun) if (begun := kept.begun()) else None)


def _digests(run: dict[str, Any], found: Any) -> dict[str, str]:
    """What all workers must have alike before they compute together."""
    position = f"epoch {found[1]['epoch']} step {found[1]['step']}" if found and found[0] else "none"
    return {**run["sha256"], "checkpoint": position, "keras": run["versions"]["keras"]}


def _stand(found: Any, prepared: Prepared) -> tuple["State | None", "Progress"]:
    """From where the training goes on, with the record told so.

    What was found is of no use where it was computed on other devices, which `device_type: auto` and `single` choose.
    """
    from keras_pipeline.fitting import Progress

    run, devices = prepared.run, list(prepared.place.devices)
    if found and found[1]["devices"] != devices:
        if found[0]:
            there, here = ", ".join(found[1]["devices"]), ", ".join(devices)
            print(f"train: begins anew; the checkpoint is of {there}, this is {here}", file=sys.stderr)
        found = None
    state, progress = found or (None, dict[str, Any]())
    run.update({name: progress[name] for name in record.TAKEN_OVER if name in progress})
    stand = Progress(**{name: progress[name] for name in vars(Progress()) if name in progress})
    run["history"] = stand.history
    if found:
        run["resumed"].append(f"epoch {stand.epoch + 1} step {stand.step + 1}")
    return state, stand


def _taken_over(prepared: Prepared) -> dict[str, Any]:
    """What of the record a resumed training takes over, and on which devices it may."""
    return {**{name: prepared.run[name] for name in record.TAKEN_OVER}, "devices": list(prepared.place.devices)}


def _fit(
    prepared: Prepared, stand: "Progress", state: "State | None", kept: Checkpoints, history: Path, observer: Observer
) -> None:
    """Train to the end, keeping every epoch; a request to end waits for a checkpoint."""
    from keras_pipeline.fitting import NotFiniteError, Watcher

    plan = prepared.plan
    if plan.chief and stand.history:
        prepared.write_history(history)  # no epoch may be left to do it

    def save(state: "State", progress: dict[str, Any]) -> None:
        if plan.chief:
            with spent.on("checkpoint"):
                kept.save(state, {**progress, **_taken_over(prepared)})

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


def _forget(checkpoints: Path, run: dict[str, Any]) -> None:
    """Remove the checkpoint of a training that nobody will run again. Of DVC this is known when it runs the next stage:
    until then it may end and, later, remove all that was written and run this one again. So `track` removes it."""
    if "DVC_STAGE" not in os.environ:
        forget(checkpoints, run["key"])
