"""The stage train: normalized images to a trained network, its history, and the record of the run."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pipeline.config.params import Params
from keras_pipeline.config.tasks import format_score, metric_beside_loss
from keras_pipeline.core import files, process
from keras_pipeline.core.errors import StoppedError
from keras_pipeline.data.history import write_history
from keras_pipeline.data.splits import read_split
from keras_pipeline.distribution import launcher, strategies
from keras_pipeline.records import record
from keras_pipeline.records.observer import Observer
from keras_pipeline.records.record import RunRecord
from keras_pipeline.training.checkpoints import Checkpoints, check_progress, remove_checkpoints
from keras_pipeline.training.recorded_training import RecordedTraining, check_training, prepare_recorded_training

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keras_pipeline.training.fit import Progress
    from keras_pipeline.training.state import TrainingState


def launch_training(params: Params, normalized: Path, models: Path, checkpoints: Path, command: list[str]) -> int:
    """Run `command`, which runs this stage, as all the workers that the params ask for; the exit code."""
    check_training(params, normalized)
    with files.lock_folder(models):
        code = launcher.launch_workers(command, params.train.workers, params.train.strategy, os.environ)
        if not code:
            _forget(checkpoints, record.read_record(models / "run.json"))
        return code


def train_network(
    params: Params,
    normalized: Path,
    models: Path,
    observer: Observer,
    checkpoints: Path,
    *,
    resume: bool = True,
    imported: Callable[[], None] = lambda: None,
) -> None:
    """Write history.csv (again after every epoch) and, at the end, model.keras and run.json.

    An interrupted training goes on from its checkpoint (unless not `resume`), to the same bytes and in the same run.
    Every check that needs no framework comes before its import. Of several workers the chief alone writes and reports.
    `imported`: as of `strategies.open_strategy`.
    """
    with ExitStack() as ending:
        if launcher.PARENT not in os.environ:  # else who launched this worker holds the folder
            ending.enter_context(files.lock_folder(models))
        plan, statistics = check_training(params, normalized)
        run = record.begin_record(params, normalized, statistics, __name__)
        kept = Checkpoints(checkpoints, record.training_identity(run))
        checkpoint = _load_checkpoint(kept, resume=resume)
        splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
        strategy = ending.enter_context(strategies.open_strategy(plan, _digests(run, checkpoint), imported))
        training = prepare_recorded_training(params, plan, strategy, splits, run)
        progress, state = _resume_point(checkpoint, training)
        if plan.chief:
            kept.begin(_resume_fields(training))
            print("\n".join(training.summary()), flush=True)
        else:
            observer = Observer()
        try:
            observer.started(run)
            _fit(training, progress, state, kept, models / "history.csv", observer)
            if not plan.chief:
                return
            trained = training.write(models / "model.keras", models / "run.json")
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
        f"{run['best_epoch']}, {metric} {format_score(best[metric])}, val/loss {format_score(best['val/loss'])}"
    )


def _load_checkpoint(kept: Checkpoints, *, resume: bool) -> Any:
    """The arrays and the progress of the training's checkpoint; None and its run where it was begun and kept none yet;
    None where it was not begun, or not `resume`."""
    if not resume:
        kept.remove()
        return None
    if differences := kept.differences():
        print("train: starts a new training; the newest checkpoint is of another one:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in differences), file=sys.stderr, flush=True)
    return kept.latest(check_progress) or ((None, begun) if (begun := kept.begun()) else None)


def _digests(run: RunRecord, checkpoint: Any) -> dict[str, str]:
    """What all workers must have alike before they compute together."""
    position = (
        f"epoch {checkpoint[1]['epoch']} step {checkpoint[1]['step']}" if checkpoint and checkpoint[0] else "none"
    )
    return {**run["sha256"], "checkpoint": position, "keras": run["versions"]["keras"]}


def _resume_point(checkpoint: Any, training: RecordedTraining) -> tuple["Progress", "TrainingState | None"]:
    """From where the training goes on, with the record told so.

    What was found is of no use where it was computed on other devices, which `device_type: auto` and `single` choose.
    """
    from keras_pipeline.training.fit import Progress

    run, devices = training.run, list(training.strategy.devices)
    if checkpoint and checkpoint[1]["devices"] != devices:
        if checkpoint[0]:
            there, here = ", ".join(checkpoint[1]["devices"]), ", ".join(devices)
            print(f"train: starts a new training; the checkpoint is of {there}, this is {here}", file=sys.stderr)
        checkpoint = None
    state, kept = checkpoint or (None, dict[str, Any]())
    if checkpoint:
        record.apply_resume_fields(run, kept)
    progress = Progress(**{name: kept[name] for name in vars(Progress()) if name in kept})
    run["history"] = progress.history
    if checkpoint:
        run["resumed"].append(f"epoch {progress.epoch + 1} step {progress.step + 1}")
    return progress, state


def _resume_fields(training: RecordedTraining) -> dict[str, Any]:
    """What of the record a resumed training takes over, and on which devices it may."""
    return {**record.resume_fields(training.run), "devices": list(training.strategy.devices)}


class _FileWriter(Observer):
    """Writes the checkpoints and history.csv of a training, which is to end when one of `requests` came."""

    def __init__(self, training: RecordedTraining, kept: Checkpoints, history: Path, requests: list[int]) -> None:
        self.training, self.kept, self.history, self.requests = training, kept, history, requests

    def checkpoint(self, state: "Mapping[str, NDArray[Any]]", progress: Mapping[str, Any]) -> None:
        with process.time_part("checkpoint"):
            self.kept.save(state, {**progress, **_resume_fields(self.training)})

    def epoch(self, row: dict[str, float]) -> None:
        write_history(self.history, self.training.run["history"])

    def stop_requested(self) -> bool:
        return bool(self.requests)


def _fit(
    training: RecordedTraining,
    progress: "Progress",
    state: "TrainingState | None",
    kept: Checkpoints,
    history: Path,
    observer: Observer,
) -> None:
    """Train to the end, keeping every epoch; a request to end waits for a checkpoint."""
    from keras_pipeline.training.fit import NotFiniteError

    plan = training.plan
    if plan.chief and progress.history:
        write_history(history, progress.history)  # no epoch may be left to do it
    # Workers are stopped together, by whoever started them: one alone would leave the others waiting.
    held: AbstractContextManager[list[int]] = nullcontext([]) if plan.cluster else process.defer_signals()
    try:
        with held as requests:
            observers = [_FileWriter(training, kept, history, requests), observer] if plan.chief else []
            try:
                training.fit(progress, state, observers, quiet=not plan.chief)
            finally:
                requests.clear()
    except NotFiniteError as fault:
        raise training.diagnose_divergence(fault, kept) from None


def _forget(checkpoints: Path, run: RunRecord) -> None:
    """Remove the checkpoint of a training that is over, but not under DVC: if `dvc repro` ends before it has taken what
    was written, it removes that and runs this stage again, which then goes on from here. So `track` removes it."""
    if "DVC_STAGE" not in os.environ:
        remove_checkpoints(checkpoints, run["key"])
