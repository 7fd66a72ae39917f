"""The database that MLflow keeps runs in, told apart from every other one."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from crafted_databases import COMPANIONS, OLD, WHOLE, craft, found, kept, newest
from keras_pipeline.tracking.stores import database
from keras_pipeline.tracking.stores.database import Condition
from tracking_fixtures import MLFLOW_WARNINGS, contents

if TYPE_CHECKING:
    import sqlalchemy

pytestmark = MLFLOW_WARNINGS


# Told apart


@pytest.mark.parametrize(
    ("schema", "rows", "expected"),
    [
        ("newest", WHOLE, Condition.GOOD),
        ("newest", WHOLE | {"runs": 7}, Condition.GOOD),
        ("newest", {"alembic_version": 1, "experiments": 0}, Condition.GOOD),  # MLflow goes on from there
        (None, {"experiments": 0}, Condition.HALF_MADE),
        (None, {"experiments": 0, "runs": 0, "alembic_version": 0}, Condition.HALF_MADE),
        (OLD, WHOLE | {"experiments": 0}, Condition.HALF_MADE),
        (OLD, WHOLE | {"experiments": 0, "workspaces": 1}, Condition.HALF_MADE),
        ("0123456789ab", WHOLE | {"experiments": 0}, Condition.HALF_MADE),
        (OLD, WHOLE, Condition.OLDER),
        (OLD, WHOLE | {"runs": 7}, Condition.OLDER),
        (None, {"experiments": 1, "runs": 1}, Condition.OLDER),  # before Alembic
        (OLD, {"alembic_version": 1, "_alembic_tmp_experiments": 1, "runs": 7}, Condition.OLDER),  # in an upgrade
        ("0123456789ab", WHOLE, Condition.NEWER),
        (None, {"bookmarks": 3}, Condition.FOREIGN),
        (None, {"bookmarks": 0}, Condition.FOREIGN),  # that it holds nothing yet makes it no store
        ("v3.0.0", {"alembic_version": 1, "studies": 0}, Condition.FOREIGN),
        (None, {"bookmarks": 3, "experiments": 0, "runs": 0}, Condition.FOREIGN),
        ("v3.0.0", {"alembic_version": 1, "studies": 3}, Condition.FOREIGN),  # Optuna uses Alembic too
    ],
)
def test_a_database_is_known_by_its_schema_and_its_rows(
    tmp_path: Path, schema: str | None, rows: dict[str, int], expected: Condition
) -> None:
    file = craft(tmp_path / "100% mine?.db", newest() if schema == "newest" else schema, **rows)
    before = file.read_bytes()
    assert found(file) is expected
    assert kept(tmp_path) == {file.name: before}


def test_what_is_no_database(tmp_path: Path) -> None:
    whole = craft(tmp_path / "whole.db", newest(), **WHOLE | {"runs": 50})
    assert found(tmp_path / "nothing.db") is Condition.ABSENT
    for content, expected in {
        b"": Condition.HALF_MADE,
        b"a text, longer than the head of a database " * 9: Condition.UNREADABLE,
        whole.read_bytes()[:3000]: Condition.UNREADABLE,
        b"\0" * 8192: Condition.UNREADABLE,
    }.items():
        (tmp_path / "x.db").write_bytes(content)
        assert found(tmp_path / "x.db") is expected
    with pytest.raises(ConnectionError, match="is a folder"):
        found(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ConnectionError, match="is a device or a pipe, and no file"):
            found(path)
    with pytest.raises(ConnectionError, match=r"x\.db is no folder that can be written to"):
        found(tmp_path / "x.db" / "y" / "z.db")


def test_one_table_that_is_damaged_is_no_reason_to_take_a_store_for_unreadable(tmp_path: Path) -> None:
    file = craft(tmp_path / "x.db", OLD, **WHOLE)
    content = bytearray(file.read_bytes())
    content[4096:8192] = b"\xff" * 4096  # the page of alembic_version
    file.write_bytes(content)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        found(file)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        database.ready_database(f"sqlite:///{file}", file, own=True)
    assert file.read_bytes() == content


def test_a_locked_database_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = craft(tmp_path / "x.db", OLD, **WHOLE)
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            found(file)


def test_what_a_killed_process_left_half_written_is_taken_back_before_it_is_judged(tmp_path: Path) -> None:
    file = craft(tmp_path / "original.db", newest(), **WHOLE | {"runs": 50})
    torn = tmp_path / "torn" / "x.db"
    torn.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # so that changes go to the file before the commit
        connection.execute("DELETE FROM experiments")
        connection.execute("UPDATE alembic_version SET version_num = ?", (OLD,))
        connection.execute("UPDATE runs SET filling = 'y'")
        for name in ("", "-journal"):
            shutil.copy(f"{file}{name}", f"{torn}{name}")
    assert torn.read_bytes() != file.read_bytes()
    assert found(torn) is Condition.GOOD
    assert kept(torn.parent).keys() == {"x.db"}
    assert contents(torn) == contents(file)


def test_a_server_is_judged_by_mlflow_s_tables_alone(tmp_path: Path) -> None:
    def of_server(name: str, schema: str | None = None, **rows: int) -> Condition:
        file = craft(tmp_path / name, schema, **rows)
        return database._of_server(database._engine(f"sqlite:///{file}"))  # for want of a server

    assert of_server("1", other=5) is Condition.ABSENT
    assert of_server("2", newest(), **WHOLE, other=5) is Condition.GOOD
    assert of_server("3", OLD, **WHOLE | {"experiments": 0}, other=5) is Condition.HALF_MADE
    assert of_server("4", OLD, **WHOLE, other=5) is Condition.OLDER
    assert of_server("5", "0123456789ab", **WHOLE, other=5) is Condition.NEWER


def test_damage_is_found_in_a_database_that_opens(tmp_path: Path) -> None:
    file = craft(tmp_path / "x.db", newest(), **WHOLE | {"runs": 9})
    assert database.find_damage(file) is None
    content = bytearray(file.read_bytes())
    content[-4096:] = b"\xff" * 4096
    file.write_bytes(content)
    assert found(file) is Condition.GOOD
    damage = database.find_damage(file) or ""
    assert "page" in damage.lower()
    assert "\n" not in damage
    assert not damage.startswith("***")  # as SQLite's first line is


# Moved aside, or not


def moved(file: Path, number: int, first: str, what: str) -> str:
    """What is said of it."""
    return (
        f"tracking: {file}{first} was {what}. It is kept as {file.name}.aside-{number}{first}, and a new store is "
        "made. Runs come back from their files: `keras-pipeline track`, `study run`, `search run`.\n"
    )


def test_a_half_made_database_is_moved_with_all_that_sqlite_keeps_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.db"
    for turn in ("first", "second"):
        for name in COMPANIONS:
            Path(f"{file}{name}").write_text(turn + name)
        database._move_aside(file, "half-made")
    assert kept(tmp_path) == {
        f"x.db.aside-{number}{name}": (turn + name).encode()
        for number, turn in ((1, "first"), (2, "second"))
        for name in COMPANIONS
    }
    assert capsys.readouterr().err == moved(file, 1, "", "half-made") + moved(file, 2, "", "half-made")
    database._move_aside(file, "not there")
    assert capsys.readouterr().err == ""


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """For MLflow, whose import takes seconds: what makes the tables of a store; and what happens meanwhile."""
    meanwhile: list[Callable[[], object]] = []

    def make_tables(engine: "sqlalchemy.Engine") -> None:
        with engine.begin() as opened:
            for name in WHOLE:
                opened.exec_driver_sql(f"CREATE TABLE {name} (version_num)")
            opened.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (newest(),))
        for action in meanwhile:
            action()

    monkeypatch.setitem(sys.modules, "mlflow.store.db.utils", types.SimpleNamespace(_initialize_tables=make_tables))
    return meanwhile


@pytest.mark.usefixtures("tables")
def test_a_missing_database_is_made_and_what_is_in_its_place_moved_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.db"
    (tmp_path / ".x.db.new").write_bytes(b"of a killed process " * 99999)
    assert database.ready_database(f"sqlite:///{file}", file, own=False) is Condition.GOOD
    assert kept(tmp_path).keys() == {"x.db"}
    assert capsys.readouterr().err == ""

    craft(file.with_name("y.db"), OLD, **WHOLE | {"experiments": 0}).replace(file)
    half_made = file.read_bytes()
    Path(f"{file}.aside-1-wal").touch()
    assert database.ready_database(f"sqlite:///{file}", file, own=False) is Condition.GOOD
    assert kept(tmp_path).keys() == {"x.db", "x.db.aside-1-wal", "x.db.aside-2"}
    assert (tmp_path / "x.db.aside-2").read_bytes() == half_made
    what = "half-made (a process ended while MLflow made its tables) and holds no run"
    assert capsys.readouterr().err == moved(file, 2, "", what)

    file.write_bytes(b"no database")
    assert database.ready_database(f"sqlite:///{file}", file, own=True) is Condition.GOOD
    assert (tmp_path / "x.db.aside-3").read_bytes() == b"no database"
    assert capsys.readouterr().err == moved(file, 3, "", "no database that SQLite can read, whatever it held")

    file.unlink()
    Path(f"{file}-wal").write_bytes(b"of another database")
    assert database.ready_database(f"sqlite:///{file}", file, own=False) is Condition.GOOD
    assert Path(f"{file}.aside-4-wal").read_bytes() == b"of another database"
    assert capsys.readouterr().err == moved(file, 4, "-wal", "the rest of a database that is gone")


@pytest.mark.parametrize("condition", Condition)
def test_of_a_server_mlflow_makes_what_holds_no_run(condition: Condition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "database_condition", lambda uri, file: condition)
    if condition in (Condition.GOOD, Condition.ABSENT, Condition.HALF_MADE):
        assert database.ready_database("postgresql://h/x", None, own=False) is condition
    else:
        with pytest.raises(ConnectionError, match=f"^it is {condition.value.partition('(')[0]}"):
            database.ready_database("postgresql://h/x", None, own=False)


def test_processes_that_end_or_hide_meanwhile_use_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def open_files(self) -> None:
            raise psutil.NoSuchProcess(1)

    class Hidden:
        def open_files(self) -> None:
            raise psutil.AccessDenied(1)

    monkeypatch.setattr(psutil, "process_iter", lambda: iter([Gone(), Hidden()]))
    assert database._user(tmp_path / "x.db") is None


def test_a_database_that_another_program_makes_meanwhile_is_left_to_it(
    tmp_path: Path, tables: list[Callable[[], object]]
) -> None:
    file = tmp_path / "x.db"
    tables.append(lambda: craft(file, newest(), **WHOLE))
    assert database.ready_database(f"sqlite:///{file}", file, own=True) is Condition.GOOD
    assert kept(tmp_path).keys() == {"x.db"}
    assert contents(file)["experiments"]


def test_a_request_to_end_while_a_store_is_made_cuts_nothing_off(
    tmp_path: Path, tables: list[Callable[[], object]]
) -> None:
    file = tmp_path / "x.db"
    tables.append(lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        database.ready_database(f"sqlite:///{file}", file, own=True)
    assert kept(tmp_path).keys() == set()


@pytest.mark.parametrize(
    ("schema", "rows", "said"),
    [
        (OLD, WHOLE | {"runs": 7}, "of an older MLflow, or its upgrade was cut off"),
        ("0123456789ab", WHOLE | {"runs": 7}, "of a newer MLflow than the installed one"),
        (None, {"bookmarks": 3}, "the database of another program"),
        (None, {}, "no database that SQLite can read, whatever it held"),
    ],
)
def test_what_holds_something_stays_where_it_is(
    tmp_path: Path, schema: str | None, rows: dict[str, int], said: str
) -> None:
    file = tmp_path / "x.db"
    if rows:
        craft(file, schema, **rows)
    else:
        file.write_text("a note of somebody who mistyped MLFLOW_TRACKING_URI " * 9)
    before = file.read_bytes()
    with pytest.raises(ConnectionError, match=f"^it is {said}: `keras-pipeline doctor` says what to do$"):
        database.ready_database(f"sqlite:///{file}", file, own=False)
    assert kept(tmp_path) == {"x.db": before}


def test_a_database_that_another_process_is_making_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = craft(tmp_path / "x.db", OLD, **WHOLE | {"experiments": 0})
    code = """if True:
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1])
        connection.execute("SELECT * FROM experiments").fetchall()
        print("open", flush=True)
        for line in sys.stdin:
            connection.execute(line)
            connection.commit()
            print("done", flush=True)
    """
    arguments = [sys.executable, "-c", code, str(file)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdin
        assert maker.stdout
        assert maker.stdout.readline() == "open\n"
        monkeypatch.setattr(database, "MAKING_SECONDS", 0.3)
        with pytest.raises(ConnectionError, match=f"it is half-made .*, and process {maker.pid} .* has it open"):
            database.ready_database(f"sqlite:///{file}", file, own=True)
        monkeypatch.setattr(database, "MAKING_SECONDS", 60)
        whole = f"UPDATE alembic_version SET version_num = '{newest()}'\n"
        threading.Timer(0.3, lambda: (maker.stdin.write(whole), maker.stdin.flush())).start()  # type: ignore[union-attr]
        assert database.ready_database(f"sqlite:///{file}", file, own=True) is Condition.GOOD
        maker.stdin.close()
    assert kept(tmp_path).keys() == {"x.db"}
