"""The command line in real processes: signals, DVC, and output that cannot be written."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fault_server import FaultServer, silent
from keras_pipeline.core import files
from places import PROGRAM, SHIPPED

pytestmark = pytest.mark.slow


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """The first mirror of every dataset, and it never answers."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with FaultServer({"train-images-idx3-ubyte.gz": silent}) as server:
        monkeypatch.setenv("KERAS_PIPELINE_MIRRORS", server.url)
        yield server


def fetching(folder: Path) -> list[str]:
    paths = ["--params", SHIPPED, "--raw", folder / "raw", "--downloads", folder / "downloads"]
    return [str(PROGRAM), "fetch", *map(str, paths)]


def test_a_signal_ends_a_stage_at_once_and_frees_its_folder(mirror: FaultServer, tmp_path: Path) -> None:
    # Three at once: most of their time is Python's start.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    stages = [
        subprocess.Popen(fetching(tmp_path / str(number)), stderr=subprocess.PIPE, text=True) for number in numbers
    ]
    wait_for(lambda: len(mirror.requests) == 3)
    started = time.monotonic()
    for number, stage in zip(numbers, stages, strict=True):
        stage.send_signal(number)
    for number, stage in zip(numbers, stages, strict=True):
        _, err = stage.communicate(timeout=60)
        assert stage.returncode == 128 + number
        assert err == f"keras-pipeline fetch: interrupted, exit {128 + number}\n"
        with files.lock_folder(tmp_path / str(number)):
            assert not (tmp_path / str(number) / "raw").exists()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("line", ['exec "$@"', '"$@" & wait'], ids=["shell steps aside", "shell waits"])
def test_a_stage_of_dvc_does_not_outlive_it(line: str, mirror: FaultServer, tmp_path: Path) -> None:
    start = "import os, subprocess, sys; subprocess.run(sys.argv[1:], env={**os.environ, 'DVC_STAGE': 'fetch'})"
    with (tmp_path / "err").open("w") as err:
        dvc = subprocess.Popen(
            [sys.executable, "-c", start, "sh", "-c", line, "sh", *fetching(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=err,
        )
        wait_for(lambda: len(mirror.requests) == 1)
        started = time.monotonic()
        dvc.kill()
        # The stage has the other end of this pipe: it ends with the stage.
        assert dvc.communicate(timeout=60) == (b"", None)
    assert time.monotonic() - started < 5
    assert (tmp_path / "err").read_text() == "keras-pipeline fetch: interrupted, exit 143\n"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("buffered", ["", "1"])
def test_output_that_cannot_be_written(buffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    command = [PROGRAM, "params", "check", "--params", SHIPPED]
    reading, writing = os.pipe()
    os.close(reading)
    left = subprocess.Popen(command, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    with open("/dev/full", "w") as full:  # noqa: PTH123 (a device)
        filled = subprocess.Popen(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert left.communicate() == (None, "")
    assert left.returncode == 128 + signal.SIGPIPE
    _, err = filled.communicate()
    assert filled.returncode == 6
    assert err.splitlines() == [
        "the output: No space left on device. Make room, give permission or name another path, then run it again.",
        "keras-pipeline params: exit 6 (something is missing on this machine)",
    ]
