"""What a killed process left is removed by the next one; what another works with is not."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from keras_pipeline.core import temporary
from open_files import open_files

WORKS = (
    "import tempfile, time; from pathlib import Path; from keras_pipeline.core import temporary\n"
    "with temporary.own_folder():\n"
    "    Path(tempfile.mkdtemp(), 'inner').write_text('x'); print(tempfile.gettempdir(), flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def working() -> tuple["subprocess.Popen[str]", Path]:
    """Another process that has made temporary files, and its folder of them."""
    process = subprocess.Popen([sys.executable, "-c", WORKS], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    with process.stdout:
        return process, Path(process.stdout.readline().strip())


def test_everything_that_is_made_within_is_removed(usual: Path) -> None:
    with temporary.own_folder():
        made = Path(tempfile.mkdtemp(), "inner")
        made.write_text("x")
        assert made.parents[2] == usual
        assert made.parents[1].stat().st_mode & 0o777 == 0o700
    assert list(usual.iterdir()) == []
    assert tempfile.tempdir == str(usual)


def test_what_a_living_process_made_stays_and_what_a_killed_one_left_goes(usual: Path) -> None:
    process, folder = working()
    with temporary.own_folder():
        assert len(list(usual.iterdir())) == 2
    assert list(usual.iterdir()) == [folder]

    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(folder.rglob("inner"))
    with temporary.own_folder():
        assert len(list(usual.iterdir())) == 1
    assert list(usual.iterdir()) == []


def test_nothing_of_somebody_else_is_removed(usual: Path, tmp_path: Path) -> None:
    (usual / "keras-abcdefgh").mkdir()  # without the mark
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / temporary.MARK).touch()
    (usual / "keras-linkedto").symlink_to(tmp_path / "elsewhere")
    with temporary.own_folder():
        pass
    assert sorted(path.name for path in usual.iterdir()) == ["keras-abcdefgh", "keras-linkedto"]
    assert (tmp_path / "elsewhere" / temporary.MARK).exists()


def test_what_cannot_be_removed_keeps_nothing_else_and_stops_nothing(
    usual: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def refuse(path: str, **more: int) -> None:
        if Path(path).name == "stuck":
            raise PermissionError(errno.EPERM, "Operation not permitted", path)
        unlink(path, **more)

    def fill(folder: Path) -> None:
        for name in ("stuck", *map(str, range(20))):
            (folder / name).touch()

    (usual / "keras-left").mkdir()
    (usual / "keras-left" / temporary.MARK).touch()
    fill(usual / "keras-left")
    monkeypatch.setattr(os, "unlink", refuse)
    with temporary.own_folder():
        fill(Path(tempfile.gettempdir()))
    assert [path.name for path in usual.glob("*/*")] == ["stuck"] * 2


def test_a_mark_that_another_user_or_a_link_made_is_none(usual: Path, tmp_path: Path) -> None:
    (usual / "keras-linkmark").mkdir()
    (tmp_path / "file").touch()
    (usual / "keras-linkmark" / temporary.MARK).symlink_to(tmp_path / "file")
    left = {"keras-linkmark"}
    if os.getuid() == 0:  # who alone can make files of others
        (usual / "keras-ofanother").mkdir()
        (usual / "keras-ofanother" / temporary.MARK).touch()
        os.chown(usual / "keras-ofanother" / temporary.MARK, 65534, -1)
        left.add("keras-ofanother")
    with temporary.own_folder():
        pass
    assert {path.name for path in usual.iterdir()} == left


def test_nothing_stays_open_and_what_outlives_the_process_is_elsewhere(usual: Path) -> None:
    (usual / "keras-left").mkdir()
    (usual / "keras-left" / temporary.MARK).touch()
    assert temporary.lasting_folder() == usual
    with temporary.own_folder():
        assert temporary.lasting_folder() == usual
        mark = Path(tempfile.gettempdir(), temporary.MARK)
        assert mark.parent.parent == usual
        assert mark.parent.name.startswith("keras-")
        assert mark.stat().st_mode & 0o777 == 0o600
        shutil.rmtree(mark.parent)  # as a cleaner of old files does
    assert list(usual.iterdir()) == []
    assert open_files(usual) == []


def test_a_folder_that_another_process_takes_for_a_left_one_is_made_again(
    usual: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []
    lock = fcntl.flock

    def take_the_first(descriptor: int, how: int) -> None:
        if not taken:
            taken.extend(usual.iterdir())
            shutil.rmtree(taken[0])
        lock(descriptor, how)

    monkeypatch.setattr("fcntl.flock", take_the_first)
    with temporary.own_folder():
        assert Path(tempfile.gettempdir()).is_dir()
        assert Path(tempfile.gettempdir()) not in taken
    assert list(usual.iterdir()) == []
    assert open_files(usual) == []


def test_a_fork_leaves_the_folder_to_its_owner(usual: Path) -> None:
    with temporary.own_folder():
        fork = os.fork()
        if not fork:
            try:
                with temporary.own_folder():
                    pass
            finally:
                os._exit(0)
        os.waitpid(fork, 0)
        assert Path(tempfile.gettempdir(), temporary.MARK).exists()


def test_a_folder_that_cannot_be_made_changes_nothing(usual: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(usual / "gone"))
    with temporary.own_folder():
        assert tempfile.gettempdir() == str(usual / "gone")


def test_many_processes_disturb_each_other_never(usual: Path) -> None:
    code = (
        "import tempfile; from keras_pipeline.core import temporary\n"
        "for _ in range(100):\n"
        "    with temporary.own_folder(): tempfile.mkdtemp()\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert list(usual.iterdir()) == []


def test_what_libraries_keep_there_to_the_end_of_the_process_is_gone_in_silence(tmp_path: Path) -> None:
    short = Path(tempfile.mkdtemp(dir="/tmp"))  # the path of a socket is no longer than 107 bytes
    work = (
        "import atexit, multiprocessing, shutil, tempfile; from keras_pipeline.core import temporary\n"
        "if __name__ == '__main__':\n"
        "    with temporary.own_folder():\n"
        "        tempfile.TemporaryDirectory(); kept = tempfile.TemporaryDirectory()\n"
        "        atexit.register(shutil.rmtree, tempfile.mkdtemp())\n"
        "        other = multiprocessing.get_context('forkserver').Process(target=print)\n"
        "        other.start(); other.join()\n"
    )
    program = tmp_path / "program.py"
    program.write_text(work)
    command = [sys.executable, "-W", "ignore", program]
    environment = {**os.environ, "TMPDIR": str(short)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
    short.rmdir()
