"""Files are written whole or not at all, read with a name for what is wrong, and locked by one process."""

import errno
import fcntl
import hashlib
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from file_size import file_size_limit
from keras_pipeline.core import files, json_files
from keras_pipeline.core.errors import BusyError, DataError
from open_files import open_files

HOLD = (
    "import sys, time; from pathlib import Path; from keras_pipeline.core import files\n"
    "with files.lock_folder(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


def test_writes_new_and_old_files_and_their_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    files.write_atomically(path, b"one")
    files.write_atomically(path, memoryview(b"another"))
    assert path.read_bytes() == b"another"
    assert list(path.parent.iterdir()) == [path]


def test_a_reader_keeps_the_old_content_that_it_opened(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_atomically(path, b"old")
    with path.open("rb") as reader:
        files.write_atomically(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0, 0o666)])
def test_permissions_are_those_of_any_new_file(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        files.write_atomically(tmp_path / "file", b"")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_what_was_there(there: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if there:
        path.write_bytes(b"old")
    with file_size_limit(1000), pytest.raises(OSError) as failed:
        files.write_atomically(path, bytes(2_345_678))
    fault = failed.value
    assert (fault.errno, fault.filename, fault.filename2) == (errno.EFBIG, str(path), None)
    assert fault.__notes__ == ["2.3 MB are needed"]
    assert [one.read_bytes() for one in tmp_path.iterdir()] == ([b"old"] if there else [])


def fails_at_sync(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def is_stopped(descriptor: int) -> None:
    raise KeyboardInterrupt


# What no test can bring about: a disk that fills up only at the sync, a signal at that very moment.
@pytest.mark.parametrize(("sync", "error"), [(fails_at_sync, OSError), (is_stopped, KeyboardInterrupt)])
def test_a_failure_at_the_last_moment_leaves_what_was_there(
    sync: Callable[[int], None], error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(error):
        files.write_atomically(path, b"new")
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"old"]


def test_a_fault_within_stays_what_it_is_also_where_the_temporary_file_is_gone(tmp_path: Path) -> None:
    def fail(error: Exception) -> None:
        with files.writing_atomically(tmp_path / "file", 3):
            next(tmp_path.glob(".file.*.unfinished")).unlink()
            raise error

    denied = PermissionError(errno.EACCES, "Permission denied", "/elsewhere")
    for error in (KeyError("x"), denied):
        with pytest.raises(type(error)) as raised:
            fail(error)
        assert raised.value is error
        assert not hasattr(error, "__notes__")
    assert denied.filename == "/elsewhere"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_atomically(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_process_killed_while_it_writes_leaves_the_old_content(tmp_path: Path) -> None:
    # It is killed at its first write of the new content, as far from the rename as can be, and at the rename.
    for call in ("fsync", "replace"):
        path = tmp_path / call / "file"
        files.write_atomically(path, b"old")
        program = (
            "import os, pathlib, sys; from keras_pipeline.core import files\n"
            "def die(*_): os.kill(os.getpid(), 9)\n"
            f"{'os' if call == 'fsync' else 'pathlib.Path'}.{call} = die\n"
            "files.write_atomically(pathlib.Path(sys.argv[1]), b'new')\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert path.read_bytes() == b"old"
        (path.parent / ".mine").touch()
        assert len(list(tmp_path.rglob("*.unfinished"))) == 1
        files.write_atomically(path, b"newer")
        assert path.read_bytes() == b"newer"
        assert {one.name for one in path.parent.iterdir()} == {"file", ".mine"}


@pytest.mark.parametrize("value", [math.nan, math.inf, [1, {"a": -math.inf}]])
def test_json_has_no_nan_and_no_infinity(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(tmp_path / "file.json", value)
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_order_numbers_and_text(tmp_path: Path) -> None:
    value = {"b": 0.1 + 0.2, "a": [1, "é\n"], "c": None}
    files.write_json(tmp_path / "file.json", value)
    assert (tmp_path / "file.json").read_bytes().startswith(b'{\n  "b": 0.30000000000000004,\n  "a"')
    read = json_files.parse_json((tmp_path / "file.json").read_bytes())
    assert read == value
    assert list(read) == ["b", "a", "c"]


def test_sha256_is_that_of_hashlib(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert files.file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(FileNotFoundError) as read:
        files.file_sha256(tmp_path / "file")
    with pytest.raises(IsADirectoryError) as written:
        files.write_atomically(tmp_path / "file", b"content")
    for fault in (read.value, written.value):
        assert (fault.filename, fault.filename2) == (str(tmp_path / "file"), None)
    assert [path.name for path in tmp_path.rglob("*")] == ["file", "inside"]


STAGE = "The stage 'train' writes it: {}run `dvc repro train`."
COMMAND = "`keras-pipeline study run` writes it: {}run it again."


@pytest.mark.parametrize(("written_by", "remedy"), [("train", STAGE), ("study run", COMMAND)])
@pytest.mark.parametrize(
    ("kind", "said", "first"),
    [
        ("nothing", "not there. ", ""),
        ("link", "a link to a file that is not there. ", ""),
        ("folder", "a folder. Expected: a file. ", "remove it and "),
        ("pipe", "a pipe or a device. Expected: a file. ", "remove it and "),
        ("large", "12 bytes. Expected: 11 at most. ", "delete it and "),
    ],
)
def test_what_cannot_be_read_is_told_with_what_writes_it(
    kind: str, said: str, first: str, written_by: str, remedy: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    {
        "nothing": lambda: None,
        "link": lambda: path.symlink_to("gone"),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "large": lambda: path.write_bytes(b"twelve bytes"),
    }[kind]()
    with pytest.raises(DataError) as refused:
        files.read_content(path, written_by, 11)
    assert str(refused.value) == f"{path}: {said}{remedy.format(first)}"
    assert open_files(tmp_path) == []
    if kind in ("folder", "pipe"):
        with pytest.raises(FileNotFoundError) as none:
            files.file_sha256(path)
        assert none.value.args == (errno.ENOENT, "No file, but a folder, a pipe or a device")
        assert open_files(tmp_path) == []
    if kind == "large":
        assert files.read_content(path, written_by, 12) == b"twelve bytes"


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError) as refused, files.lock_folder(folder):
            pass
        message = re.fullmatch(
            rf"{folder}/ is being written by process {holder.pid}, for (\d+) s\. "
            r"Wait until it ends, or stop it, then run the same command again\.",
            str(refused.value),
        )
        assert message
        assert int(message[1]) < 30
        holder.kill()
    with files.lock_folder(folder):
        assert re.fullmatch(rf"{os.getpid()} \d+\.\d+", (folder / ".lock").read_text())


def test_a_lock_is_free_after_its_block_however_it_ends(tmp_path: Path) -> None:
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), files.lock_folder(tmp_path):
            raise error
    with files.lock_folder(tmp_path), pytest.raises(BusyError), files.lock_folder(tmp_path):
        pass
    with files.lock_folder(tmp_path):
        pass


def test_a_lock_file_with_nonsense_in_it_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("99999999 long ago" * 9)
    with files.lock_folder(tmp_path):
        assert re.fullmatch(rf"{os.getpid()} \d+\.\d+", (tmp_path / ".lock").read_text())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"17 1.5", r"by process 17, for \d+ s\."),
        (b"17 99999999999.0", r"by process 17, for 0 s\."),  # the clock was set back
        (b"", r"by process unknown\."),
        (b"17", r"by process unknown\."),
        (b"17 long ago", r"by process unknown\."),
        (b"17 1e999", r"by process unknown\."),
        (b"\xff\x00" * 9999, r"by process unknown\."),
    ],
)
def test_whatever_stands_in_a_held_lock_it_is_busy(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(content)
    with (tmp_path / ".lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match=said), files.lock_folder(tmp_path):
            pass
    assert (tmp_path / ".lock").read_bytes() == content


def test_what_another_process_writes_just_now_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "file [1]"
    with files.writing_atomically(path, 3) as first:
        first.write(b"one")
        files.write_atomically(path, b"two")
        assert path.read_bytes() == b"two"
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_stands_in_the_lock_s_place_is_named(kind: str, tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    {"pipe": lambda: os.mkfifo(lock), "folder": lock.mkdir, "link": lambda: lock.symlink_to("/nowhere/x")}[kind]()
    with pytest.raises(OSError) as refused, files.lock_folder(tmp_path):
        pass
    assert refused.value.errno == {"pipe": errno.EEXIST, "folder": errno.EISDIR, "link": errno.ELOOP}[kind]
    assert str(refused.value.filename) == str(lock)
    if kind == "pipe":
        assert refused.value.strerror == "Something else than a file is in the way"


def test_a_lock_may_be_taken_by_everybody_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with files.lock_folder(tmp_path):
            assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_locks_of_two_folders_do_not_meet(tmp_path: Path) -> None:
    with files.lock_folder(tmp_path / "a"), files.lock_folder(tmp_path / "b"):
        assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_a_file_system_that_cannot_lock_is_not_called_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", cannot)
    with pytest.raises(OSError, match="No locks available"), files.lock_folder(tmp_path):
        pass
    (tmp_path / ".file.left.unfinished").touch()
    files.write_atomically(tmp_path / "file", b"content")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.left.unfinished", ".lock", "file"]


def test_a_temporary_file_that_another_process_took_for_a_left_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    lock = fcntl.flock

    def take_the_first(descriptor: int, how: int) -> None:
        if not taken:
            [left] = tmp_path.iterdir()
            left.unlink()
            taken.append(left.name)
        lock(descriptor, how)

    monkeypatch.setattr("fcntl.flock", take_the_first)
    files.write_atomically(tmp_path / "file", b"content")
    assert taken
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"content")]


def test_a_cleared_folder_keeps_its_lock_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "inner" / "deep").mkdir(parents=True)
    (tmp_path / "file").touch()
    with files.lock_folder(tmp_path):
        files.clear_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    files.clear_folder(tmp_path / "absent")
