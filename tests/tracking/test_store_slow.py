"""The store, made by several processes at once, killed, moved, locked and left half made."""

import contextlib
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import tracking_fixtures
from crafted_databases import copied, kept
from keras_pipeline.cli.overviews import doctor
from keras_pipeline.core import files
from keras_pipeline.tracking import live_run, runs, store
from keras_pipeline.tracking.stores import relocation
from keras_pipeline.tracking.stores.connection import StoreError
from tracked_runs import TRACK, artifacts, observe, output, python, run_of
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, Checkout, contents

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


# What MLflow is told


@pytest.mark.parametrize("left", [None, b""])
def test_four_first_processes_at_once_make_one_experiment(made: Checkout, left: bytes | None) -> None:
    if left is not None:  # of a process that was killed before it made a table
        files.write_atomically(made.database, left)
    code = """if True:
        import os, sys, time
        from pathlib import Path
        import mlflow, sqlalchemy
        from keras_pipeline.tracking import store
        from keras_pipeline.tracking.stores import address
        children = []
        for number in range(4):
            if not (child := os.fork()):
                while not Path("go").exists():
                    pass
                where = address.store_location(address.project_root())
                print(store.connect_store(where, "keras-pipeline").experiment, flush=True)
                os._exit(0)
            children.append(child)
        Path("go").touch()
        sys.exit(max(os.waitpid(child, 0)[1] for child in children))
    """
    assert output(python(code, made.root)) == "1\n" * 4
    rows = contents(made.database)["experiments"]
    assert [row[1] for row in rows] == ["Default", EXPERIMENT]
    assert rows[1][2] == f"file://{made.root}/mlruns/artifacts"
    found = {path.name for path in made.database.parent.iterdir()}
    assert found == {"mlflow.db", ".mlflow.db-lock"} | ({"mlflow.db.aside-1"} if left is not None else set())


def test_relocate_brings_a_moved_stores_artifacts_back(stored: Checkout) -> None:
    stored.track()
    expected = artifacts(stored, run_of(stored))
    with closing(sqlite3.connect(stored.database)) as connection, connection:
        run = connection.execute("SELECT run_uuid FROM runs").fetchone()[0]
        artifact_root = f"file://{stored.root}/mlruns/artifacts"
        connection.execute(
            "INSERT INTO logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms, "
            "last_updated_timestamp_ms, status, lifecycle_stage, source_run_id) "
            "VALUES ('m-1', 1, 'model', ?, 0, 0, 2, 'active', ?)",
            (f"{artifact_root}/models/m-1/artifacts", run),
        )
        connection.execute("UPDATE experiments SET artifact_location = '/kept/elsewhere' WHERE name = 'Default'")
    moved = Checkout(stored.root.rename(stored.root.with_name("with 100% new name")))
    with pytest.raises(StoreError, match=r"/checkout/mlruns/artifacts: the store was made there, and moved or copied"):
        run_of(moved)
    assert relocation.relocate_artifacts(moved.where) == 3  # the experiment, the run and the model
    assert artifacts(moved, run_of(moved)) == expected
    assert relocation.relocate_artifacts(moved.where) == 0
    rows = contents(moved.database)
    assert rows["logged_models"][0][3].endswith("/with%20100%25%20new%20name/mlruns/artifacts/models/m-1/artifacts")
    assert "/kept/elsewhere" in [row[2] for row in rows["experiments"]]


