"""Whether anything is to be sent to MLflow."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

import tracking_fixtures
from keras_pipeline.core import files
from keras_pipeline.tracking import mirror
from tracked_runs import KEY, output, python, state_of
from tracking_fixtures import MLFLOW_WARNINGS, Checkout

pytestmark = MLFLOW_WARNINGS


# Where the store is


def test_no_decision_needs_mlflow(made: Checkout) -> None:
    made.write()
    code = """if True:
        import sys
        from pathlib import Path
        from keras_pipeline.checks.params import load_params
        from keras_pipeline.tracking import live_run, mirror
        from keras_pipeline.tracking.stores import address
        where = address.store_location(address.project_root())
        paths = Path("params.yaml"), Path("models"), Path("reports")
        now = mirror.mirror_state(where, load_params(paths[0]).tracking.experiment, *paths)
        told = mirror.is_mirrored(where, "keras-pipeline", "a", now)
        print(told, live_run.close_dead_runs(where), {"mlflow", "tensorflow"} & set(sys.modules))
    """
    assert output(python(code, made.root)) == "False 0 set()\n"


# Whether anything is to be sent, and who is alive: without MLflow


def fake_store(checkout: Checkout, key: str = KEY) -> None:
    """A database with as much of MLflow's schema as is looked at, and the files of its run."""
    for name in ("run/run.json", "model/MLmodel"):
        files.write_atomically(checkout.root / "mlruns" / name, b"")
    with closing(sqlite3.connect(checkout.database)) as connection, connection:
        connection.executescript("""
            CREATE TABLE tags (key, value, run_uuid);
            CREATE TABLE runs (run_uuid, status, lifecycle_stage, artifact_uri, experiment_id);
            CREATE TABLE experiments (experiment_id, name, lifecycle_stage);
            CREATE TABLE logged_models (source_run_id, artifact_location);
        """)
        connection.execute("INSERT INTO tags VALUES ('pipeline.key', ?, 'run')", (key,))
        uri = f"file://{checkout.root}/mlruns"
        connection.execute("INSERT INTO runs VALUES ('run', 'FINISHED', 'active', ?, 1)", (f"{uri}/run",))
        connection.execute("INSERT INTO experiments VALUES (1, 'mine', 'active')")
        connection.execute("INSERT INTO logged_models VALUES ('run', ?)", (f"{uri}/model",))


@pytest.mark.parametrize(
    ("stamp", "experiment", "expected"),
    [
        ('{"state": "now", "experiment": null}', None, True),
        ('{"state": "now", "experiment": "x-1"}', None, True),
        ('{"state": "now", "experiment": "x-1"}', "x-1", True),
        ('{"state": "now", "experiment": "x-1"}', "x-2", False),
        ('{"state": "then", "experiment": null}', None, False),
        ('{"state": "now"}', None, False),
        ('{"state": "no', None, False),
        ("[]", None, False),
        ("", None, False),
    ],
)
def test_the_stamp_says_what_was_sent_last(made: Checkout, stamp: str, experiment: str | None, expected: bool) -> None:
    fake_store(made)
    files.write_atomically(mirror._stamp(made.where, "mine", KEY), stamp.encode())
    if experiment:
        os.environ["DVC_EXP_NAME"] = experiment
    assert mirror.is_mirrored(made.where, "mine", KEY, "now") is expected


def test_a_stamp_is_not_believed_where_the_run_is_gone(made: Checkout) -> None:
    files.write_atomically(mirror._stamp(made.where, "mine", KEY), b'{"state": "now", "experiment": null}')
    assert not mirror.is_mirrored(made.where, "mine", KEY, "now")
    fake_store(made, key="b" * 32)
    assert not mirror.is_mirrored(made.where, "mine", KEY, "now")
    made.database.write_bytes(b"no database")
    assert not mirror.is_mirrored(made.where, "mine", KEY, "now")
    os.environ["MLFLOW_TRACKING_URI"] = "http://mlflow.example"
    assert mirror.is_mirrored(made.where, "mine", KEY, "now")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs SET lifecycle_stage = 'deleted'",
        "UPDATE experiments SET lifecycle_stage = 'deleted'",
        "UPDATE experiments SET name = 'renamed'",
        "UPDATE runs SET status = 'RUNNING'",
        "UPDATE runs SET artifact_uri = artifact_uri || '-removed'",
        "UPDATE logged_models SET artifact_location = artifact_location || '-removed'",
        "DELETE FROM tags",
    ],
)
def test_a_stamp_is_not_believed_where_the_page_shows_the_run_no_more_or_not_whole(made: Checkout, change: str) -> None:
    fake_store(made)
    files.write_atomically(mirror._stamp(made.where, "mine", KEY), b'{"state": "now", "experiment": null}')
    assert mirror.is_mirrored(made.where, "mine", KEY, "now")
    with closing(sqlite3.connect(made.database)) as connection, connection:
        connection.execute(change)
    assert not mirror.is_mirrored(made.where, "mine", KEY, "now")


def test_a_run_that_is_whole_once_and_files_elsewhere_are_enough(made: Checkout) -> None:
    fake_store(made)
    files.write_atomically(mirror._stamp(made.where, "mine", KEY), b'{"state": "now", "experiment": null}')
    for change in (
        "INSERT INTO logged_models VALUES ('run', '/removed')",
        "UPDATE runs SET artifact_uri = 's3://bucket/run'",
        "DELETE FROM logged_models",
    ):
        with closing(sqlite3.connect(made.database)) as connection, connection:
            connection.execute(change)
        assert mirror.is_mirrored(made.where, "mine", KEY, "now")


def test_the_state_is_of_everything_that_is_sent(made: Checkout) -> None:
    def changed(change: Callable[[], object]) -> bool:
        before = state_of(made)
        change()
        return state_of(made) != before

    made.write()
    reports = made.root / "reports"
    assert not changed(lambda: made.write())
    assert changed(lambda: made.write(accuracy=0.5))
    assert changed(lambda: made.write(shade=9))
    assert changed(lambda: (reports / "new.csv").write_text("x"))
    assert changed(lambda: (reports / "new.csv").rename(reports / "newer.csv"))
    assert not changed(lambda: (reports / ".lock").write_text("3 4"))
    assert changed(lambda: made.set_params({"evaluate.calibration_bins": 7}))
    assert changed(lambda: made.set_params({"tracking.experiment": "other"}))
    assert changed(lambda: made.write(tracking_fixtures.record(made.params_file, weights=1)))
    assert changed(lambda: os.environ.update(MLFLOW_TRACKING_URI="http://mlflow.example"))
