"""The stage track: MLflow says what the files say."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from keras_pipeline.config.params import Params
from keras_pipeline.core.errors import PipelineError
from keras_pipeline.evaluation.predictions import read_reports
from keras_pipeline.export.manifest import check_exports
from keras_pipeline.records.observer import ChildRun
from keras_pipeline.records.record import RunRecord, check_model, read_record
from keras_pipeline.tracking import live_run, lookup, mirror, runs, waiting
from keras_pipeline.tracking.stores import address, connection
from keras_pipeline.tracking.stores.address import Location
from keras_pipeline.tracking.stores.connection import StoreError
from keras_pipeline.tracking.tags import dvc_experiment
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

    Where nothing is to do, MLflow is not even imported. A store that cannot be used is said in one line and is no
    error: what could not be sent waits, and any later call sends it, of whatever params. Runs that a dead process left
    open are closed. What the folder `checkpoints` has of this training is removed: nothing that DVC ran before this
    stage is run again.
    A `child_run` of a study or search is a run in an experiment of its own.
    """
    location, experiment = address.store_location(address.project_root()), _experiment(params, child_run)
    command = f"{child_run.kind} run {child_run.parent_name}`" if child_run else "track`, or any `dvc repro`,"
    later = f"Nothing is lost: run `keras-pipeline {command} when the store is back"

    def close_dead_runs() -> Iterator[str]:
        with connection.store_calls(location):
            if closed := live_run.close_dead_runs(location):
                yield f"track: {closed} unfinished run(s) of ended processes closed"

    def bring_in_line() -> Iterator[str]:
        try:
            record = _record(models, child_run)
            _check_belongings(record, models, reports)
        except PipelineError:
            with suppress(StoreError):
                yield from close_dead_runs()
            raise
        remove_checkpoints(checkpoints, record["key"])
        state = mirror.mirror_state(location, experiment, params_file, models, reports)
        known = not again and mirror.is_mirrored(location, experiment, record["key"], state)
        if not known and not child_run:  # of which its study keeps the files
            # First: whatever ends this process, the next one has it.
            nonlocal later
            kept = False
            with suppress(OSError):
                kept = waiting.keep_run(location, experiment, record, params_file, models, reports)
            if not kept:
                later = "There was no room to keep it: `keras-pipeline track`, with these files, sends it"
        try:
            yield from close_dead_runs()
            if known:
                yield f"track: MLflow has '{record['name']}' as it is here"
            else:
                mirror.synchronise(
                    *(location, experiment, params, params_file, models, reports, record, state, child_run),
                    dvc_name=dvc_experiment(),
                )
                yield f"track: '{record['name']}' is in MLflow ({location.shown}). Look at it: keras-pipeline ui"
        except Exception:
            waiting.flush_run(location, experiment, record["key"])
            raise
        waiting.forget_run(location, experiment, record["key"])
        if not child_run:
            yield from waiting.send_waiting_runs(location, lambda key: live_run.is_training(location, key))

    _best_effort("track", location, bring_in_line, lambda: later)


def _best_effort(verb: str, location: Location, work: Callable[[], Iterable[str]], later: Callable[[], str]) -> None:
    """Print the lines of `work`; where the store cannot be used, one that says why, and what comes `later`."""
    said: list[str] = []
    try:
        with connection.store_calls(location):
            for line in work():
                said.append(line)  # printed outside: an output that is closed is no fault of the store
    except StoreError as error:
        print(f"{verb}: {error}. {later()}.", file=sys.stderr)
    finally:
        print("".join(f"{line}\n" for line in said), end="")


def is_tracked(params: Params, params_file: Path, models: Path, reports: Path, child_run: ChildRun) -> bool:
    """Whether nothing would be sent of this child_run of a study or search."""
    location, experiment = address.store_location(address.project_root()), _experiment(params, child_run)
    state = mirror.mirror_state(location, experiment, params_file, models, reports)
    return mirror.is_mirrored(location, experiment, _record(models, child_run)["key"], state)


def track_report(
    params: Params,
    kind: str,
    name: str,
    question: str,
    verdict: str,
    metrics: Mapping[str, float],
    paths: Sequence[Path],
) -> None:
    """Keep the report of a study or search with its run: these files, of which the Markdown is its note too. Where
    the store cannot be reached, one line says so.
    """
    location = address.store_location(address.project_root())

    def keep() -> Iterable[str]:
        note = next(path for path in paths if path.suffix == ".md").read_text(encoding="utf-8")
        runs.log_report(location, params.tracking.experiment, kind, name, question, note, verdict, metrics, paths)
        return ()

    later = f"`keras-pipeline {kind} report {name}` sends the report when it is back"
    _best_effort(kind, location, keep, lambda: later)


def track_comparison(params: Params, key: str, paths: Sequence[Path], folder: str) -> None:
    """Keep what a comparison wrote with the run of this key, if MLflow has it; a store that cannot be reached is said
    in one line."""
    location = address.store_location(address.project_root())

    def keep() -> Iterable[str]:
        if lookup.keep_artifacts(location, params.tracking.experiment, key, paths, folder):
            yield f"MLflow:   an artifact of the second run, {folder}/{paths[0].name}"

    _best_effort("compare", location, keep, lambda: "The same command keeps the page there when it is back")


def _experiment(params: Params, child_run: ChildRun | None) -> str:
    name = params.tracking.experiment
    return runs.parent_experiment(name, child_run.kind, child_run.parent_name) if child_run else name


def _check_belongings(record: RunRecord, models: Path, reports: Path) -> None:
    """Raise DataError or ModelFileError where the network, its exports or the reports are not those of the record."""
    if not record.keys() & {"diverged", "pruned"}:
        check_model(record, models / "model.keras")
        read_reports(reports, record["dataset"], record["sha256"]["model"])
        check_exports(models / "export", record["sha256"]["model"])


def _record(models: Path, child_run: ChildRun | None) -> RunRecord:
    record = read_record(models / "run.json")
    return record | {"name": child_run.name} if child_run else record
