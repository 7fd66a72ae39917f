"""What the machine lets a process have, and exceptions that say that it was lacking."""

import errno
import os
import re
import resource
import sqlite3
import threading
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import forked_program
from keras_pipeline.core import files, limits
from keras_pipeline.core.errors import MachineError


def noted(error: BaseException, note: str) -> BaseException:
    error.add_note(note)
    return error


def caused(error: BaseException, by: BaseException) -> BaseException:
    error.__cause__ = by
    return error


WAY_OUT = "Make room, give permission or name another path, then run it again."
ROOM = r"\([\d,]+\.\d MB are free there"
MEMORY = "Memory is exhausted. Use a smaller network or train.batch_size, or end other programs."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: No space left on device (R)."),
        (OSError(errno.EDQUOT, "Disk quota exceeded", b"a"), "b'a': Disk quota exceeded (R)."),
        (OSError(errno.EFBIG, "File too large"), "a file: File too large (R)."),
        (noted(OSError(errno.ENOSPC, "full", "a"), "2.0 MB are needed"), "a: full (R, 2.0 MB are needed)."),
        (
            OSError("[Errno 28] Can't write data (file write failed: errno = 28, 'No space left on device')"),
            "OSError: [Errno 28] Can't write data (file write failed: errno = 28, 'No space left on device') (R).",
        ),
        (
            RuntimeError("Can't decrement id ref count (No space left on device)\nand more"),
            "RuntimeError: Can't decrement id ref count (No space left on device) (R).",
        ),
        (sqlite3.OperationalError("database or disk is full"), "OperationalError: database or disk is full (R)."),
        (
            caused(ValueError("cannot be saved"), OSError(errno.EFBIG, "File too large")),
            "OSError: [Errno 27] File too large (R).",
        ),
        (RuntimeError("No space left on device" + "x" * 300), f"RuntimeError: No space left on device{'x' * 163} (R)."),
        (caused(RuntimeError("x"), MemoryError()), MEMORY),
        (RuntimeError("std::bad_alloc"), MEMORY),
        (ImportError("libx.so: failed to map segment from shared object"), MEMORY),
        (OSError(errno.EMFILE, "Too many open files", "x"), "x: Too many open files."),
        (
            BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
            "a file: Resource temporarily unavailable.",
        ),
    ],
)
def test_what_the_machine_lacked_is_said_with_the_way_out(error: BaseException, said: str) -> None:
    told = limits.lacking(error) or ""
    pattern = re.escape(said).replace(r"\(R", ROOM)
    assert re.fullmatch(pattern if said == MEMORY else f"{pattern} {WAY_OUT}", told), told


def test_what_came_of_itself_is_asked_once() -> None:
    error = ValueError("a")
    error.__context__ = KeyError("b")
    error.__context__.__context__ = error
    assert limits.lacking(error) is None


def test_how_much_is_free_is_told_of_the_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def disk(path: Path) -> types.SimpleNamespace:
        asked.append(path)
        return types.SimpleNamespace(f_bavail=3000, f_frsize=1_000_050, f_files=9, f_favail=len(asked) - 1)

    monkeypatch.setattr(os, "statvfs", disk)
    monkeypatch.chdir(tmp_path)
    assert limits.room(tmp_path / "not" / "there") == "3,000.2 MB are free there, and not one more file"
    assert limits.room(Path("x")) == "3,000.2 MB are free there"
    assert asked == [tmp_path, tmp_path]

    def gone(path: Path) -> types.SimpleNamespace:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "statvfs", gone)
    assert limits.room(tmp_path) == "how much is free there is not known"


@pytest.mark.parametrize(
    ("kind", "limit", "letters", "told"),
    [
        (resource.RLIMIT_AS, 5 * 10**9, "vd", " (ulimit -v 4882812)"),
        (resource.RLIMIT_NOFILE, 99, "nv", " (ulimit -n 99)"),
        (resource.RLIMIT_DATA, 2**40, "v", ""),
    ],
)
def test_the_limits_that_are_set_are_told_as_ulimit_says_them(
    kind: int, limit: int, letters: str, told: str, tmp_path: Path
) -> None:
    def tell() -> None:
        raise MachineError(limits._limits(letters))

    assert limited(kind, limit, tell, tmp_path / "told") == told


