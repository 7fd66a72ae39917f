"""The database that MLflow keeps runs in: made whole or not at all, and told apart from every other one."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import tracking_fixtures
from keras_pipeline.cli import doctor
from keras_pipeline.core.errors import MachineError
from keras_pipeline.tracking import database, runs, store, ui
from keras_pipeline.tracking.database import Condition
from tracking_fixtures import EXPERIMENT, Checkout, contents

pytestmark = pytest.mark.filterwarnings(
    "ignore:The .*noload.* loader strategy is deprecated",  # MLflow with SQLAlchemy 2.1
    "ignore:.*Any type hint is inferred as AnyType",  # MLflow, of its own functions
)

OLD = "451aebb31d03"
"""The first of MLflow's schemas."""
COMPANIONS = ("", "-journal", "-wal", "-shm")
"""What SQLite keeps under a database's name."""
WHOLE = {"alembic_version": 1, "experiments": 1, "runs": 0}


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Afterwards as before, since MLflow writes there too."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def made(tmp_path: Path) -> Checkout:
    """A checkout without a store."""
    checkout = tracking_fixtures.checkout(tmp_path / "checkout")
    checkout.database.parent.mkdir()
    return checkout


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
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        found(tmp_path)


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
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.1)
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
        return database._of_server(f"sqlite:///{craft(tmp_path / name, schema, **rows)}")  # for want of a server

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
    assert "page" in (database.find_damage(file) or "").lower()


# Moved aside, or not


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
    assert capsys.readouterr().err.splitlines() == [
        f"tracking: {file} was half-made. It is kept as x.db.aside-{number}, and a new store is made. Runs come back "
        "from their files: `keras-pipeline track`, `study run`, `search run`."
        for number in (1, 2)
    ]
    database._move_aside(file, "not there")
    assert capsys.readouterr().err == ""


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
        monkeypatch.setattr(database, "WAIT_SECONDS", 0.3)
        with pytest.raises(ConnectionError, match=f"it is half-made .*, and process {maker.pid} .* has it open"):
            database.ready_database(f"sqlite:///{file}", file, own=True)
        monkeypatch.setattr(database, "WAIT_SECONDS", 60)
        maker.stdin.write(f"UPDATE alembic_version SET version_num = '{newest()}'\n")
        maker.stdin.flush()
        assert database.ready_database(f"sqlite:///{file}", file, own=True) is Condition.GOOD
        maker.stdin.close()
    assert kept(tmp_path).keys() == {"x.db"}


@pytest.mark.parametrize("given", ["sqlite:///other/x.db", "sqlite:///other/x.db?timeout=9"])
def test_a_store_that_the_user_named_is_not_our_own_place(
    made: Checkout, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    assert made.where.own
    assert Path(store._lock(made.where).lock_file) == made.root / "mlruns" / ".mlflow.db-lock"
    (made.root / "other").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert made.where.database == made.root / "other" / "x.db"
    assert not made.where.own
    # Beside the database: another checkout that names it, too, has to wait.
    assert Path(store._lock(made.where).lock_file) == made.root / "other" / ".x.db-lock"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != made.root / "other")
    assert Path(store._lock(made.where).lock_file) == made.root / "mlruns" / ".store-lock"


def test_a_half_made_store_is_not_relocated(made: Checkout) -> None:
    craft(made.database, OLD, **WHOLE | {"experiments": 0})
    with pytest.raises(MachineError, match=r"is not available \(it is half-made"):
        store.relocate_artifacts(made.where)
    made.database.write_bytes(b"no database" * 99)
    with pytest.raises(MachineError, match=r"is not available \(it is no database that SQLite can read"):
        store.relocate_artifacts(made.where)


# What MLflow makes, at each of its statements


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


def copied(file: Path, target: Path) -> None:
    for name in COMPANIONS:
        Path(f"{target}{name}").unlink(missing_ok=True)
        if Path(f"{file}{name}").exists():
            shutil.copy(f"{file}{name}", f"{target}{name}")


def columns(file: Path) -> dict[str, list[Any]]:
    """What each table and index is made of; the constraints within a table have no order."""
    with closing(sqlite3.connect(file)) as connection:
        names = [
            row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'index')")
        ]
        return {name: connection.execute(f'PRAGMA table_xinfo("{name}")').fetchall() for name in names}


