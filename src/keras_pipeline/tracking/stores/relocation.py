"""A store whose checkout was moved or copied: MLflow keeps absolute addresses, and would write where it came from."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from keras_pipeline.core.errors import MachineError
from keras_pipeline.tracking.stores import database
from keras_pipeline.tracking.stores.address import Location, file_address, local_path
from keras_pipeline.tracking.stores.connection import StoreError, required_store
from keras_pipeline.tracking.stores.database import Condition

ADDRESSES = {
    "runs": ("artifact_uri", "'/' || run_uuid || '/artifacts'"),
    "logged_models": ("artifact_location", "'/models/' || model_id || '/artifacts'"),
    "model_versions": ("storage_location", "'/models/' || substr(source, 9) || '/artifacts'"),
    "experiments": ("artifact_location", "''"),
}
"""The tables that hold addresses of files: the column, and what follows the folder of all files in it."""


def check_place(location: Location) -> None:
    """Raises StoreError where a local store would keep files in the folder that it was moved or copied from."""
    if foreign := foreign_folders(location):
        raise StoreError(
            f"{location.shown} keeps its files in {next(iter(foreign.values()))}: the store was made there, and moved "
            "or copied here. Nothing is written to either until `keras-pipeline relocate` was run here"
        )


def foreign_folders(location: Location) -> dict[str, Path]:
    """The addresses and folders in which an SQLite store keeps files because it once stood beside them.

    A folder that somebody chose is none of them: it has another name, or no such database stands beside it. Empty where
    the database is not there, or none of MLflow's. Raises what SQLite does.
    """
    file, artifacts = location.database, location.artifacts
    if file is None or artifacts is None or not file.is_file():
        return {}
    found: dict[str, Path] = {}
    with closing(
        sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=database.LOCK_SECONDS)
    ) as opened:
        for address in _roots(opened):
            folder = local_path(address)
            if folder is None or folder.name != artifacts.name or folder.resolve() == artifacts.resolve():
                continue
            if folder.parent.name == artifacts.parent.name or (folder.parent / file.name).exists():
                found[address] = folder
    return found


def relocate_artifacts(location: Location) -> int:
    """Make a local store's artifact addresses point into the folder where it now is; how many were changed.

    Those of other folders, which somebody chose, stay. Raises MachineError when the store is not a local SQLite file,
    or not one of the installed MLflow.
    """
    if location.database is None or location.artifacts is None or not location.database.exists():
        raise MachineError(
            f"{location.shown} is not an SQLite file on this machine, so there is nothing to relocate. "
            "Expected: the store in mlruns/mlflow.db, or MLFLOW_TRACKING_URI=sqlite:///…"
        )
    new = file_address(location.artifacts)
    changed = 0
    with required_store(location):
        found = database.database_condition(location.uri, location.database)
        if found is not Condition.GOOD:
            raise database.unusable_error(found)
        foreign = foreign_folders(location)
        with closing(sqlite3.connect(location.database, timeout=database.LOCK_SECONDS)) as opened, opened:
            for table, (column, _) in ADDRESSES.items():
                for old in foreign:
                    changed += opened.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                    ).rowcount
    return changed


def _roots(opened: sqlite3.Connection) -> Iterator[str]:
    """The addresses of the folders that a store keeps files in, each of which may hold those of many runs."""
    tables = {row[0] for row in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables.issuperset(ADDRESSES):
        return
    for table, (column, rest) in ADDRESSES.items():
        query = (
            f"SELECT DISTINCT substr({column}, 1, length({column}) - length({rest})) FROM {table} "
            f"WHERE substr({column}, -length({rest})) = {rest} OR {rest} = ''"
        )
        yield from (row[0] for row in opened.execute(query) if row[0])
