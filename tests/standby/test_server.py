"""The process that stands by: whom it serves, in whose place, and when it ends."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fault_server import FaultServer, silent
from keras_pipeline.core import files, interpreter
from keras_pipeline.standby import address, server
from places import SHIPPED, SUPPORT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a process stands by on Linux only")
COMMAND = [sys.executable, "-P", str(SUPPORT / "standing_by.py")]
NOBODY = "nobody stands by\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of a stage of DVC, and of no other test."""
    kept = {name: value for name, value in os.environ.items() if name != address.SWITCH}
    return {**kept, "OF_THIS_TEST": str(tmp_path), "DVC_STAGE": "train", "PYTHONPATH": str(SUPPORT)}


@pytest.fixture
def standing_by(environment: dict[str, str]) -> Iterator[psutil.Process]:
    """A process that stands by for the stages with this environment."""
    subprocess.run([*COMMAND, "leave"], env=environment, check=True)
    ours: list[psutil.Process] = []

    def found() -> bool:
        named = [one for one in psutil.process_iter(["name"]) if one.info["name"] == "keras-standby"]
        ours[:] = [one for one in named if f"OF_THIS_TEST={environment['OF_THIS_TEST']}" in _environment(one)]
        return bool(ours)

    wait_for(found)
    yield ours[0]
    ours[0].kill()


def _environment(one: psutil.Process) -> list[str]:
    """None of one that has ended."""
    try:
        return [f"{name}={value}" for name, value in one.environ().items()]
    except psutil.Error:
        return []


def asking(environment: dict[str, str], folder: Path, *words: str, **more: Any) -> "subprocess.Popen[str]":
    later = {**environment, "DVC_STAGE": words[0], "DVC_EXP_NAME": "another"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*COMMAND, *words], env={**later, **more}, cwd=folder, text=True, **pipes)  # type: ignore[call-overload]


@pytest.mark.usefixtures("standing_by")
def test_a_stage_is_done_in_the_place_of_the_one_that_asks(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: [\n")
    stage = asking(environment, tmp_path, "normalize")
    out, err = stage.communicate(timeout=60)
    assert (out, stage.returncode) == ("", 2)
    assert err.startswith("params.yaml:")
    assert err.endswith("keras-pipeline normalize: exit 2 (bad params or usage)\n")


@pytest.mark.usefixtures("standing_by")
@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["normalize"], {"TF_NUM_INTRAOP_THREADS": "1"}),
        (["normalize"], {address.SWITCH: "off"}),
        (["normalize"], {"KERAS_FLOATX": "float64"}),
        (["status"], {}),
        (["train"], {}),
        (["train", "--workers", "2", "--params", str(SHIPPED)], {}),
    ],
    ids=["environment", "off", "taken away", "no stage", "no params", "workers"],
)
def test_who_is_not_served(environment: dict[str, str], tmp_path: Path, words: list[str], more: dict[str, str]) -> None:
    stage = asking(environment, tmp_path, *words, **more)
    assert stage.communicate(timeout=60) == ("", NOBODY)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """The first mirror of every dataset, and it never answers."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FaultServer({"train-images-idx3-ubyte.gz": silent}) as server:
        monkeypatch.setenv("KERAS_PIPELINE_MIRRORS", server.url)
        yield server


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_ends_the_one_that_asks_ends_the_stage(
    number: int, mirror: FaultServer, environment: dict[str, str], standing_by: psutil.Process, tmp_path: Path
) -> None:
    stage = asking(environment, tmp_path, "fetch", "--params", str(SHIPPED))
    wait_for(lambda: bool(mirror.requests))
    (worker,) = standing_by.children()
    stage.send_signal(signal.SIGTSTP)
    # Both, as a shell waits for the one that it started: who is told to go on before it has stopped stays stopped.
    wait_for(lambda: {worker.status(), psutil.Process(stage.pid).status()} == {psutil.STATUS_STOPPED})
    stage.send_signal(signal.SIGCONT)
    wait_for(lambda: worker.status() != psutil.STATUS_STOPPED)
    stage.send_signal(number)
    _, err = stage.communicate(timeout=60)
    if number == signal.SIGKILL:
        wait_for(lambda: not standing_by.children())
    else:
        assert (stage.returncode, err) == (128 + number, f"keras-pipeline fetch: interrupted, exit {128 + number}\n")
    with files.lock_folder(tmp_path / "data"):
        assert not (tmp_path / "data" / "raw").exists()


def test_a_stage_whose_process_is_killed_says_so(
    mirror: FaultServer, environment: dict[str, str], standing_by: psutil.Process, tmp_path: Path
) -> None:
    stage = asking(environment, tmp_path, "fetch", "--params", str(SHIPPED))
    wait_for(lambda: bool(mirror.requests))
    standing_by.children()[0].kill()
    _, err = stage.communicate(timeout=60)
    assert stage.returncode == 137
    assert err == "fetch: its process was killed, as where memory lacks. Run it again.\n"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_another_name_for_other_code_or_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train")
    monkeypatch.delenv(address.SWITCH, raising=False)
    module = tmp_path / "keras_pipeline" / "module.py"
    files.write_json(module, {})
    monkeypatch.setattr(interpreter, "OWN_FOLDER", str(tmp_path))
    names = [address.address(), address.address()]
    assert names[0] == names[1]
    module.write_text("changed")
    names.append(address.address())
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, before[1]) if before[0] else (1, before[1]))
    names.append(address.address())
    resource.setrlimit(resource.RLIMIT_CORE, before)
    assert None not in names
    assert len({*names}) == 3
    monkeypatch.delenv("DVC_STAGE")
    assert address.address() is None


@pytest.mark.parametrize(("name", "value"), [("IDLE_SECONDS", 0.0), ("code_state", lambda: [("edited", 1, 2, 3)])])
def test_it_ends_when_nobody_asks_or_the_code_is_another(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = server.code_state()
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(server, name, value)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"")  # any free name
        listener.listen()
        server._listen(listener, os.pidfd_open(ended.pid), code)
