"""A run in MLflow while its network trains, whatever the server and the process do."""

import contextlib
import json
import os
import re
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import fault_server
import tracking_fixtures
from keras_pipeline.tracking import live_run, runs, store
from keras_pipeline.tracking.stores import connection
from places import SUPPORT
from tracked_runs import CURVES, KEY, artifacts, mark, observe, python, run_of, series, wait_until_told, write_mark
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, SECRET, Checkout, TrackingServer, contents

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


# What MLflow is told


def test_a_deleted_experiment_is_said_and_hurts_no_training(
    stored: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = store.connect_store(stored.where, EXPERIMENT)
    reached.client.delete_experiment(reached.experiment)
    dead = write_mark(stored, json.dumps(mark(pid=2**22 + 1)), "b" * 32)
    stored.track()
    assert "the MLflow experiment 'keras-pipeline' was deleted. Restore it" in capsys.readouterr().err
    assert not dead.exists()
    tracker = live_run.LiveTracker(stored.where, EXPERIMENT)
    observe(tracker, tracking_fixtures.record(stored.params_file))
    assert capsys.readouterr().err.count("\n") == 1
    stored.set_params({"tracking.experiment": "another"})
    stored.track()
    reached = store.connect_store(stored.where, "another")
    assert [run.data.tags[runs.KEY] for run in reached.client.search_runs([reached.experiment])] == [KEY]


# While a network trains


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_training_is_seen_while_it_goes(stored: Checkout, status: str, capsys: pytest.CaptureFixture[str]) -> None:
    record = tracking_fixtures.record(stored.params_file)
    marks = stored.root / "mlruns" / "alive"

    def look(epoch: int) -> None:
        run = run_of(stored)
        assert run.info.status == "RUNNING"
        assert run.info.run_name.startswith("batch_size=128 learning_rate=0.001 · digits mlp ")
        assert len(series(stored, run)["val/loss"]) == epoch - 1
        assert [path.stem for path in marks.iterdir()] == [KEY]
        assert live_run.find_dead_runs(stored.where) == []

    observe(live_run.LiveTracker(stored.where, EXPERIMENT), record, status, look)
    run = run_of(stored)
    assert run.info.status == status
    assert len(run.data.params) == len(record["params"])
    assert {name: len(rows) for name, rows in series(stored, run).items()} == dict.fromkeys(CURVES, 3)
    assert list(marks.iterdir()) == []
    assert not any(thread.name == "SystemMetricsMonitor" for thread in threading.enumerate())
    assert capsys.readouterr() == ("", "")


def test_a_training_that_goes_on_counts_its_machine_s_steps_on_and_has_the_tags_of_now(
    stored: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_run, "SYSTEM_METRICS_SECONDS", 0.1)
    first = tracking_fixtures.record(stored.params_file)
    second = {**first, "resumed": ["epoch 2 step 1"], "git": {"commit": "d" * 40, "dirty": True}}
    for record, status in ((first, "KILLED"), (second, "FINISHED")):
        before = len(machine_steps(stored))
        tracker = live_run.LiveTracker(stored.where, EXPERIMENT)
        tracker.started(record)
        tracker.epoch(record["history"][0])
        time.sleep(1)
        tracker.ended(status, record, None)
        assert len(machine_steps(stored)) > before
    assert machine_steps(stored) == list(range(len(machine_steps(stored))))
    run = run_of(stored)
    assert run.info.status == "FINISHED"
    told = [run.data.tags[name] for name in ("mlflow.source.git.commit", "git.dirty", "resumed")]
    assert told == ["d" * 40, "true", "epoch 2 step 1"]
    assert {name: len(rows) for name, rows in series(stored, run).items()} == dict.fromkeys(CURVES, 3)


def machine_steps(checkout: Checkout) -> list[int]:
    """The steps of one of the machine's own metrics, of all runs."""
    with closing(sqlite3.connect(checkout.database)) as connection:
        query = "SELECT step FROM metrics WHERE key = 'system/system_memory_usage_percentage' ORDER BY step, timestamp"
        return [step for (step,) in connection.execute(query)]


def test_a_live_run_and_a_rebuilt_one_are_equal(stored: Checkout, tmp_path: Path, empty_database: Path) -> None:
    record = stored.write()
    without_model = {**record, "sha256": {key: value for key, value in record["sha256"].items() if key != "model"}}
    observe(live_run.LiveTracker(stored.where, EXPERIMENT), without_model)
    stored.track()
    fresh = tracking_fixtures.checkout(tmp_path / "fresh", empty_database)
    fresh.write()
    fresh.track()
    run, rebuilt = run_of(stored), run_of(fresh)
    assert len(contents(stored.database)["runs"]) == 1
    assert (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time) == (
        rebuilt.info.run_name,
        rebuilt.info.status,
        rebuilt.info.start_time,
        rebuilt.info.end_time,
    )
    assert run.data.params == rebuilt.data.params
    assert run.data.tags == rebuilt.data.tags
    assert run.data.metrics == rebuilt.data.metrics
    assert series(stored, run) == series(fresh, rebuilt)
    assert artifacts(stored, run) == artifacts(fresh, rebuilt)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is given a tenth of its time; MLflow is imported before the clock runs."""
    monkeypatch.setattr(connection, "CALL_SECONDS", 0.4)
    monkeypatch.setattr(live_run, "PATIENCE_SECONDS", 0.5)
    connection.start_mlflow()


def hang_up(server: TrackingServer) -> None:
    server.shutdown()
    server.server_close()


def late(right: fault_server.Answer) -> fault_server.Answer:
    """The right answer, late."""

    def answer(handler: fault_server.Handler) -> None:
        time.sleep(0.3)
        right(handler)

    return answer


PAGE = b"<html><title>hotel wifi</title></html>"
SERVER_FAULTS: dict[str, fault_server.Answer] = {
    "silent": fault_server.silent,
    "drips": fault_server.drip(b'{"run": {}}', 0.1),
    "drips its header": fault_server.drip_header(0.1),
    "reset": fault_server.reset,
    "cut": fault_server.cut_chunk(b"{"),
    "401": fault_server.status(401),
    "403": fault_server.status(403),
    "404": fault_server.status(404),
    "429 for a day": fault_server.status(429, Retry_After="86400"),
    "500": fault_server.status(500),
    "502": fault_server.status(502),
    "a page": fault_server.whole(PAGE, Content_Type="text/html"),
    "invalid JSON": fault_server.whole(b'{"run": '),
    "other JSON": fault_server.whole(b'{"run": 7, "runs": [7], "experiment": 7}'),
    "redirected": fault_server.redirect("/elsewhere"),
}
MOMENTS: dict[str, tuple[float, tuple[str, ...]]] = {
    "before the start": (0, ()),
    "the experiment": (0, ("get-by-name",)),
    "creating the run": (0, ("create",)),
    "in the midst of epoch 2": (2, ()),
    "at the end of epoch 2": (2, ("log-batch",)),
    "an artifact": (4, ("trace.json",)),
    "the end of the run": (4, ("update",)),
}
"""In which epoch a fault begins, 0: before the training, and of which calls alone."""


CONTENT = {
    "at the end of epoch 2": {"slow", "other JSON"},
    "an artifact": {"slow", "a page", "invalid JSON", "other JSON"},
    "the end of the run": {"slow", "other JSON"},
}
"""With what answers MLflow's client may be content, else with late ones only; `track` sends everything once more."""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", ["gone", "slow", *SERVER_FAULTS])
def test_a_faulty_server_costs_one_line_and_little_time(
    made: Checkout, fault: str, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = made.root / "trace"
    trace.mkdir()
    (trace / "trace.json").write_text("{}")
    record = tracking_fixtures.record(made.params_file, trace=str(trace))
    begins, calls = MOMENTS[moment]
    with TrackingServer() as server:
        os.environ["MLFLOW_TRACKING_URI"] = server.uri

        def at_epoch(epoch: float) -> None:
            if epoch == begins and fault == "gone":
                hang_up(server)
            elif epoch == begins:
                for call in calls or tuple(server.answers):
                    server.answers[call] = SERVER_FAULTS.get(fault) or late(server.answers[call])
            time.sleep(0.02)  # an epoch

        at_epoch(0)
        began = time.monotonic()
        observe(live_run.LiveTracker(made.where, EXPERIMENT), record, at_epoch=at_epoch)
        assert time.monotonic() - began < 0.5 + 2.5  # the patience, and what a busy machine may take
    out, err = capsys.readouterr()
    assert out == ""
    if fault in CONTENT.get(moment, {"slow"}) and not err:
        return
    assert err.count("\n") == 1
    assert err.startswith("tracking: MLflow at http://***@127.0.0.1:")
    assert err.endswith("). Training goes on; the stage track sends the run when the store is back.\n")
    assert SECRET not in err
    assert tracking_fixtures.leaks(made.root) == []


ABSURD = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "100",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "1000",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "60",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "60",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
    "MLFLOW_EXPERIMENT_ID": "77",
    "MLFLOW_EXPERIMENT_NAME": "nobody's",
    "MLFLOW_RUN_ID": "f" * 32,
    "MLFLOW_REGISTRY_URI": "foo://bar",
    "MLFLOW_ARTIFACT_URI": "foo://bar",
    "MLFLOW_TRACKING_TOKEN": SECRET,
    "MLFLOW_SQLALCHEMYSTORE_ECHO": "false",
    "MLFLOW_AUTOLOGGING_TESTING": "true",
    "MLFLOW_LOGGING_LEVEL": "DEBUG",
    "no_proxy": "*",
}
"""What users set for other programs, and forget."""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", ["silent", "429 for a day", "500", None])
def test_mlflow_s_variables_make_no_training_slow(
    made: Checkout, fault: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tracking_fixtures.record(made.params_file)
    os.environ |= ABSURD
    with TrackingServer() as server:
        os.environ["MLFLOW_TRACKING_URI"] = server.uri

        def at_epoch(epoch: float) -> None:
            if epoch == 2 and fault:
                server.answers |= dict.fromkeys(server.answers, SERVER_FAULTS[fault])

        began = time.monotonic()
        observe(live_run.LiveTracker(made.where, EXPERIMENT), record, at_epoch=at_epoch)
        assert time.monotonic() - began < 2
        assert all(headers["Authorization"] for _, headers in server.requests)
    assert capsys.readouterr().err.count("\n") == bool(fault)


def test_the_variables_of_others_change_nothing_in_a_file(stored: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    os.environ |= ABSURD
    observe(live_run.LiveTracker(stored.where, EXPERIMENT), tracking_fixtures.record(stored.params_file))
    stored.track()
    out, err = capsys.readouterr()
    assert err == ""
    assert "is in MLflow" in out
    run = run_of(stored)
    assert (run.info.status, run.info.experiment_id) == ("FINISHED", "1")


def test_a_fault_of_ours_is_told_as_ours(stored: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    record = tracking_fixtures.record(stored.params_file)
    broken = {name: value for name, value in record.items() if name != "strategy"}
    tracker = live_run.LiveTracker(stored.where, EXPERIMENT)
    tracker.started(broken)
    tracker.epoch(record["history"][0])
    wait_until_told(tracker)
    said = capsys.readouterr().err
    told = re.fullmatch(
        r"tracking: this is a bug of keras-pipeline, please report it \(KeyError\); the traceback is in (\S+)\. "
        r"Training goes on; the stage track sends the run when the store is back\.\n",
        said,
    )
    assert told, said
    assert "KeyError: 'strategy'" in Path(told[1]).read_text()
    Path(told[1]).unlink()


@pytest.mark.parametrize("stream", ["closed", "full"])
def test_a_training_goes_on_where_nobody_can_be_told(
    made: Checkout, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.environ["MLFLOW_TRACKING_URI"] = "foo://bar"
    full = os.open("/dev/full", os.O_WRONLY)
    with os.fdopen(writing if stream == "closed" else full, "w", buffering=1) as output:
        monkeypatch.setattr(sys, "stderr", output)
        tracker = live_run.LiveTracker(made.where, EXPERIMENT)
        observe(tracker, tracking_fixtures.record(made.params_file))
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            output.close()
    os.close(full if stream == "closed" else writing)
    assert tracker.failed


def test_after_a_failure_the_store_is_left_alone(made: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    with TrackingServer() as server:
        os.environ |= {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.05"}
        record = tracking_fixtures.record(made.params_file)
        tracker = live_run.LiveTracker(made.where, EXPERIMENT)
        tracker.started(record)
        tracker.epoch(record["history"][0])
        wait_until(lambda: server.calls.count("log-batch") > 2)  # params, the epoch, the machine's metrics
        tracker.epoch({})  # any failure: here the server is well, and the machine's metrics could go on
        wait_until(lambda: not metrics_threads())
        calls = server.calls
        tracker.epoch(record["history"][2])
        tracker.ended("FINISHED", record, None)
        assert server.calls == calls
    assert capsys.readouterr().err.count("\n") == 1
    # Nobody could be told how it ended; the next `track` can.
    (kept,) = (made.root / "mlruns" / "alive").iterdir()
    assert json.loads(kept.read_text())["status"] == "FINISHED"


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metrics_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if "finish" in one.name or one.name == "SystemMetricsMonitor"]


@pytest.mark.parametrize("host", ["127.0.0.1", "nobody.invalid"])
def test_an_unreachable_server_stops_neither_training_nor_track(
    made: Checkout, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    made.write()
    os.environ["MLFLOW_TRACKING_URI"] = f"http://somebody:{SECRET}@{host}:{port}"
    began = time.monotonic()
    observe(live_run.LiveTracker(made.where, EXPERIMENT), tracking_fixtures.record(made.params_file))
    made.track()
    assert time.monotonic() - began < 5
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(" is not available (")[0] for line in err.splitlines()] == [
        f"tracking: MLflow at http://***@{host}:{port}",
        f"track: MLflow at http://***@{host}:{port}",
    ]
    assert "Nothing is lost: run `keras-pipeline track`, or any `dvc repro`, when the store is back.\n" in err
    assert SECRET not in err
    assert tracking_fixtures.leaks(made.root) == []
    del os.environ["MLFLOW_TRACKING_URI"]
    made.track()  # the store is back
    assert run_of(made).info.status == "FINISHED"


def test_a_killed_training_is_closed_by_the_next_track(stored: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    code = """if True:
        import time
        import tracked_runs
        import tracking_fixtures
        from pathlib import Path
        from keras_pipeline.tracking import live_run
        checkout = tracking_fixtures.Checkout(Path.cwd())
        tracker = live_run.LiveTracker(checkout.where, "keras-pipeline")
        record = tracking_fixtures.record(checkout.params_file, key="b" * 32)
        tracker.started(record)
        tracker.epoch(record["history"][0])
        tracked_runs.wait_until_told(tracker)
        print("training", flush=True)
        time.sleep(600)
    """
    training = python(code, stored.root, PYTHONPATH=os.pathsep.join([str(SUPPORT), *sys.path]))
    assert training.stdout
    assert training.stdout.readline() == "training\n"
    stored.track()
    assert run_of(stored, "b" * 32).info.status == "RUNNING"
    training.kill()
    training.communicate()
    stored.track()
    run = run_of(stored, "b" * 32)
    assert run.info.status == "KILLED"
    assert len(series(stored, run)["val/loss"]) == 1
    assert not list((stored.root / "mlruns" / "alive").iterdir())
    assert capsys.readouterr().out.splitlines()[1:] == [
        "track: 1 unfinished run(s) of ended processes closed",
        "track: MLflow has 'digits mlp' as it is here",
    ]


def test_a_dead_process_may_have_said_how_it_ended(stored: Checkout) -> None:
    reached = store.connect_store(stored.where, EXPERIMENT)
    for key, status, said in (("b", "RUNNING", "FAILED"), ("c", "FINISHED", "RUNNING"), ("d", "RUNNING", "RUNNING")):
        run_id = reached.client.create_run(reached.experiment, tags={runs.KEY: key * 32}).info.run_id
        reached.client.set_terminated(run_id, status)
        write_mark(stored, json.dumps(mark(pid=2**22 + 1, status=said)), key * 32)
    write_mark(stored, json.dumps(mark(pid=2**22 + 1)), "f" * 32)
    write_mark(stored, "{", "torn")
    other = write_mark(stored, json.dumps(mark(pid=2**22 + 1, host="another")), "e" * 32)
    assert live_run.close_dead_runs(stored.where) == 2
    assert [run_of(stored, key * 32).info.status for key in "bcd"] == ["FAILED", "FINISHED", "KILLED"]
    assert list(other.parent.iterdir()) == [other]
    assert live_run.close_dead_runs(stored.where) == 0