def test_a_copy_in_a_strangely_named_folder_writes_into_itself_alone(
    tmp_path: Path, empty_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a" / "b"
    original = tracking_fixtures.checkout(place / "what? #50%20 and ü", empty_database)
    record = original.write()
    observe(live_run.LiveTracker(original.where, EXPERIMENT), record)
    original.track()
    expected = artifacts(original, run_of(original))
    assert "run.json" in expected
    assert len(list((original.root / "mlruns" / "artifacts").iterdir())) == 1
    copy = Checkout(place / "-copy?x=y&z")
    shutil.copytree(original.root, copy.root)
    before = {path: path.stat().st_mtime_ns for path in original.root.rglob("*")}
    capsys.readouterr()
    copy.write(accuracy=0.5)
    observe(live_run.LiveTracker(copy.where, EXPERIMENT), record)
    copy.track()
    said = capsys.readouterr()
    assert said.err.count("\n") == 2
    assert said.out == ""
    assert [line.partition(" keeps its files in ")[0] for line in said.err.splitlines()] == [
        f"{verb}: sqlite:///{copy.database}" for verb in ("tracking", "track")
    ]
    assert said.err.count(f"{original.root}/mlruns/artifacts: the store was made there, and moved or copied here") == 2
    assert relocation.relocate_artifacts(copy.where) == 2
    code = TRACK + "print(code)"  # in a process of its own: within one, MLflow remembers the folder of a run
    assert "is in MLflow" in output(python(code, copy.root, DVC_ROOT="", MLFLOW_TRACKING_URI=""))
    (sent,) = (copy.root / "mlruns" / "artifacts").glob("*/artifacts/reports/metrics.json")
    assert json.loads(sent.read_text())["test/accuracy"] == 0.5
    assert run_of(copy).data.metrics["test/accuracy"] == 0.5
    assert {path: path.stat().st_mtime_ns for path in original.root.rglob("*")} == before
    assert run_of(original).data.metrics["test/accuracy"] == 0.95
    assert sorted(path.name for path in place.iterdir()) == sorted([original.root.name, copy.root.name])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# While a network trains


@pytest.fixture(scope="module")
def track_of_a_locked_database(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator["subprocess.Popen[str]"]:
    """`keras-pipeline track` where another program keeps the database to itself."""
    checkout = tracking_fixtures.checkout(tmp_path_factory.mktemp("locked") / "checkout", empty_database)
    checkout.write()
    code = "import time; began = time.monotonic(); " + TRACK + "print(code, time.monotonic() - began < 9)"
    with closing(sqlite3.connect(checkout.database)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        environment = {"DVC_ROOT": "", "MLFLOW_TRACKING_URI": "", "DVC_EXP_NAME": ""}
        process = python(code, checkout.root, **environment)
        yield process
        process.kill()
        process.communicate()


def test_a_locked_database_is_waited_for_and_then_said(track_of_a_locked_database: "subprocess.Popen[str]") -> None:
    out, err = track_of_a_locked_database.communicate(timeout=90)
    assert re.fullmatch(r"track: [\d.]+ s: other [\d.]+\n0 True\n", out)
    assert err.count("\n") == 1
    assert "database is locked" in err


def test_a_database_that_is_locked_in_the_midst_of_a_run_is_waited_for_and_then_said(
    stored: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tracking_fixtures.record(stored.params_file)
    tracker = live_run.LiveTracker(stored.where, EXPERIMENT)
    tracker.started(record)
    with closing(sqlite3.connect(stored.database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        tracker.epoch(record["history"][0])
        tracker.ended("FINISHED", record, None)
        assert 2 < time.monotonic() - began < 5.5
    assert re.fullmatch(
        r"tracking: MLflow at \S+ is not available \(.*database is locked\)\..*\n", capsys.readouterr().err
    )
    stored.track()
    assert run_of(stored).info.status == "FINISHED"


KILLED = """if True:
    import os, signal, sys
    import mlflow, sqlalchemy
    import mlflow.store.tracking.sqlalchemy_store
    from keras_pipeline.tracking import store
    from keras_pipeline.tracking.stores import address, database

    where, number = address.store_location(address.project_root()), getattr(signal, sys.argv[1])

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


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -9), ("SIGINT", 130)])
def test_a_killed_maker_leaves_a_whole_store_or_none(fresh: Checkout, name: str, code: int) -> None:
    cases = ["statement:1", "statement:900", "flush:1", "after:1", "after:9"]
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, name, *cases, "after:0"],
        cwd=fresh.root,
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
    assert [row[1] for row in contents(fresh.database)["experiments"]] == ["Default", EXPERIMENT]


@pytest.fixture(scope="module")
def half_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What MLflow alone left when it was killed in the middle of making a store, with the journal of a change."""
    file = tmp_path_factory.mktemp("half-made") / "mlflow.db"
    program = [sys.executable, "-W", "ignore", "-c", tracking_fixtures.MAKER_THAT_IS_KILLED]
    done = subprocess.run([*program, f"sqlite:///{file}"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert kept(file.parent).keys() == {"mlflow.db", "mlflow.db-journal"}
    return file


@pytest.mark.parametrize("named", [None, "sqlite:///elsewhere/runs.db", "link"])
def test_a_run_comes_back_where_an_earlier_process_left_a_half_made_store(
    fresh: Checkout,
    half_made: Path,
    named: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = fresh.database
    if named == "link":
        file = fresh.root / "disk" / "big.db"
        fresh.database.symlink_to(file)
    elif named:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
        file = fresh.root / "elsewhere" / "runs.db"
    file.parent.mkdir(exist_ok=True)
    copied(half_made, file)
    fresh.write()
    with contextlib.chdir(fresh.root):
        good, text = doctor._store()
    assert not good
    assert text.endswith(
        "is half-made (a process ended while MLflow made its tables) and holds no run: `keras-pipeline track` moves it "
        "aside and makes a new one"
    )
    copied(half_made, file)  # whoever looks takes the half-written change back
    fresh.track()
    out, err = capsys.readouterr()
    assert err.startswith(f"tracking: {file} was half-made (a process ended")
    assert err.count("\n") == 1
    assert "is in MLflow" in out
    assert fresh.database.is_symlink() == (named == "link")
    reached = store.connect_store(fresh.where, EXPERIMENT)
    [run] = reached.client.search_runs([reached.experiment])
    assert (run.info.status, run.data.tags[runs.KEY]) == ("FINISHED", "a" * 32)
    assert [one.step for one in reached.client.get_metric_history(run.info.run_id, "val/loss")] == [1, 2, 3]
    with contextlib.chdir(fresh.root):
        assert doctor._store() == (True, f"{fresh.where.uri} opens, with 2 experiments")
    assert kept(file.parent).keys() >= {file.name, f"{file.name}.aside-1"}
    assert f"{file.name}-journal" not in kept(file.parent)
    fresh.track()
    assert capsys.readouterr() == ("track: MLflow has 'digits mlp' as it is here\n", "")
