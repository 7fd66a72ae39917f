"""Which processes are alive, and how a run is ended."""

import json
import signal
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from keras_pipeline.core import process
from keras_pipeline.tracking import live_run, runs, store
from tracked_runs import mark, write_mark
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, Checkout

pytestmark = MLFLOW_WARNINGS


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({}, False),
        ({"process_started": psutil.Process().create_time() + 1}, False),  # the clock was set
        ({"process_started": psutil.Process().create_time() - 60}, True),  # the number was given again
        ({"pid": 2**22 + 1}, True),
        ({"pid": -1}, True),
        ({"pid": 2**70}, True),
        ({"host": "another", "pid": 2**22 + 1}, False),
    ],
)
def test_a_process_is_known_by_number_start_and_host(made: Checkout, changes: dict[str, Any], dead: bool) -> None:
    path = write_mark(made, json.dumps(mark(**changes)))
    assert live_run.find_dead_runs(made.where) == ([path] if dead else [])


def test_a_process_that_nobody_took_note_of_is_dead(made: Checkout) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    path = write_mark(made, json.dumps(mark(pid=process.pid, process_started=started)))
    assert live_run.find_dead_runs(made.where) == []
    process.kill()
    deadline = time.monotonic() + 10
    while live_run.find_dead_runs(made.where) != [path] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert live_run.find_dead_runs(made.where) == [path]
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_waits_until_the_store_has_answered(
    made: Checkout, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    calls: list[str] = []

    def asked_to_end(*arguments: object) -> None:
        signal.raise_signal(number)
        calls.append("answered")

    def handler(*arguments: object) -> None:
        calls.append("asked")
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "log_epochs", asked_to_end)
    tracker = live_run.LiveTracker(made.where, EXPERIMENT)
    tracker.store = store.Store(client=None, experiment="1", location=made.where)  # type: ignore[arg-type]
    tracker.system_metrics = "begun"
    before = signal.signal(number, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            tracker.epoch({})
        assert calls == ["answered", "asked"]
        assert not tracker.failed
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


def test_a_second_request_to_end_does_not_wait(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked_twice(*arguments: object) -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(process.ONE_REQUEST_SECONDS)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("still waiting")

    monkeypatch.setattr(runs, "log_epochs", asked_twice)
    tracker = live_run.LiveTracker(made.where, EXPERIMENT)
    tracker.store = store.Store(client=None, experiment="1", location=made.where)  # type: ignore[arg-type]
    tracker.system_metrics = "begun"
    with pytest.raises(KeyboardInterrupt):
        tracker.epoch({})


@pytest.mark.parametrize("text", ["", '{"experiment": "keras-pi', "[]", "{}", "null", '{"pid": "x"}', "\udcff"])
def test_a_torn_mark_is_removed(made: Checkout, text: str) -> None:
    path = write_mark(made, "")
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert live_run.close_dead_runs(made.where) == 0
    assert not path.exists()
