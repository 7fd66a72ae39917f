"""What the process of a run does: the data, the training, the evaluation and the tracking, as far as they lack."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from keras_pipeline.core import process
from keras_pipeline.core.errors import BusyError, DivergedError, StoppedError
from keras_pipeline.distribution import launcher
from keras_pipeline.records.observer import ChildRun
from keras_pipeline.runs.folders import PRUNED, FailureRecorder, Folders, ResultCache, is_data_made, mark_data_made
from keras_pipeline.runs.run import Run
from keras_pipeline.stages import evaluate, fetch, normalize, track, train


def make_data(folders: Folders, runs: Sequence[Run], downloads: Path) -> None:
    """The arrays of all these runs, as far as they are not there."""
    for params in {folders.normalized(run.params): run.params for run in runs}.values():
        if not is_data_made(folders, params, downloads):
            fetch.fetch_dataset(params, folders.raw(params), downloads)
            normalize.normalize_dataset(params, folders.raw(params), folders.normalized(params))
            mark_data_made(folders, params, downloads)


def is_done(result_cache: ResultCache, run: Run, child_run: ChildRun) -> bool:
    """Whether nothing of a run is left to do."""
    run_folder = result_cache.folders.run(run)
    record = result_cache.record(run)
    if not record or not result_cache.evaluated(run_folder, record):
        return False
    with suppress(OSError):  # of a file that its process writes, which lacks
        return track.is_tracked(
            run.params, run_folder / "params.yaml", run_folder / "models", run_folder / "reports", child_run
        )
    return False


def do_runs(folders: Folders, runs: Sequence[Run], child_run: Callable[[Run], ChildRun]) -> None:
    """Do what is not done of one run, or of several that train together; `child_run`: what each is in MLflow."""
    result_cache = ResultCache(folders)
    untrained = [run for run in runs if not result_cache.record(run)]
    pruned = False
    if len(runs) > 1 and untrained:
        from keras_pipeline.runs.together import train_together

        train_together([(run, folders.run(run) / "models") for run in runs], folders.normalized(runs[0].params))
    elif untrained:
        pruned = _train_alone(folders, runs[0])
    if untrained and not pruned:
        if not all(map(result_cache.record, runs)):
            raise BusyError(
                f"{runs[0].name}: code or data were changed while it trained, so its result is not of those that "
                "are here. Run the same command again."
            )
        if runs[0].params.train.backend != "tensorflow":  # evaluated by TensorFlow, and a process has one backend
            _restart_process()
    for run in runs:
        run_folder = folders.run(run)
        models, reports = run_folder / "models", run_folder / "reports"
        record = result_cache.record(run)
        if record and not result_cache.evaluated(run_folder, record):
            evaluate.evaluate_network(run.params, folders.normalized(run.params), models, reports)
            result_cache.keep_evaluated(run_folder, record)
        track.track_run(
            run.params,
            run_folder / "params.yaml",
            models,
            reports,
            run_folder / "checkpoints",
            child_run=child_run(run),
        )


def _train_alone(folders: Folders, run: Run) -> bool:
    """Train one run; whether its search gave it up."""
    run_folder = folders.run(run)
    (run_folder / PRUNED).unlink(missing_ok=True)  # a word of an earlier time
    try:
        train.train_network(
            run.params,
            folders.normalized(run.params),
            run_folder / "models",
            FailureRecorder(run_folder / "models"),
            run_folder / "checkpoints",
        )
    except DivergedError as error:  # a result like others, which `FailureRecorder` keeps
        print(error)
    except StoppedError:
        if not (run_folder / PRUNED).is_file():
            raise
        shutil.rmtree(run_folder / "checkpoints")  # nobody goes on with it
        return True
    return False


def _restart_process() -> NoReturn:
    """Run the command of this process again, with none of its imports: a process has one backend."""
    command = process.python("-m", "keras_pipeline.cli.main", *sys.argv[1:])
    os.execve(command[0], command, {**os.environ, launcher.PARENT: str(os.getppid())})  # noqa: S606
