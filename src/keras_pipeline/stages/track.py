"""The stage track: MLflow says what the files say."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_pipeline import files, provenance
from keras_pipeline.checkpoints import forget
from keras_pipeline.errors import DataError, masked
from keras_pipeline.params import Params
from keras_pipeline.studies import Member
from keras_pipeline.tracking import live, lookup, members, mirror, store


def run(
    params: Params,
    params_file: Path,
    models: Path,
    reports: Path,
    checkpoints: Path,
    *,
    again: bool = False,
    member: Member | None = None,
) -> None:
    """Bring MLflow's run of the trained model in line with the files, if it is not (or `again`).

    Where nothing is to do, MLflow is not even imported. A store that cannot be reached is said in one line
    and is no error: the next call sends what is missing. Runs that a dead process left open are closed. What the
    folder `checkpoints` has of this training is removed: nothing that DVC ran before this stage is run again.
    A `member` of a study or search is a run in an experiment of its own.
    """
    where, experiment = store.location(store.project_root()), _experiment(params, member)
    try:
        closed = live.repair(where)
        if closed:
            print(f"track: {closed} unfinished run(s) of ended processes closed")
        record = _record(models, member)
        forget(checkpoints, record["key"])
        now = mirror.state(where, experiment, params_file, models / "run.json", reports)
        if not again and mirror.in_line(where, experiment, record["key"], now):
            print(f"track: MLflow has '{record['name']}' as it is here")
            return
        mirror.synchronise(where, experiment, params, params_file, models, reports, record, now, member)
        print(f"track: '{record['name']}' is in MLflow ({masked(where.uri)}). Look at it: keras-pipeline ui")
    except DataError:
        raise
    except Exception as error:  # whatever MLflow raises
        print(
            f"track: MLflow at {masked(where.uri)} is not available ({store.reason(error)}). Nothing is lost: run "
            f"`keras-pipeline {f'{member.kind} run {member.whole}' if member else 'track'}`"
            f"{'' if member else ', or the next `dvc repro`,'} when the store is back.",
            file=sys.stderr,
        )


def in_line(params: Params, params_file: Path, models: Path, reports: Path, member: Member) -> bool:
    """Whether nothing would be sent of this member of a study or search."""
    where, experiment = store.location(store.project_root()), _experiment(params, member)
    now = mirror.state(where, experiment, params_file, models / "run.json", reports)
    return mirror.in_line(where, experiment, _record(models, member)["key"], now)


def answer(
    params: Params, kind: str, name: str, question: str, metrics: Mapping[str, float], paths: Sequence[Path]
) -> None:
    """Keep the report of a study or search with its run: these files, of which the Markdown is its note too. Where
    the store cannot be reached, one line says so.
    """
    where = store.location(store.project_root())
    try:
        note = next(path for path in paths if path.suffix == ".md").read_text(encoding="utf-8")
        members.log_answer(where, params.tracking.experiment, kind, name, question, note, metrics, paths)
    except Exception as error:  # whatever MLflow raises
        print(
            f"{kind}: MLflow at {masked(where.uri)} is not available ({store.reason(error)}). "
            f"`keras-pipeline {kind} report {name}` sends the report when it is back.",
            file=sys.stderr,
        )


def comparison(params: Params, key: str, paths: Sequence[Path], folder: str) -> None:
    """Keep what a comparison wrote with the run of this key, if MLflow has it; a store that cannot be reached is said
    in one line."""
    where = store.location(store.project_root())
    try:
        if lookup.keep(where, params.tracking.experiment, key, paths, folder):
            print(f"MLflow:   an artifact of B's run, {folder}/{paths[0].name}")
    except Exception as error:  # whatever MLflow raises
        print(
            f"compare: MLflow at {masked(where.uri)} is not available ({store.reason(error)}). "
            "The same command keeps the page there when it is back.",
            file=sys.stderr,
        )


def _experiment(params: Params, member: Member | None) -> str:
    name = params.tracking.experiment
    return members.experiment(name, member.kind, member.whole) if member else name


def _record(models: Path, member: Member | None) -> dict[str, Any]:
    record: dict[str, Any] = files.read_json(models / "run.json", written_by="train", keys=provenance.RECORD)
    return record | {"name": member.name} if member else record
