"""What could not be sent waits: whole, in order, bounded, for the store that it was meant for."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tracking_fixtures
from keras_pipeline.cli import main
from keras_pipeline.core.errors import DataError
from keras_pipeline.tracking import live_run, waiting
from keras_pipeline.tracking.stores.connection import UnavailableError
from tracked_runs import mark, observe, python, write_mark
from tracking_fixtures import EXPERIMENT, SECRET, STARTED, Checkout

CLOSED = f"http://somebody:{SECRET}@127.0.0.1:9"  # no server has that port


def entries(checkout: Checkout) -> list[Path]:
    return sorted((checkout.root / "mlruns" / "waiting").glob("[0-9a-f]*.*"))


def names(checkout: Checkout) -> set[str]:
    (folder,) = entries(checkout)
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def keep(checkout: Checkout, letter: str = "a", **changes: Any) -> bool:
    """A finished run whose files are written over by the next one."""
    record: Any = checkout.write(
        tracking_fixtures.record(checkout.params_file, letter * 32, started=STARTED + ord(letter), **changes)
    )
    root = checkout.root
    return waiting.keep_run(checkout.where, EXPERIMENT, record, checkout.params_file, root / "models", root / "reports")


def send(checkout: Checkout, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], bool]) -> tuple[str, list[str]]:
    """The letters of the runs in the order in which they were sent, each ending as `answer` says; and what is told."""
    asked: list[str] = []

    def fake(location: Any, run: waiting.WaitingRun) -> bool:
        asked.append(run.note["key"][0])
        return answer(asked[-1])

    monkeypatch.setattr(waiting, "_send", fake)
    told = list(waiting.send_waiting_runs(checkout.where, lambda key: live_run.is_training(checkout.where, key)))
    return "".join(asked), told


def test_all_that_is_sent_waits_while_its_files_are_written_over(made: Checkout) -> None:
    (made.root / "models").mkdir()
    (made.root / "models" / "model.keras").write_bytes(b"network")
    assert keep(made)
    (folder,) = entries(made)
    assert names(made) == {
        "waiting.json", "params.yaml", "models/run.json", "models/model.keras", "reports/metrics.json",
        "reports/predictions.npz", "reports/tables/per_class.csv", "reports/figures/confusion_matrix.png",
        "reports/figures/reliability.png",
    }  # fmt: skip
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (made.root / "models" / "model.keras").unlink()  # as DVC does, before the stage writes it
    (made.root / "models" / "model.keras").write_bytes(b"another")
    made.set_params({"model.dropout": 0.5})
    made.write(tracking_fixtures.record(made.params_file, "b" * 32), accuracy=0.5)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_waits_of_a_run_is_its_latest_state_and_is_forgotten_alone(made: Checkout) -> None:
    keep(made)
    keep(made, "b")
    keep(made, train_seconds=99.0)
    assert len(entries(made)) == 2
    kept = [json.loads((folder / "models" / "run.json").read_text()) for folder in entries(made)]
    assert {(one["key"][0], one["train_seconds"]) for one in kept} == {("a", 99.0), ("b", 31.0)}
    waiting.forget_run(made.where, EXPERIMENT, "a" * 32)
    assert [folder.name.split("-")[1][0] for folder in entries(made)] == ["b"]
    waiting.forget_run(made.where, "another", "b" * 32)
    assert len(entries(made)) == 1


def test_the_oldest_is_sent_first_and_none_twice(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for letter in "cab":
        keep(made, letter)
    assert list(waiting.waiting_lines(made.where)) == [
        "3 runs waiting to be sent: `keras-pipeline track` sends what waits"
    ]
    assert send(made, monkeypatch, lambda letter: True) == ("abc", ["track: 3 runs that waited are in MLflow now"])
    assert send(made, monkeypatch, lambda letter: True) == ("", [])
    assert list(waiting.waiting_lines(made.where)) == []


def test_one_that_is_refused_or_was_deleted_holds_up_no_other(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for letter in "abc":
        keep(made, letter)

    def answer(letter: str) -> bool:
        if letter == "a":
            raise DataError("run.json: damaged")
        return letter == "b"

    sent, told = send(made, monkeypatch, answer)
    assert sent == "abc"
    assert told == [
        "track: 'digits mlp', key aaaaaaaaaaaa, goes on waiting: run.json: damaged",
        "track: 1 run that waited is in MLflow now",
        "track: 1 run that waited, and deleted in MLflow meanwhile: not sent",
        "track: 1 run still waiting to be sent",
    ]
    assert len(entries(made)) == 1


def test_a_store_that_goes_away_leaves_the_rest_waiting(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for letter in "abc":
        keep(made, letter)

    def answer(letter: str) -> bool:
        if letter == "b":
            raise UnavailableError("gone")
        return True

    with pytest.raises(UnavailableError):
        send(made, monkeypatch, answer)
    assert send(made, monkeypatch, lambda letter: True)[0] == "bc"


def test_no_more_time_is_taken_than_there_is(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for letter in "ab":
        keep(made, letter)
    monkeypatch.setattr(waiting, "MOST_SECONDS", -1.0)
    assert send(made, monkeypatch, lambda letter: True) == ("", ["track: 2 runs still waiting to be sent"])


def test_what_waits_for_another_store_is_said_and_not_sent(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(made)
    os.environ["MLFLOW_TRACKING_URI"] = CLOSED
    keep(made, "b")
    assert list(waiting.waiting_lines(made.where)) == [
        "1 run waiting to be sent: `keras-pipeline track` sends what waits",
        "1 run waiting for another store: `keras-pipeline track` without MLFLOW_TRACKING_URI sends what waits",
    ]
    assert send(made, monkeypatch, lambda letter: True)[0] == "b"
    keep(made, "b")
    os.environ["MLFLOW_TRACKING_URI"] = CLOSED.replace(SECRET, "another-password")
    assert send(made, monkeypatch, lambda letter: True)[0] == "b"
    keep(made, "b")
    del os.environ["MLFLOW_TRACKING_URI"]
    assert list(waiting.waiting_lines(made.where))[1] == (
        "1 run waiting for another store: `keras-pipeline track` with MLFLOW_TRACKING_URI=http://***@127.0.0.1:9 "
        "sends what waits"
    )
    assert tracking_fixtures.leaks(made.root) == []


def test_no_more_waits_than_there_is_room_for(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    (made.root / "models").mkdir()
    (made.root / "models" / "model.keras").write_bytes(b"n" * 200_000)
    monkeypatch.setattr(waiting, "MOST_BYTES", 150_000)
    assert keep(made)
    assert "models/model.keras" not in names(made)
    monkeypatch.setattr(waiting, "MOST_BYTES", 10_000)
    assert not keep(made, "b")
    assert len(entries(made)) == 1


def test_a_kill_leaves_a_whole_copy_or_none(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    made.write()
    code = """if True:
        import os, shutil, signal
        from pathlib import Path
        from keras_pipeline.records.record import read_record
        from keras_pipeline.tracking import waiting
        from keras_pipeline.tracking.stores import address
        count = 0
        def copy(source, target):
            global count
            count += 1
            if count == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            Path(target).write_bytes(Path(source).read_bytes())
        shutil.copyfile = copy
        where = address.store_location(address.project_root())
        record = read_record(Path("models/run.json"))
        waiting.keep_run(where, "keras-pipeline", record, Path("params.yaml"), Path("models"), Path("reports"))
    """
    killed = python(code, made.root)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    folder = made.root / "mlruns" / "waiting"
    assert entries(made) == []
    assert len(list(folder.iterdir())) == 1
    keep(made, "b")
    later = time.time() + waiting.LEFT_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert send(made, monkeypatch, lambda letter: True)[0] == "b"
    assert {path.name for path in folder.iterdir()} == {".lock"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}'])
def test_a_note_that_somebody_changed_is_left_alone(made: Checkout, text: str) -> None:
    keep(made)
    (entries(made)[0] / "waiting.json").write_text(text)
    assert list(waiting.waiting_lines(made.where)) == []
    assert len(entries(made)) == 1


def test_the_epochs_of_a_training_wait_from_the_moment_its_store_is_lost(made: Checkout) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = CLOSED
    record = tracking_fixtures.record(made.params_file)
    seen: list[int] = []

    def look(epoch: int) -> None:
        (folder,) = entries(made)
        kept = json.loads((folder / "models" / "run.json").read_text())
        seen.append(len(kept["history"]))
        assert json.loads((folder / "waiting.json").read_text())["status"] == "KILLED"  # should it die now
        assert live_run.is_training(made.where, "a" * 32)

    observe(live_run.LiveTracker(made.where, EXPERIMENT), record, "FAILED", look)
    assert seen == [0, 1, 2, 3]
    (folder,) = entries(made)
    assert json.loads((folder / "waiting.json").read_text())["status"] == "FAILED"
    assert json.loads((folder / "models" / "run.json").read_text())["history"] == record["history"]


def test_what_is_still_trained_is_not_sent(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting.keep_epochs(made.where, EXPERIMENT, tracking_fixtures.record(made.params_file), "KILLED")  # type: ignore
    write_mark(made, json.dumps(mark()))
    assert send(made, monkeypatch, lambda letter: True) == ("", [])
    write_mark(made, json.dumps(mark(pid=2**22 + 1)))
    assert send(made, monkeypatch, lambda letter: True)[0] == "a"


def test_a_track_that_reaches_nobody_keeps_the_run_and_status_says_so(
    made: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made.root)
    os.environ["MLFLOW_TRACKING_URI"] = CLOSED
    for letter in "ab":  # of other params each
        made.write(tracking_fixtures.record(made.params_file, letter * 32))
        began = time.monotonic()
        assert main.main(["track"]) == 0
        assert time.monotonic() - began < 4.5
    assert len(entries(made)) == 2
    capsys.readouterr()
    main.main(["status"])
    assert "\nMLflow:   2 runs waiting to be sent: `keras-pipeline track` sends what waits\n" in capsys.readouterr().out


def test_a_disk_without_room_costs_the_copy_alone(
    made: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = CLOSED
    made.write()
    monkeypatch.setattr(waiting.shutil, "copyfile", raising(OSError(28, "No space left on device", "x")))
    made.track()
    assert entries(made) == []
    assert "Connection refused). There was no room to keep it: `keras-pipeline track`, with" in capsys.readouterr().err


def raising(error: Exception) -> Callable[..., None]:
    def fail(*arguments: object) -> None:
        raise error

    return fail
