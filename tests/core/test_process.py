"""Where a process's time went: each second counted once."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from keras_pipeline.core import process


class Clock:
    """A clock that goes on when it is told to."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(process, "_seconds", {})
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: made.now, time=lambda: 100 + made.now))
    started = SimpleNamespace(create_time=lambda: 100 - 2.0)
    monkeypatch.setattr(psutil, "Process", lambda: started)
    return made


def test_what_is_within_a_part_is_not_counted_for_the_part_around_it(clock: Clock) -> None:
    with process.time_part("train"):
        clock.sleep(3)
        with process.time_part("track"):
            clock.sleep(5)
            with process.time_part("import"):
                clock.sleep(7)
        process.add_time("compile", 1)
    assert process.part_seconds() == {"import": 7, "track": 5, "train": 2, "compile": 1, "other": 2}
    assert process.timing_line() == "17.0 s: import 7.0, track 5.0, train 2.0, compile 1.0, other 2.0"


def test_a_part_ends_with_a_fault_too_and_may_come_again(clock: Clock) -> None:
    def fail() -> None:
        clock.sleep(4)
        raise ValueError("broken")

    for _ in range(2):
        with pytest.raises(ValueError, match="broken"), process.time_part("data"):
            fail()
    assert process.part_seconds()["data"] == 8


def test_a_moment_is_no_line_and_a_process_is_as_old_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_seconds", {"data": 0.01})
    whole = time.time() - psutil.Process().create_time()
    assert sum(process.part_seconds().values()) == pytest.approx(whole, abs=1)
    assert "data" not in process.timing_line()


def test_a_file_that_is_called_as_a_module_is_never_run_by_another_python() -> None:
    assert process.python("-m", "json.tool") == [sys.executable, "-P", "-m", "json.tool"]