@pytest.mark.slow
def test_the_schemas_are_those_that_mlflow_knows() -> None:
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    scripts = ScriptDirectory.from_config(utils._get_alembic_config(""))
    assert database._schemas() == (scripts.get_current_head(), {one.revision for one in scripts.walk_revisions()})


@pytest.mark.slow
def test_wherever_mlflow_s_making_of_a_store_is_cut_off_it_is_recognised(
    tmp_path: Path,
) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file, cut = tmp_path / "mlflow.db", tmp_path / "cut.db"
    some = {number: tmp_path / f"{number}.db" for number in (1, 100, 300)}
    seen: list[Condition] = []

    def look() -> None:
        copied(file, cut)
        seen.append(found(cut))
        if len(seen) in some:
            copied(file, some[len(seen)])

    with watching(look):
        SqlAlchemyStore(f"sqlite:///{file}", str(tmp_path / "artifacts")).engine.dispose()  # type: ignore[no-untyped-call]
    made = seen.index(Condition.GOOD)
    assert made > 400
    assert set(seen[:made]) == {Condition.HALF_MADE}
    assert set(seen[made:]) == {Condition.GOOD}
    store._start()
    for one in some.values():
        assert database.ready_database(f"sqlite:///{one}", one, own=True) is Condition.GOOD
        assert columns(one) == columns(file)


@pytest.fixture
def of_an_older_mlflow(tmp_path: Path) -> Path:
    """A store as MLflow 0.9 made it, with one run."""
    import sqlalchemy
    from mlflow.store.tracking.dbmodels.initial_models import Base

    file = tmp_path / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO experiments VALUES (0, 'Default', '/artifacts', 'active')")
        connection.exec_driver_sql(
            "INSERT INTO runs (run_uuid, name, experiment_id, status, artifact_uri, lifecycle_stage) "
            "VALUES ('r', 'old', 0, 'FINISHED', '/artifacts', 'active')"
        )
    engine.dispose()
    return file


@pytest.mark.slow
def test_wherever_an_upgrade_is_cut_off_the_store_counts_as_one_with_runs(
    of_an_older_mlflow: Path, tmp_path: Path
) -> None:
    import sqlalchemy
    from mlflow.store.db import utils

    file, cut = of_an_older_mlflow, tmp_path / "cut.db"
    seen: list[Condition] = []

    def look() -> None:
        copied(file, cut)
        seen.append(found(cut))

    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    with watching(look):
        utils._upgrade_db(engine)
    engine.dispose()
    assert len(seen) > 400
    assert set(seen[:-1]) == {Condition.OLDER}
    assert found(file) is Condition.GOOD
    assert [row[0] for row in contents(file)["runs"]] == ["r"]


