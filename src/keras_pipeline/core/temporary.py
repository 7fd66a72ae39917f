"""Files that are there for a while only: each process has them in one folder, and removes those of killed ones.

A killed process removes nothing, but the kernel lets go of its locks: so the next process knows what was left, and none
loses what it works with.
"""

import atexit
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PREFIX, MARK = "keras-", ".keras-pipeline"
"""How the folder's name begins; and the file in it that is locked, by which it is ours."""


@contextmanager
def own_folder() -> Iterator[None]:
    """Within, all that this process makes by `tempfile` is in a folder of its own, removed at the end with the rest.

    The folders of processes that were killed are removed first. Nothing changes where none can be made.
    """
    usual, owner = tempfile.tempdir, os.getpid()
    try:
        for mark in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{MARK}"):
            _remove_left(mark)
        own, descriptor = _make()
    except OSError:
        yield
        return
    tempfile.tempdir = str(own)
    try:
        yield
    finally:
        tempfile.tempdir = usual
        if os.getpid() == owner:  # and no fork of it
            _let_libraries_remove_theirs()
            shutil.rmtree(own, ignore_errors=True)
            os.close(descriptor)


def _let_libraries_remove_theirs() -> None:
    """Now, and not at the end of the process: there they would complain that they are gone."""
    atexit.unregister(shutil.rmtree)  # Matplotlib's, where the home is not writable
    multiprocessing: Any = sys.modules.get("multiprocessing.util")
    for last in list(multiprocessing._finalizer_registry.values() if multiprocessing else ()):
        if last._callback is multiprocessing._remove_temp_dir:
            last()


def lasting_folder() -> Path:
    """The folder for temporary files that are to be there when this process has ended."""
    folder = Path(tempfile.gettempdir())
    return folder.parent if (folder / MARK).exists() else folder


def _make() -> tuple[Path, int]:
    while True:
        own = Path(tempfile.mkdtemp(prefix=PREFIX))
        descriptor = os.open(own / MARK, os.O_RDWR | os.O_CREAT, 0o600)
        if _hold(descriptor):
            return own, descriptor
        os.close(descriptor)


def _hold(descriptor: int) -> bool:
    """Lock the file that was just made as long as it is open; false where another process has just removed it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return os.fstat(descriptor).st_nlink > 0


def _remove_left(mark: Path) -> None:
    """Remove the folder of a process of this user that is no more."""
    with suppress(OSError):
        descriptor = os.open(mark, os.O_RDWR | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_uid == os.geteuid() and not mark.parent.is_symlink():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent, ignore_errors=True)
        finally:
            os.close(descriptor)
