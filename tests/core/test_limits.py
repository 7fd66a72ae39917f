"""What the machine lets a process have, and exceptions that say that it was lacking."""

import errno
import resource
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import forked_program
from keras_pipeline.core import files, limits
from keras_pipeline.core.errors import MachineError


def caused(error: BaseException, by: BaseException) -> BaseException:
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: No space left on device ("),
        (OSError(errno.EDQUOT, "Disk quota exceeded", b"a"), "Disk quota exceeded ("),
        (
            OSError("[Errno 28] Can't write data (file write failed: errno = 28, 'No space left on device')"),
            "free there",
        ),
        (RuntimeError("Can't decrement id ref count (No space left on device)"), "free there"),
        (sqlite3.OperationalError("database or disk is full"), "free there"),
        (caused(ValueError("cannot be saved"), OSError(errno.EFBIG, "File too large")), "File too large"),
        (caused(RuntimeError("x"), MemoryError()), "Memory is exhausted"),
        (RuntimeError("std::bad_alloc"), "Memory is exhausted"),
        (ImportError("libx.so: failed to map segment from shared object"), "Memory is exhausted"),
        (OSError(errno.EMFILE, "Too many open files", "x"), "x: Too many open files."),
        (RuntimeError("can't start new thread"), "can't start new thread: there are no more"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "a file: Resource temporarily"),
    ],
)
def test_what_the_machine_lacked_is_said(error: BaseException, said: str) -> None:
    assert said in (limits.lacking(error) or "")


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
    said = limited(kind, 5 * 10**9, lambda: limits.require_memory("Keras", asked, asked), tmp_path / "told")
    assert bool(said) is not enough
    if said:
        assert said.startswith("Keras needs 8.0 GB of ")
        assert f"may not have them (ulimit -{letter} 4882812). Raise the limit" in said


def test_threads_are_started_for_a_moment() -> None:
    before = threading.active_count()
    limits.require_threads("Keras", 3)
    assert threading.active_count() <= before + 3


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
