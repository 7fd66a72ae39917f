"""The database in which MLflow keeps runs: made whole or not at all, and known for what it is before MLflow opens it.

MLflow makes its tables in 1,700 statements, each of which stays when the process ends before the next one; what is
left then, MLflow refuses for ever. In the same way it upgrades, in place and unasked, what an older MLflow made.
"""

import functools
import importlib.metadata
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil

from keras_pipeline.core import process
from keras_pipeline.tracking.stores import address, connection

if TYPE_CHECKING:
    import sqlalchemy

LOCK_SECONDS = 3
"""For how long another process may lock a database."""
MAKING_SECONDS = 20
"""For how long another process may be making one."""
WITHOUT_RUNS = {"alembic_version", "workspaces"}
"""The tables in which MLflow leaves rows while it makes a store."""
FIRST_TABLE = "experiments"
"""Which MLflow makes before all others."""
COMPANIONS = ("", "-journal", "-wal", "-shm")
"""What SQLite keeps under a database's name: beside another database of that name they would spoil it."""


class Condition(Enum):
    """What a database is to the installed MLflow; the value is what is said of it."""

    GOOD = "good"
    ABSENT = "not there yet"
    HALF_MADE = "half-made (a process ended while MLflow made its tables) and holds no run"
    UNREADABLE = "no database that SQLite can read, whatever it held"
    OLDER = "of an older MLflow, or its upgrade was cut off"
    NEWER = "of a newer MLflow than the installed one"
    FOREIGN = "the database of another program"


def database_condition(uri: str, file: Path | None) -> Condition:
    """What stands at `uri`; `file`: the SQLite database that it names, if it names one. Changes nothing there.

    An address that is no database's is GOOD: MLflow will tell. Raises what SQLite or SQLAlchemy do where it cannot
    be reached: no permission, locked for LOCK_SECONDS, no server; ConnectionError for what is no file, and where Python
    has no driver; TimeoutError where a server does not answer.
    """
    if file is None:
        if uri.partition(":")[0].partition("+")[0] not in address.SERVERS:
            return Condition.GOOD
        engine = _engine(uri)  # a second of its own, which is not the server's
        return process.within(connection.CALL_SECONDS, lambda: _of_server(engine))
    if not file.exists():
        folder = next(parent for parent in file.parents if parent.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise ConnectionError(f"{folder} is no folder that can be written to")
        return Condition.ABSENT
    if not file.is_file():
        raise ConnectionError(f"{file} is {'a folder' if file.is_dir() else 'a device or a pipe'}, and no file")
    # Not read-only: what a killed process left half written, SQLite takes back as soon as it may write.
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True, timeout=LOCK_SECONDS)) as opened:

        def ask(query: str) -> list[Any]:
            return [row[0] for row in opened.execute(query)]

        try:
            names = set(ask("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"))
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                return Condition.UNREADABLE
            raise
        return _judged(names, ask, lambda name: bool(ask(f'SELECT 1 FROM "{name}" LIMIT 1')))


def _engine(uri: str) -> "sqlalchemy.Engine":
    import sqlalchemy

    try:
        return sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    except ModuleNotFoundError as error:
        raise ConnectionError(f"it needs the Python package {error.name}: pip install {error.name}") from None


def _of_server(engine: "sqlalchemy.Engine") -> Condition:
    import sqlalchemy

    with engine.connect() as opened:

        def ask(query: str) -> list[Any]:
            return list(opened.exec_driver_sql(query).scalars())

        # Other programs may have tables there too.
        names = {"alembic_version", "experiments", "runs"} & set(sqlalchemy.inspect(opened).get_table_names())
        if not names:
            return Condition.ABSENT
        return _judged(names, ask, lambda name: ask(f"SELECT count(*) FROM {name}")[0] > 0)


def _judged(names: set[str], ask: Callable[[str], list[Any]], holds: Callable[[str], bool]) -> Condition:
    """Of a database with tables of these `names`; `ask`: the first column of a query's answer; `holds`: whether a
    table has a row."""
    schema = set(ask("SELECT version_num FROM alembic_version")) if "alembic_version" in names else set()
    newest, known = _schemas()
    if schema == {newest}:
        return Condition.GOOD
    holding = {name for name in names - WITHOUT_RUNS if holds(name)}
    if not holding and (FIRST_TABLE in names or not names - WITHOUT_RUNS):
        return Condition.HALF_MADE
    # A whole store has an experiment; an upgrade moves the rows to a table of the other name, and renames that.
    if not holding & {"experiments", "_alembic_tmp_experiments"}:
        return Condition.FOREIGN
    return Condition.OLDER if schema <= known else Condition.NEWER