@pytest.mark.slow
def test_an_older_store_is_left_alone_until_the_user_upgrades_it_with_the_command_of_the_doctor(
    made: Checkout, of_an_older_mlflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(of_an_older_mlflow, made.database)
    before = made.database.read_bytes()
    made.write()
    made.track()
    told = f"MLflow at {made.where.uri} is not available (it is of an older MLflow, or its upgrade was cut off: "
    assert capsys.readouterr().err.startswith(f"track: {told}`keras-pipeline doctor` says what to do). Nothing is lost")
    with contextlib.chdir(made.root):
        with pytest.raises(MachineError) as refused:
            ui.serve_ui(EXPERIMENT, 0, browser=False)
        good, text = doctor._store()
    assert str(refused.value).startswith(told)
    assert not good
    assert made.database.read_bytes() == before
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(text.rpartition(": ")[2], shell=True, env={**os.environ, "PATH": path}, check=True, timeout=240)
    assert Path(f"{made.database}.old").read_bytes() == before
    made.track()
    assert "is in MLflow" in capsys.readouterr().out
    [new] = {row[0] for row in contents(made.database)["runs"]} - {"r"}
    assert new


# Killed


KILLED = """if True:
    import os, signal, sys
    import mlflow, sqlalchemy
    import mlflow.store.tracking.sqlalchemy_store
    from keras_pipeline.tracking import database; from keras_pipeline.tracking import store

    where, number = store.store_location(store.project_root()), getattr(signal, sys.argv[1])

    def made(place, count):
        def hit(*arguments):
            nonlocal count
            if place != "after" or where.database.exists():
                count -= 1
                if count == 0:
                    os.kill(os.getpid(), number)

        if place == "flush":
            flush = os.fsync
            os.fsync = lambda descriptor: (hit(), flush(descriptor))
        else:
            sqlalchemy.event.listen(sqlalchemy.engine.Engine, "after_cursor_execute", hit)
        store.connect_store(where, "keras-pipeline")

    for case in sys.argv[2:]:
        place, count = case.split(":")
        child = os.fork()
        if not child:
            signal.signal(signal.SIGINT, signal.SIG_DFL if number == signal.SIGKILL else signal.default_int_handler)
            try:
                made(place, int(count))
            except KeyboardInterrupt:
                os._exit(130)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        names = sorted(path.name for path in where.database.parent.iterdir())
        print(case, code, f"{database.database_condition(where.uri, where.database).name}:", *names, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -9), ("SIGINT", 130)])
def test_a_killed_maker_leaves_a_whole_store_or_none(made: Checkout, name: str, code: int) -> None:
    cases = ["statement:1", "statement:900", "flush:1", "after:1", "after:9"]
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, name, *cases, "after:0"],
        cwd=made.root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.splitlines() == [
        f"statement:1 {code} ABSENT: .mlflow.db-lock",
        f"statement:900 {code} ABSENT: .mlflow.db-lock",
        f"flush:1 {code} ABSENT: .mlflow.db-lock .mlflow.db.new",
        f"after:1 {code} GOOD: .mlflow.db-lock mlflow.db",
        f"after:9 {code} GOOD: .mlflow.db-lock mlflow.db",
        "after:0 0 GOOD: .mlflow.db-lock mlflow.db",
    ]
    assert [row[1] for row in contents(made.database)["experiments"]] == ["Default", EXPERIMENT]


@pytest.fixture(scope="module")
def half_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What MLflow alone left when it was killed in the middle of making a store, with the journal of a change."""
    file = tmp_path_factory.mktemp("half-made") / "mlflow.db"
    program = [sys.executable, "-W", "ignore", "-c", tracking_fixtures.MAKER_THAT_IS_KILLED]
    done = subprocess.run([*program, f"sqlite:///{file}"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert kept(file.parent).keys() == {"mlflow.db", "mlflow.db-journal"}
    return file


@pytest.mark.slow
@pytest.mark.parametrize("named", [None, "sqlite:///elsewhere/runs.db", "link"])
def test_a_run_comes_back_where_an_earlier_process_left_a_half_made_store(
    made: Checkout,
    half_made: Path,
    named: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = made.database
    if named == "link":
        file = made.root / "disk" / "big.db"
        made.database.symlink_to(file)
    elif named:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
        file = made.root / "elsewhere" / "runs.db"
    file.parent.mkdir(exist_ok=True)
    copied(half_made, file)
    made.write()
    with contextlib.chdir(made.root):
        good, text = doctor._store()
    assert not good
    assert text.endswith(
        "is half-made (a process ended while MLflow made its tables) and holds no run: `keras-pipeline track` moves it "
        "aside and makes a new one"
    )
    copied(half_made, file)  # whoever looks takes the half-written change back
    made.track()
    out, err = capsys.readouterr()
    assert err.startswith(f"tracking: {file} was half-made (a process ended")
    assert err.count("\n") == 1
    assert "is in MLflow" in out
    assert made.database.is_symlink() == (named == "link")
    reached = store.connect_store(made.where, EXPERIMENT)
    [run] = reached.client.search_runs([reached.experiment])
    assert (run.info.status, run.data.tags[runs.KEY]) == ("FINISHED", "a" * 32)
    assert [one.step for one in reached.client.get_metric_history(run.info.run_id, "val/loss")] == [1, 2, 3]
    with contextlib.chdir(made.root):
        assert doctor._store() == (True, f"{made.where.uri} opens, with 2 experiments")
    assert kept(file.parent).keys() >= {file.name, f"{file.name}.aside-1"}
    assert f"{file.name}-journal" not in kept(file.parent)
    made.track()
    assert capsys.readouterr() == ("track: MLflow has 'digits mlp' as it is here\n", "")