def test_what_takes_too_long_is_left_alone() -> None:
    assert process.within(9, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        process.within(9, lambda: 1 // 0)
    release = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        process.within(0.1, lambda: release.wait(60))
    left = process._left_alone.pop()
    assert (left.name, left.daemon) == ("a call that may take too long", True)
    release.set()
    left.join(20)
    assert not left.is_alive()


@pytest.mark.parametrize(("left", "code"), [("0.3", 0), ("60", 5)])
def test_a_process_does_not_wait_at_its_end_for_what_it_left_alone(left: str, code: int) -> None:
    """Not even where that began threads of its own, as MLflow does for files."""
    program = (
        "import contextlib, sys, threading, time\n"
        "from keras_pipeline.core import process\n"
        "def work():\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        f"    time.sleep({left})\n"
        "with contextlib.suppress(TimeoutError):\n"
        "    process.within(0.2, work)\n"
        "time.sleep(0.5)\n"
        "print('ended')\n"
        f"sys.exit(process.end_without_waiting({code}))\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (code, "ended\n", "")
    assert time.monotonic() - began < 20


def test_a_process_that_is_to_ask_for_commands_ends_with_its_code() -> None:
    program = (
        "import sys\nfrom keras_pipeline.core import process\nprint('ended')\nsys.exit(process.end_without_waiting(3))"
    )
    command, environment = [sys.executable, "-c", program], {**os.environ, "PYTHONINSPECT": "1"}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, b"ended\n", b"")


def test_an_output_that_takes_nothing_more_changes_no_exit_code() -> None:
    program = (
        "import contextlib, time\nfrom keras_pipeline.core import process\n"
        "with contextlib.suppress(TimeoutError):\n    process.within(0.05, lambda: time.sleep(60))\n"
        "print('lost')\nprocess.end_without_waiting(3)"
    )
    command = [sys.executable, "-c", program]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=50,
        )
    assert (done.returncode, done.stderr) == (3, b"")


def ended(work: str, *, ignored: bool = False) -> tuple[int, list[str]]:
    """The exit code of a process that does this work within `requests_to_end`, and the signals that came."""
    program = (
        "import os, signal, sys, time\nfrom keras_pipeline.core import process\ncame = []\n"
        f"{'signal.signal(signal.SIGTERM, signal.SIG_IGN)' if ignored else ''}\n"
        "def ask(number=signal.SIGTERM):\n    os.kill(os.getpid(), number)\n"
        "try:\n    with process.requests_to_end(came):\n"
        + textwrap.indent(work, " " * 8)
        + "\nexcept KeyboardInterrupt as end:\n    print('ended', end.number)\n"
        "except ImportError:\n    print('disturbed')\nprint(*came)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False, timeout=60
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_a_request_ends_what_is_done_once() -> None:
    work = "try:\n    ask()\nfinally:\n    ask()\n    ask(signal.SIGINT)"
    assert ended(work) == (0, ["ended 15", "15"])


def test_two_of_a_person_are_two() -> None:
    work = (
        "try:\n    ask()\nfinally:\n    time.sleep(0.3)\n    try:\n        ask()\n"
        "    except KeyboardInterrupt:\n        print('twice')"
    )
    assert ended(work) == (0, ["twice", "ended 15", "15 15"])


def test_what_waits_does_so_once_and_not_for_the_two_that_are_one() -> None:
    work = "with process.defer_signals():\n    ask()\n    ask()\n    {more}\n    print('whole')"
    assert ended(work.format(more="")) == (0, ["whole", "ended 15", "15"])
    assert ended(work.format(more="time.sleep(0.3); ask(signal.SIGINT)")) == (0, ["ended 2", "2"])


def test_what_libraries_make_of_a_request_is_known_to_be_one() -> None:
    work = "try:\n    ask()\nexcept KeyboardInterrupt:\n    raise ImportError('of an extension') from None"
    assert ended(work) == (0, ["disturbed", "15"])


def test_a_request_that_vanishes_comes_again() -> None:
    work = "class Gone:\n    def __del__(self):\n        ask()\nGone()\ntime.sleep(20)"
    assert ended(work) == (0, ["ended 15", "15"])


def test_what_is_ignored_on_purpose_stays_so() -> None:
    assert ended("ask()", ignored=True) == (0, [""])


def test_time_of_the_processor_is_a_request_before_the_end() -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (11, 11))\n"
    told = "with process.requests_to_end([]):\n    print(*resource.getrlimit(resource.RLIMIT_CPU))\n"
    assert ended(f"{limit}{told}ask(signal.SIGXCPU)") == (0, ["1 11", "ended 24", "24"])
    assert ended("ask(signal.SIGXCPU)") == (0, ["ended 24", "24"])


def test_without_a_limit_there_is_no_request() -> None:
    assert ended("import resource\nprint(*resource.getrlimit(resource.RLIMIT_CPU))") == (0, ["-1 -1", ""])


def test_faults_that_nobody_catches_are_told_as_ever_until_a_request_came() -> None:
    """Then they are what it left behind."""
    work = (
        "import threading\n"
        "class Gone:\n    def __del__(self):\n        raise ValueError('one')\n"
        "def fail():\n    raise ValueError('two')\n"
        "def run():\n    Gone()\n    thread = threading.Thread(target=fail)\n    thread.start()\n    thread.join()\n"
        "sys.unraisablehook = lambda fault: print('unraisable', fault.exc_value)\n"
        "threading.excepthook = lambda fault: print('thread', fault.exc_value)\n"
        "with process.requests_to_end(came):\n    run()\n    try:\n        ask()\n    finally:\n        run()\n"
    )
    assert ended(work) == (0, ["unraisable one", "thread two", "ended 15", "15"])


def test_a_second_request_is_answered_where_it_came() -> None:
    work = (
        "signal.signal(signal.SIGINT, lambda number, frame: print('answered', number, frame.f_code.co_name))\n"
        "def wait():\n    ask(signal.SIGINT)\n    time.sleep(0.3)\n    ask(signal.SIGINT)\n"
        "with process.defer_signals() as waiting:\n    wait()\n    waiting.clear()\n"
    )
    assert ended(work) == (0, ["answered 2 ask", ""])


def test_signals_are_kept_from_a_library_that_takes_them_and_in_threads_nothing_is_done() -> None:
    work = (
        "import ctypes, threading\n"
        "with process.keeping_signals():\n"
        "    for number in (signal.SIGTERM, signal.SIGHUP):\n"
        "        ctypes.CDLL(None).signal(int(number), ctypes.c_void_p(1))\n"  # ignores it, and Python does not know
        "    ask()\n"
        "def in_thread():\n    with process.keeping_signals():\n        print('in thread')\n"
        "thread = threading.Thread(target=in_thread)\nthread.start()\nthread.join()\n"
        "ask(signal.SIGHUP)"
    )
    assert ended(work) == (0, ["in thread", "ended 1", "1"])