@functools.cache
def _schemas() -> tuple[str, set[str]]:
    """The schema of the installed MLflow, and all that it knows; from its source, since its import takes seconds."""
    migrations = Path(str(importlib.metadata.distribution("mlflow").locate_file("mlflow/store/db_migrations/versions")))
    text = "".join(path.read_text(encoding="utf-8") for path in migrations.glob("*.py"))
    known = set(re.findall(r'^revision = "(\w+)"', text, re.MULTILINE))
    (newest,) = known - set(re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE))
    return newest, known


def find_damage(file: Path) -> str | None:
    """What SQLite finds wrong in a database that it can open, in one line. Raises what it does where nobody may write
    there, or another process does for LOCK_SECONDS."""
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True, timeout=LOCK_SECONDS)) as opened:
        opened.execute("BEGIN IMMEDIATE")
        said = str(opened.execute("PRAGMA quick_check(1)").fetchone()[0])
        return None if said == "ok" else said.split("\n")[-1]


@functools.cache
def make_mlflow_tire_soon() -> None:
    """Let MLflow give up a database as soon as this module does: alone it tries ten times to connect, 100 s in all, and
    waits 20 s for a lock."""
    from mlflow.store.db import utils
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    utils.MAX_RETRY_COUNT = 1

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def wait_less(connection: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> tuple[str, Any]:
        if statement.startswith("PRAGMA busy_timeout"):
            statement = f"PRAGMA busy_timeout = {1000 * LOCK_SECONDS}"
        return statement, parameters


def ready_database(uri: str, file: Path | None, *, own: bool) -> Condition:
    """See to it that MLflow finds a database that it can use; its condition. The caller holds a lock.

    An SQLite database that is missing is made. A half-made one is moved aside first, and so is an unreadable file
    where nobody but this program puts one (`own`). A server's may also be ABSENT or HALF_MADE: MLflow makes it,
    or makes it whole if it can. Raises ConnectionError for any other condition.
    """
    movable = {Condition.HALF_MADE, Condition.UNREADABLE} if own else {Condition.HALF_MADE}
    deadline = time.monotonic() + MAKING_SECONDS
    found = database_condition(uri, file)
    while file and found in movable | {Condition.ABSENT}:
        if found is Condition.ABSENT:
            _make(file.resolve())
        elif (user := _user(file.resolve())) is None:
            _move_aside(file.resolve(), found.value)
        elif time.monotonic() > deadline:
            raise ConnectionError(f"it is {found.value}, and process {user.pid} ({user.name()}) has it open")
        else:
            time.sleep(0.2)  # MLflow may be making it there
        found = database_condition(uri, file)
    if found is Condition.GOOD or (file is None and found in (Condition.ABSENT, Condition.HALF_MADE)):
        return found
    raise unusable_error(found)


def unusable_error(found: Condition) -> ConnectionError:
    """What is raised where MLflow cannot use a database of this condition."""
    return ConnectionError(f"it is {found.value}: `keras-pipeline doctor` says what to do")


def _make(file: Path) -> None:
    """Let MLflow make its tables in memory, and write them to `file` at once, unless another program made one there.

    However this process ends, `file` is whole or not there.
    """
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    # An interruption in the middle would end as an error of SQLAlchemy's, and pass for a store that is not available.
    with process.defer_signals(), closing(sqlite3.connect(":memory:")) as memory:
        engine = sqlalchemy.create_engine("sqlite://", creator=lambda: memory, poolclass=sqlalchemy.StaticPool)
        _initialize_tables(engine)  # type: ignore[no-untyped-call]
        content = memory.serialize()
    whole = file.with_name(f".{file.name}.new")  # of one name: the next call writes over what a killed one left
    with whole.open("wb") as output:
        output.write(content)
        output.flush()
        os.fsync(output.fileno())
    if file.exists():
        whole.unlink()
        return
    _move_aside(file, "the rest of a database that is gone")
    whole.replace(file)  # SQLite flushes the folder with its first change


def _move_aside(file: Path, what: str) -> None:
    """Give `file` and what SQLite keeps beside it, where there is anything, a name that is free; says so."""
    there = [name for name in COMPANIONS if Path(f"{file}{name}").exists()]
    if not there:
        return
    number = 1
    while any(Path(f"{file}.aside-{number}{name}").exists() for name in COMPANIONS):
        number += 1
    for name in there:
        Path(f"{file}{name}").rename(f"{file}.aside-{number}{name}")
    print(
        f"tracking: {file}{there[0]} was {what}. It is kept as {file.name}.aside-{number}{there[0]}, and a new store "
        "is made. Runs come back from their files: `keras-pipeline track`, `study run`, `search run`.",
        file=sys.stderr,
    )


def _user(file: Path) -> psutil.Process | None:
    """A process that has `file` open, if one that can be seen has."""
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if any(opened.path == str(file) for opened in one.open_files()):
                return one
    return None