def test_where_no_more_threads_or_files_are_to_be_had_the_limits_are_told(tmp_path: Path) -> None:
    def tell() -> None:
        raise MachineError(limits.lacking(RuntimeError("can't start new thread")))

    assert re.fullmatch(
        r"RuntimeError: can't start new thread: there are no more for this process "
        r"\(ulimit -n 200(, ulimit -u \d+)?\)\. Raise the limit, then run it again\.",
        limited(resource.RLIMIT_NOFILE, 200, tell, tmp_path / "told"),
    )


@pytest.mark.parametrize("error", [ValueError("No"), KeyError("x"), OSError(errno.ESRCH, "No such process")])
def test_all_else_is_no_lack(error: BaseException) -> None:
    assert limits.lacking(error) is None


def limited(kind: int, limit: int, function: Callable[[], None], told: Path) -> str:
    """What MachineError says of the function in a fork with this limit; nothing where it raises none."""

    def do() -> None:
        resource.setrlimit(kind, (limit, limit))
        try:
            function()
        except MachineError as error:
            told.write_text(str(error), encoding="utf-8")

    told.write_text("", encoding="utf-8")
    assert forked_program.run_forked(do) == 0
    return told.read_text(encoding="utf-8")


@pytest.mark.parametrize(("kind", "letter"), [(resource.RLIMIT_AS, "v"), (resource.RLIMIT_DATA, "d")])
@pytest.mark.parametrize(("asked", "enough"), [(8 * 10**9, False), (10**9, True)])
def test_memory_is_asked_before_it_is_needed(kind: int, letter: str, asked: int, enough: bool, tmp_path: Path) -> None:
    # Beside what this process has already, such as the addresses that a JavaScript engine reserves.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    has = int(status["VmSize" if letter == "v" else "VmData"].split()[0]) * 1024
    limit = has + 5 * 10**9
    said = limited(kind, limit, lambda: limits.require_memory("Keras", asked, asked), tmp_path / "told")
    assert bool(said) is not enough
    if said:
        assert said == (
            f"Keras needs 8.0 GB of {'addresses' if letter == 'v' else 'memory'} more, and may not have them "
            f"(ulimit -{letter} {limit // 1024}). Raise the limit, or end other programs."
        )


def test_threads_are_started_for_a_moment() -> None:
    before = threading.active_count()
    limits.require_threads("Keras", 3)
    assert threading.active_count() <= before + 3


def test_too_few_threads_are_told_and_those_that_were_started_end(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def two_at_most(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", two_at_most)
    with pytest.raises(MachineError) as refused:
        limits.require_threads("Keras", 3)
    assert re.fullmatch(
        r"Keras needs 3 threads here, and 2 could be started( \(ulimit -u \d+\))?\. Raise the limit "
        r"\(`ulimit -u`, or the container's\), or end other programs\.",
        str(refused.value),
    )
    for thread in started:
        thread.join(10)
    assert not any(thread.is_alive() for thread in started)
    assert all(thread.daemon for thread in started)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 7),
        ({"OPENBLAS_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 2),
        ({"OMP_NUM_THREADS": "1"}, 0),
        ({"OMP_NUM_THREADS": "100"}, 7),
        ({"OPENBLAS_NUM_THREADS": "0", "GOTO_NUM_THREADS": "many", "OMP_NUM_THREADS": "4,2"}, 7),
    ],
)
def test_numpy_starts_a_thread_for_each_core_but_one(
    variables: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert limits.numpy_threads() == expected


def test_numpy_is_asked_more_for_the_more_cores_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, int]] = []
    monkeypatch.setattr(limits, "require_memory", lambda *needs: asked.append(needs))
    for cores in (None, 1, 64):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        limits.require_numpy()
    small = ("NumPy", 295_000_000, 190_000_000)
    assert asked == [small, small, ("NumPy", 3_130_000_000, 2_710_000_000)]


def test_a_full_disk_leaves_the_old_file_and_names_what_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write() -> None:
        try:
            files.write_atomically(path, bytes(10**6))
        except OSError as error:
            raise MachineError(limits.lacking(error)) from None

    said = limited(resource.RLIMIT_FSIZE, 1000, write, tmp_path / "told")
    assert said.startswith(f"{path}: File too large (")
    assert "a file may have 1,000 bytes (ulimit -f), 1.0 MB are needed). Make room" in said
    assert path.read_bytes() == b"old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "told"]
