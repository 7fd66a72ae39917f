"""The stage train: normalized images to a trained network, its history, and the record of the run."""

import os
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pipeline.config.params import Params
from keras_pipeline.config.tasks import metric_beside_loss
from keras_pipeline.core import files, process
from keras_pipeline.core.errors import StoppedError
from keras_pipeline.data.history import write_history
from keras_pipeline.data.splits import read_split
from keras_pipeline.distribution import cluster, launcher, strategies
from keras_pipeline.records import record
from keras_pipeline.records.observer import Observer
from keras_pipeline.records.record import RunRecord
from keras_pipeline.training import prepared
from keras_pipeline.training.checkpoints import Checkpoints, remove_checkpoints
from keras_pipeline.training.prepared import Prepared, check_training, prepare_training

if TYPE_CHECKING:
    from keras_pipeline.training.batches import Row
    from keras_pipeline.training.fit import Progress
    from keras_pipeline.training.state import TrainingState


def launch_training(params: Params, normalized: Path, models: Path, checkpoints: Path, command: list[str]) -> int:
    """Run `command`, which runs this stage, as all the workers that the params ask for; the exit code."""
    prepared.check_training(params, normalized)
    with files.lock_folder(models):
        code = launcher.launch_workers(command, params.train.workers, params.train.strategy, os.environ)
        if not code:
            _forget(checkpoints, files.read_json(models / "run.json", written_by="train"))
        return code


def train_network(
    params: Params, normalized: Path, models: Path, observer: Observer, checkpoints: Path, *, resume: bool = True
) -> None:
    """Write history.csv (again after every epoch) and, at the end, model.keras and run.json.

    An interrupted training goes on from its checkpoint (unless not `resume`), to the same bytes and in the same run.
    Every check that needs no framework comes before its import. Of several workers the chief alone writes and reports.
    """
    with ExitStack() as ending:
        if launcher.PARENT not in os.environ:  # else who launched this worker holds the folder
            ending.enter_context(files.lock_folder(models))
        plan, statistics = check_training(params, normalized)
        run = record.begin_record(params, normalized, statistics, __name__)
        kept = Checkpoints(checkpoints, record.training_identity(run))
        found = _found(kept, resume=resume)
        splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
        watch = cluster.meet_workers(plan.cluster, _digests(run, found)) if plan.cluster else None
        strategies.set_environment(plan)
        strategy = strategies.open_strategy(plan)
        ending.callback(strategy.close)
        prepared = prepare_training(params, plan, strategy, splits, run)
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
        if launcher.PARENT not in os.environ:
            _forget(checkpoints, run)
    best = record.best_row(run)
    metric = f"val/{metric_beside_loss(best)}"
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


def _digests(run: RunRecord, found: Any) -> dict[str, str]:
    """What all workers must have alike before they compute together."""
    position = f"epoch {found[1]['epoch']} step {found[1]['step']}" if found and found[0] else "none"
    return {**run["sha256"], "checkpoint": position, "keras": run["versions"]["keras"]}


def _stand(found: Any, prepared: Prepared) -> tuple["TrainingState | None", "Progress"]:
    """From where the training goes on, with the record told so.

    What was found is of no use where it was computed on other devices, which `device_type: auto` and `single` choose.
    """
    from keras_pipeline.training.fit import Progress

    run, devices = prepared.run, list(prepared.strategy.devices)
    if found and found[1]["devices"] != devices:
        if found[0]:
            there, here = ", ".join(found[1]["devices"]), ", ".join(devices)
            print(f"train: begins anew; the checkpoint is of {there}, this is {here}", file=sys.stderr)
        found = None
    state, progress = found or (None, dict[str, Any]())
    if found:
        record.take_over(run, progress)
    stand = Progress(**{name: progress[name] for name in vars(Progress()) if name in progress})
    run["history"] = stand.history
    if found:
        run["resumed"].append(f"epoch {stand.epoch + 1} step {stand.step + 1}")
    return state, stand


def _taken_over(prepared: Prepared) -> dict[str, Any]:
    """What of the record a resumed training takes over, and on which devices it may."""
    return {**record.taken_over(prepared.run), "devices": list(prepared.strategy.devices)}


def _fit(
    prepared: Prepared,
    stand: "Progress",
    state: "TrainingState | None",
    kept: Checkpoints,
    history: Path,
    observer: Observer,
) -> None:
    """Train to the end, keeping every epoch; a request to end waits for a checkpoint."""
    from keras_pipeline.training.fit import FitHooks, NotFiniteError

    plan = prepared.plan
    if plan.chief and stand.history:
        write_history(history, prepared.run["history"])  # no epoch may be left to do it

    def save(state: "TrainingState", progress: dict[str, Any]) -> None:
        if plan.chief:
            with process.time_part("checkpoint"):
                kept.save(state, {**progress, **_taken_over(prepared)})

    def on_epoch(row: "Row") -> None:
        if plan.chief:
            write_history(history, prepared.run["history"])
            observer.epoch(row)

    # Workers are stopped together, by whoever started them: one alone would leave the others waiting.
    held: AbstractContextManager[list[int]] = nullcontext([]) if plan.cluster else process.defer_signals()
    try:
        with held as requests:
            hooks = FitHooks(save, on_epoch, lambda: bool(requests), quiet=not plan.chief)
            try:
                prepared.fit(prepared.params.train, hooks, stand, state)
            finally:
                requests.clear()
    except NotFiniteError as fault:
        raise prepared.explained(fault, kept) from None


def _forget(checkpoints: Path, run: RunRecord) -> None:
    """Remove the checkpoint of a training that nobody will run again. Of DVC this is known when it runs the next stage:
    until then it may end and, later, remove all that was written and run this one again. So `track` removes it."""
    if "DVC_STAGE" not in os.environ:
        remove_checkpoints(checkpoints, run["key"])
