"""SQLite databases made by hand, and what is found of them."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from keras_pipeline.tracking.stores import connection, database
from keras_pipeline.tracking.stores.database import Condition

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


@contextlib.contextmanager
def watching(look: Callable[[], None]) -> Iterator[None]:
    """Look at what stands on the disk after each statement that may have changed it: a kill there leaves just that."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    looking = False

    def after(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        nonlocal looking
        if not looking and not statement.lstrip().startswith(("PRAGMA", "SELECT")):
            looking = True
            look()
            looking = False

    event.listen(Engine, "after_cursor_execute", after)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", after)


def columns(file: Path) -> dict[str, list[Any]]:
    """What each table and index is made of; the constraints within a table have no order."""
    with closing(sqlite3.connect(file)) as connection:
        names = [
            row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'index')")
        ]
        return {name: connection.execute(f'PRAGMA table_xinfo("{name}")').fetchall() for name in names}


def check_cut_offs(folder: Path, every: int) -> None:
    """Wherever MLflow's making of a store is cut off, at so many'th statements, it is known as half made."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file, cut = folder / "mlflow.db", folder / "cut.db"
    some = {number: folder / f"{number}.db" for number in (1, 100, 300)}
    seen: list[Condition] = []
    count = 0

    def look() -> None:
        nonlocal count
        count += 1
        if count % every == 0:
            copied(file, cut)
            seen.append(found(cut))
        if count in some:
            copied(file, some[count])

    with watching(look):
        SqlAlchemyStore(f"sqlite:///{file}", str(folder / "artifacts")).engine.dispose()  # type: ignore[no-untyped-call]
    copied(file, cut)
    seen.append(found(cut))
    made = seen.index(Condition.GOOD)
    assert made > 400 // every
    assert set(seen[:made]) == {Condition.HALF_MADE}
    assert set(seen[made:]) == {Condition.GOOD}
    connection.start_mlflow()
    for one in some.values():
        assert database.ready_database(f"sqlite:///{one}", one, own=True) is Condition.GOOD
        assert columns(one) == columns(file)
