"""Power that fails: of what was written, only that is there which was flushed, in whatever order the rest came."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kept_checkpoints import IDENTITY, epoch, save
from keras_pipeline.core import files
from keras_pipeline.training.checkpoints import Checkpoints


class Disk:
    """What a folder's files would be after a failure of power, noted at each flush and each change of a name.

    `states` are pairs of names and contents: as of the last flush of the folder, and with every later change of a name
    done; in both a file holds what it held at its own last flush, and nothing if there was none.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.flushed: dict[int, bytes] = {path.stat().st_ino: path.read_bytes() for path in self._files()}
        self.known = self._names()
        self.states: list[dict[str, bytes]] = []
        flush = os.fsync

        def noted(descriptor: int) -> None:
            self.note()
            flush(descriptor)
            found = Path(f"/proc/self/fd/{descriptor}").resolve()
            if found.is_dir():
                self.known = self._names()
            else:
                self.flushed[os.fstat(descriptor).st_ino] = found.read_bytes()
            self.note()

        monkeypatch.setattr(os, "fsync", noted)
        for name in ("replace", "rename", "unlink"):
            self._watch(name, getattr(Path, name), monkeypatch)

    def _watch(self, name: str, change: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
        def noted(path: Path, *arguments: object, **named: object) -> object:
            self.note()
            done = change(path, *arguments, **named)
            self.note()
            return done

        monkeypatch.setattr(Path, name, noted)

    def _files(self) -> Iterator[Path]:
        return (path for path in self.folder.rglob("*") if path.is_file())

    def _names(self) -> dict[str, int]:
        return {str(path.relative_to(self.folder)): path.stat().st_ino for path in self._files()}

    def note(self) -> None:
        """The two extremes of what would be there now."""
        for names in (self.known, self._names()):
            self.states.append({name: self.flushed.get(number, b"") for name, number in names.items()})


def test_whatever_was_not_flushed_is_lost_a_file_is_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_atomically(tmp_path / "file", b"old")
    disk = Disk(tmp_path, monkeypatch)
    files.write_atomically(tmp_path / "file", b"new")
    disk.note()
    found = [state.get("file") for state in disk.states]
    assert set(found) == {b"old", b"new"}
    assert found[-1] == found[-2] == b"new"  # what was written is there for good, and not only named


def test_a_file_that_is_not_flushed_before_it_is_named_would_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    disk = Disk(tmp_path, monkeypatch)
    (tmp_path / "temporary").write_bytes(b"new")
    (tmp_path / "temporary").replace(tmp_path / "file")
    assert b"" in [state.get("file") for state in disk.states]


def test_of_checkpoints_a_torn_one_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """They are not flushed, so that training is not held up: of the newest nothing, or a part, may be there."""
    training = Checkpoints(tmp_path / "own", IDENTITY)
    save(training, 1, 2)
    with monkeypatch.context() as patched:
        disk = Disk(tmp_path / "own", patched)
        save(training, 3, 4)
    reached = set()
    assert len(disk.states) >= 8
    for number, state in enumerate(disk.states):
        for name, content in state.items():
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        reached.add(epoch(Checkpoints(tmp_path / str(number), IDENTITY)))
    assert reached <= {1, 2, None}
    assert "is damaged" in capfd.readouterr().err
