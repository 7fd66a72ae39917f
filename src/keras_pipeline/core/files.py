"""Files on disk: complete or invisible, known by digest, written by one process at a time."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from keras_pipeline.core.errors import BusyError, DataError
from keras_pipeline.core.limits import FULL

_UNFINISHED = ".unfinished"
"""How the names of temporary files end."""


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """`writing_atomically` for what is in memory."""
    with writing_atomically(path, memoryview(content).nbytes) as file:
        file.write(content)


@contextmanager
def writing_atomically(path: Path, size: int) -> Iterator[BinaryIO]:
    """A file of `size` bytes to write, so that `path` holds either its old content or all of the new one, whatever
    happens.

    Creates the folder. A temporary file beside `path` is flushed to disk, renamed, and the folder flushed
    too; it is removed when anything fails. Raises OSError (disk full, no permission) with the old file intact.
    """
    with named_faults(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = _make_temporary(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o666 & ~_umask())
                yield file
                file.flush()
                os.fsync(descriptor)
                Path(temporary).replace(path)  # as long as it is held
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def named_faults(path: Path, size: int) -> Iterator[None]:
    """An OSError within that a full disk raises, or a folder in the way, says that it is about `path`; the first also
    that `size` bytes are needed."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EISDIR:
            error.filename, error.filename2 = str(path), None
        if error.errno in FULL:
            error.filename, error.filename2 = str(path), None
            error.add_note(f"{size / 1e6:,.1f} MB are needed")
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as strict JSON (no NaN: ValueError), indented, keys in the order given, atomically."""
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


LARGEST_BYTES = 2**28
"""No file of JSON or CSV, or of a network's answers, is larger: they are read as a whole."""
LARGEST_MODEL = 2**36


def open_regular(path: Path, written_by: str) -> BinaryIO:
    """The file, to read. Raises DataError, with the command that writes it, where it is missing, or a folder, a pipe or
    a device, on which a reader would wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        what = "a link to a file that is not there" if path.is_symlink() else "not there"
        raise DataError(f"{path}: {what}. {remedy(written_by)}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        what = "a folder" if path.is_dir() else "a pipe or a device"
        raise DataError(f"{path}: {what}. Expected: a file. {remedy(written_by, 'remove it and ')}")
    return os.fdopen(descriptor, "rb")


def read_content(path: Path, written_by: str, most: int = LARGEST_BYTES) -> bytes:
    """All bytes of a file. Raises DataError as `open_regular` does, and where there are more than `most`."""
    with open_regular(path, written_by) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise DataError(f"{path}: {size} bytes. Expected: {most} at most. {remedy(written_by, 'delete it and ')}")
        return file.read()


def remedy(written_by: str, first: str = "") -> str:
    """What writes a file anew: a stage of dvc.yaml, or words of the command line such as "study run"; `first` is what
    is to be done before."""
    if " " in written_by:
        return f"`keras-pipeline {written_by}` writes it: {first}run it again."
    return f"The stage '{written_by}' writes it: {first}run `dvc repro {written_by}`."


def clear_folder(folder: Path) -> None:
    """Remove what is in `folder`, but for its lock."""
    for path in folder.iterdir() if folder.is_dir() else []:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits. Raises OSError; a folder, a pipe or a device is no file."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise FileNotFoundError(errno.ENOENT, "No file, but a folder, a pipe or a device", str(path))
    with os.fdopen(opened, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold `folder` (created) for this process; raises BusyError at once when another process holds it.

    The kernel releases the lock when its process ends in whatever way, so no lock is ever stale.
    """
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise FileExistsError(errno.EEXIST, "Something else than a file is in the way", str(folder / ".lock"))
    with os.fdopen(opened, "r+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            since = re.fullmatch(r"(\d+) (\d{1,12}\.\d+)", file.read(99))  # nonsense tells nothing
            holder = since[1] if since else "unknown"
            # A clock that was set back gives no age below zero.
            age = f", for {max(0, time.time() - float(since[2])):.0f} s" if since else ""
            raise BusyError(
                f"{folder}/ is being written by process {holder}{age}. "
                "Wait until it ends, or stop it, then run the same command again."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()} {time.time()}")
        file.flush()
        yield


def _make_temporary(path: Path) -> tuple[int, str]:
    """A file beside `path` to write it in, held by a lock as long as it is open; those of it that nobody holds, because
    their process was killed, are removed."""
    with suppress(OSError):  # where nothing can be locked, nothing is removed
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{_UNFINISHED}"):
            with left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
    while True:
        descriptor, temporary = tempfile.mkstemp(_UNFINISHED, f".{path.name}.", path.parent)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, temporary
        os.close(descriptor)  # another process took it for one that was left


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
