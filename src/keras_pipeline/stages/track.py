"""The stage track: MLflow says what the files say."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_pipeline.config.params import Params
from keras_pipeline.core.errors import DataError, masked
from keras_pipeline.records.observer import ChildRun
from keras_pipeline.records.record import RunRecord, read_record
from keras_pipeline.tracking import live_run, lookup, mirror, runs, store
from keras_pipeline.training.checkpoints import remove_checkpoints


def track_run(
    params: Params,
    params_file: Path,
    models: Path,
    reports: Path,
    checkpoints: Path,
    *,
    again: bool = False,
    child_run: ChildRun | None = None,
) -> None:
    """Bring MLflow's run of the trained model in line with the files, if it is not (or `again`).

    Where nothing is to do, MLflow is not even imported. A store that cannot be reached is said in one line
    and is no error: the next call sends what is missing. Runs that a dead process left open are closed. What the
    folder `checkpoints` has of this training is removed: nothing that DVC ran before this stage is run again.
    A `child_run` of a study or search is a run in an experiment of its own.
    """
    location, experiment = store.store_location(store.project_root()), _experiment(params, child_run)
    try:
        closed = live_run.close_dead_runs(location)
        if closed:
            print(f"track: {closed} unfinished run(s) of ended processes closed")
        record = _record(models, child_run)
        remove_checkpoints(checkpoints, record["key"])
        state = mirror.mirror_state(location, experiment, params_file, models / "run.json", reports)
        if not again and mirror.is_mirrored(location, experiment, record["key"], state):
            print(f"track: MLflow has '{record['name']}' as it is here")
            return
        mirror.synchronise(location, experiment, params, params_file, models, reports, record, state, child_run)
        print(f"track: '{record['name']}' is in MLflow ({masked(location.uri)}). Look at it: keras-pipeline ui")
    except DataError:
        raise
    except Exception as error:  # whatever MLflow raises
        print(
            f"track: MLflow at {masked(location.uri)} is not available ({store.failure_reason(error)}). Nothing is "
            f"lost: run `keras-pipeline {f'{child_run.kind} run {child_run.parent_name}' if child_run else 'track'}`"
            f"{'' if child_run else ', or the next `dvc repro`,'} when the store is back.",
            file=sys.stderr,
        )


def is_tracked(params: Params, params_file: Path, models: Path, reports: Path, child_run: ChildRun) -> bool:
    """Whether nothing would be sent of this child_run of a study or search."""
    location, experiment = store.store_location(store.project_root()), _experiment(params, child_run)
    state = mirror.mirror_state(location, experiment, params_file, models / "run.json", reports)
    return mirror.is_mirrored(location, experiment, _record(models, child_run)["key"], state)


def track_report(
    params: Params, kind: str, name: str, question: str, metrics: Mapping[str, float], paths: Sequence[Path]
) -> None:
    """Keep the report of a study or search with its run: these files, of which the Markdown is its note too. Where
    the store cannot be reached, one line says so.
    """
    location = store.store_location(store.project_root())
    try:
        note = next(path for path in paths if path.suffix == ".md").read_text(encoding="utf-8")
        runs.log_report(location, params.tracking.experiment, kind, name, question, note, metrics, paths)
    except Exception as error:  # whatever MLflow raises
        print(
            f"{kind}: MLflow at {masked(location.uri)} is not available ({store.failure_reason(error)}). "
            f"`keras-pipeline {kind} report {name}` sends the report when it is back.",
            file=sys.stderr,
        )


def track_comparison(params: Params, key: str, paths: Sequence[Path], folder: str) -> None:
    """Keep what a comparison wrote with the run of this key, if MLflow has it; a store that cannot be reached is said
    in one line."""
    location = store.store_location(store.project_root())
    try:
        if lookup.keep_artifacts(location, params.tracking.experiment, key, paths, folder):
            print(f"MLflow:   an artifact of B's run, {folder}/{paths[0].name}")
    except Exception as error:  # whatever MLflow raises
        print(
            f"compare: MLflow at {masked(location.uri)} is not available ({store.failure_reason(error)}). "
            "The same command keeps the page there when it is back.",
            file=sys.stderr,
        )


def _experiment(params: Params, child_run: ChildRun | None) -> str:
    name = params.tracking.experiment
    return runs.parent_experiment(name, child_run.kind, child_run.parent_name) if child_run else name


def _record(models: Path, child_run: ChildRun | None) -> RunRecord:
    record = read_record(models / "run.json")
    return record | {"name": child_run.name} if child_run else record
