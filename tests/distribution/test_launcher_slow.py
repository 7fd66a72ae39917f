"""The launcher with real workers, which end, fail and are killed."""

import os
import re
import signal
import sys
import time

import psutil
import pytest

from keras_pipeline.distribution import launcher
from worker_processes import LIMIT, Launch, pids, runs, until

pytestmark = pytest.mark.slow

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def test_launch_runs_all_and_marks_the_lines_of_all_but_the_chief(launch: Launch) -> None:
    launcher = launch(3, train=0.1)
    assert launcher.ends() == 0
    lines = sorted(re.sub(r"pid \d+", "pid", launcher.text()).splitlines())
    own = ["a word on standard error", "leaves", "pid", "trains"]
    assert lines == sorted([*own, *(f"[worker {rank}] {line}" for rank in (1, 2) for line in own), "launch 0"])
    assert launcher.text().endswith("launch 0\n")


def in_rank(*codes: str) -> list[str]:
    """A command whose worker `rank` runs `codes[rank]`."""
    return [sys.executable, "-I", "-c", f"import os, sys, time; exec({codes!r}[int(os.environ['RANK'])])"]


@pytest.mark.parametrize(
    ("codes", "line", "code"),
    [
        (("pass", "sys.exit(2)"), "worker 1 of 2 ended with code 2; all", 2),
        (("sys.exit(75)", "time.sleep(0.02); sys.exit(6)"), "worker 1 of 2 ended with code 6; all", 6),
        (("sys.exit(75)", "pass"), "worker 0 of 2 ended with code 75; all", 75),
        (("os.kill(os.getpid(), 9)", "sys.exit(75)"), r"worker 0 of 2 ended with code -9 \(SIGKILL\); all", 75),
        (("sys.exit(1)", "time.sleep(1); sys.exit(3)"), "worker 0 of 2 ended with code 1; all", 75),
        (("sys.exit(3)", "time.sleep(60)"), "worker 0 of 2 ended with code 3; all", 3),
        (("sys.exit(4)", STUBBORN), "worker 0 of 2 ended with code 4; all", 4),
        (("os.kill(os.getpid(), 35)", "pass"), "worker 0 of 2 ended with code -35; all", 75),
    ],
)
def test_launch_returns_the_code_that_matters(
    codes: tuple[str, str], line: str, code: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "MOMENT_SECONDS", 1.0)
    monkeypatch.setattr(launcher, "STOP_SECONDS", 0.5)
    began = time.monotonic()
    assert launcher.launch_workers(in_rank(*codes), 2, "ddp", {}) == code
    assert time.monotonic() - began < 10
    assert re.fullmatch(f"{line} workers are stopped\n", capfd.readouterr().err)
    assert not psutil.Process().children(recursive=True)


def test_launch_asks_before_it_kills(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "MOMENT_SECONDS", 1.0)
    polite = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit('asked')); time.sleep(60)"
    assert launcher.launch_workers(in_rank("time.sleep(0.5); sys.exit(3)", polite), 2, "ddp", {}) == 3
    assert "[worker 1] asked\n" in capfd.readouterr().err


@pytest.mark.parametrize("dies", [0, 1])
def test_launch_ends_all_when_one_is_killed(dies: int, launch: Launch) -> None:
    for _ in range(3):
        launcher = launch(2, train=LIMIT)
        began = time.monotonic()
        os.kill(pids(launcher, 2)[dies], signal.SIGKILL)
        assert launcher.ends() == 75
        assert time.monotonic() - began < 10
        other = r"\[worker 1\] " if dies == 0 else ""
        assert re.search(rf"^{other}worker {dies} of 2 \(\S+\) died: its connection ended", launcher.text(), re.M)
        assert f"worker {dies} of 2 ended with code -9 (SIGKILL); all workers are stopped" in launcher.text()


def test_a_stopped_worker_of_a_launcher_is_killed_with_its_children(launch: Launch) -> None:
    launcher = launch(
        2, train=LIMIT, silence=1, end={"1": "child"}, launcher={"MOMENT_SECONDS": 0.5, "STOP_SECONDS": 0.5}
    )
    worker = pids(launcher, 2)[1]
    launcher.says(r"^\[worker 1\] pid (\d+)\n(?s:.*)\[worker 1\] pid")
    os.kill(worker, signal.SIGSTOP)
    assert launcher.ends() == 75
    assert "worker 0 of 2 ended with code 75; all workers are stopped" in launcher.text()


def test_the_children_of_a_killed_worker_end_too(launch: Launch) -> None:
    launcher = launch(2, train=LIMIT, end={"1": "child"})
    worker = pids(launcher, 2)[1]
    launcher.says(r"^\[worker 1\] pid (\d+)\n(?s:.*)\[worker 1\] pid")
    os.kill(worker, signal.SIGKILL)
    assert launcher.ends() == 75


def test_the_workers_of_a_killed_launcher_end(launch: Launch) -> None:
    for _ in range(2):
        launcher = launch(2, train=LIMIT)
        found = pids(launcher, 2)
        launcher.process.kill()
        until(lambda found=found: not any(map(runs, found)), launcher.text)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated")])
@pytest.mark.parametrize("deaf", [False, True])
def test_an_interruption_is_passed_on_and_raised(number: int, name: str, deaf: bool, launch: Launch) -> None:
    launcher = launch(2, train=LIMIT, end={"0": "deaf", "1": "deaf"} if deaf else {}, launcher={"STOP_SECONDS": 1})
    pids(launcher, 2)
    began = time.monotonic()
    launcher.process.send_signal(number)
    assert launcher.ends() == 99
    assert (time.monotonic() - began > 1) == deaf
    assert launcher.text().endswith(f"interrupted {name}\n")
    assert "ended with code" not in launcher.text()
