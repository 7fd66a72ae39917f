"""The archive that DVC is to keep: the same files give the same bytes, and are read from it as from the folder."""

import hashlib
import os
import tarfile
from pathlib import Path

import pytest

from keras_pipeline.core.errors import DataError
from keras_pipeline.inspection.packing import pack
from keras_pipeline.sources.source_files import Folder, open_source

NAMES = ("b/2.txt", "a/1.txt", "a/ünïcode äöü.txt", "c/" + "long" * 40 + ".txt", ".hidden", "Thumbs.db")


def filled(folder: Path, order: int = 1) -> Path:
    for number, name in enumerate(NAMES[::order]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 700)
        os.utime(path, (number * 1000, number * 1000))
        path.chmod(0o600 + number)
    return folder


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name, order in (("one", 1), ("two", -1)):
        pack(Folder(filled(tmp_path / name, order), name), tmp_path / f"{name}.tar")
        digests.append(hashlib.sha256((tmp_path / f"{name}.tar").read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_it_is_read_as_the_folder_is(tmp_path: Path) -> None:
    folder = Folder(filled(tmp_path / "own"), "own")
    told: list[int] = []
    pack(folder, tmp_path / "own.tar", told.append)
    archive = open_source(tmp_path / "own.tar", "own.tar", tmp_path)
    assert archive.names() == folder.names()
    assert len(archive.names()) == 4
    assert told == [1, 2, 3, 4]
    for name in folder.names():
        with archive.open(name) as packed, folder.open(name) as own:
            assert packed.read() == own.read()
    with tarfile.open(tmp_path / "own.tar") as opened:
        assert {(one.mtime, one.uid, one.gid, one.uname, one.mode) for one in opened} == {(0, 0, 0, "", 0o644)}


def test_nothing_is_written_where_a_file_is_a_link(tmp_path: Path) -> None:
    folder = filled(tmp_path / "own")
    (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="a link"):
        pack(Folder(folder, "own"), tmp_path / "own.tar")
    assert not (tmp_path / "own.tar").exists()
