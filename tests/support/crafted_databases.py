"""SQLite databases made by hand, and what is found of them."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from keras_pipeline.tracking import database
from keras_pipeline.tracking.database import Condition

OLD = "451aebb31d03"
"""The first of MLflow's schemas."""
COMPANIONS = ("", "-journal", "-wal", "-shm")
"""What SQLite keeps under a database's name."""
WHOLE = {"alembic_version": 1, "experiments": 1, "runs": 0}


def craft(file: Path, schema: str | None = None, **rows: int) -> Path:
    """An SQLite database with tables of so many rows, and the schema's name as Alembic keeps it."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for name, count in rows.items():
            connection.execute(f"CREATE TABLE {name} (version_num, filling)")
            connection.executemany(f"INSERT INTO {name} VALUES (?, ?)", [(schema, "x" * 3000)] * count)
    return file


def newest() -> str:
    return database._schemas()[0]


def found(file: Path) -> Condition:
    return database.database_condition(f"sqlite:///{file}", file)


def kept(folder: Path) -> dict[str, bytes]:
    """The files of a folder, but for locks."""
    found = (path for path in folder.iterdir() if path.is_file() and not path.name.endswith("-lock"))
    return {path.name: path.read_bytes() for path in found}


def copied(file: Path, target: Path) -> None:
    for name in COMPANIONS:
        Path(f"{target}{name}").unlink(missing_ok=True)
        if Path(f"{file}{name}").exists():
            shutil.copy(f"{file}{name}", f"{target}{name}")
