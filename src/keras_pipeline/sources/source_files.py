"""The files of a dataset: those of a folder, one file, or the members of an archive, which is read in place."""

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from typing_extensions import TypedDict

from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Count, Digest
from keras_pipeline.sources.files.archives import Tar, Zip, unpack_beside, unpacked
from keras_pipeline.sources.files.names import MOST_FILES, checked_names, is_left_out, link, missing, too_many

_OTHER_ARCHIVE = re.compile(r"\.(tar\.(bz2|xz|zst)|tbz2?|txz)$", re.IGNORECASE)


class Source(TypedDict):
    """Of what the examples are read. `sha256`: of the lines `SHA-256  path`, sorted by path; of downloads with their
    published digests."""

    files: Count
    bytes: Count
    sha256: Digest


class SourceFiles(Protocol):
    """Names are relative POSIX paths. An instance can be pickled: another process opens the files for itself.

    What no dataset is made of is left out: names that begin with a dot, Thumbs.db, desktop.ini, __MACOSX.
    """

    name: str
    """How messages call it: the path as the dataset file has it."""

    def names(self) -> list[str]:
        """All names, sorted. Raises DataError for a link, or a name with a control character, or two that are one
        after Unicode normalization (NFC) and case folding."""
        ...

    def size(self, name: str) -> int:
        """Bytes, as the folder or the archive has it."""
        ...

    def open(self, name: str) -> BinaryIO:
        """The content, to read and seek. Raises DataError where it is missing or no regular file."""
        ...

    def local(self, name: str) -> Path | None:
        """The file, where it is one of its own: to be mapped into memory. None in an archive."""
        ...


def open_source(path: Path, name: str, kept: Path) -> SourceFiles:
    """The files of a folder, a file, or an archive, told apart by its first bytes.

    A .tar.gz is unpacked to a .tar in the folder `kept`, once, since nothing in it can be found otherwise. Raises
    DataError where it is not there, or no archive that can be read.
    """
    if not path.exists():
        what = "a link to what is not there" if path.is_symlink() else "not there"
        raise DataError(
            f"{name}: {what}. Expected: a folder, a file or an archive. Put it there, or name another path."
        )
    if path.is_dir():
        return Folder(path, name)
    if not path.is_file():
        raise DataError(f"{name}: a pipe or a device. Expected: a folder, a file or an archive.")
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith((b"PK\3\4", b"PK\5\6")) and path.suffix.lower() != ".npz":
        return Zip(path, name)
    if start[257:262] == b"ustar" or (path.suffix.lower() == ".tar" and start):
        return Tar(path, name)
    if start.startswith(b"\x1f\x8b") and path.name.lower().endswith((".tar.gz", ".tgz")):
        return Tar(unpack_beside(path, name, kept), name)
    if start.startswith((b"7z\xbc\xaf", b"Rar!")) or _OTHER_ARCHIVE.search(path.name):
        raise DataError(f"{name}: an archive that is not read. Expected: .zip, .tar or .tar.gz. Pack it anew.")
    return SingleFile(path, name)


@dataclass
class Folder:
    """The files below a folder; `contents`: what is known of some already, unpacked where they are .gz."""

    path: Path
    name: str
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    _sizes: dict[str, int] | None = field(default=None, repr=False)

    def names(self) -> list[str]:
        """All names, sorted."""
        return list(self._found())

    def _found(self) -> dict[str, int]:
        if self._sizes is None:
            self._sizes = {name: state.st_size for name, state in walk(self.path, self.name)}
        return self._sizes

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._regular(name).st_size

    def _regular(self, name: str) -> os.stat_result:
        path = self.path / name
        try:
            state = path.lstat()
            there = name in (self._sizes or ()) or path.parent.resolve().is_relative_to(self.path.resolve())
        except (OSError, ValueError):
            raise missing(self.name, name) from None
        if not stat.S_ISREG(state.st_mode) or not there:
            raise DataError(f"{self.name}/{name}: no regular file. Expected: one. Put the file itself there.")
        return state

    def open(self, name: str) -> BinaryIO:
        """The content."""
        self._regular(name)
        return (self.path / name).open("rb")

    def local(self, name: str) -> Path | None:
        """The file."""
        return self.path / name

    def __getstate__(self) -> dict[str, Any]:  # noqa: D105
        return {**vars(self), "contents": {}}


@dataclass
class SingleFile:
    """One file, by its own name."""

    path: Path
    name: str

    def names(self) -> list[str]:
        """Its name."""
        return checked_names([self.path.name], self.name)

    def size(self, name: str) -> int:
        """Its bytes."""
        return self._own(name).stat().st_size

    def open(self, name: str) -> BinaryIO:
        """The content."""
        return self._own(name).open("rb")

    def local(self, name: str) -> Path | None:
        """The file."""
        return self._own(name)

    def _own(self, name: str) -> Path:
        if name != self.path.name:
            raise missing(self.name, name)
        return self.path


def walk(folder: Path, name: str) -> Iterator[tuple[str, os.stat_result]]:
    """All files below a folder that a dataset can be made of, sorted by name, and what the system says of each.

    Raises DataError as `SourceFiles.names` does.
    """
    found: dict[str, os.stat_result] = {}
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                if is_left_out(entry.name):
                    continue
                path = f"{below}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    found[path] = entry.stat(follow_symlinks=False)
                else:
                    raise link(name, path)
        if len(found) > MOST_FILES:
            raise too_many(name)
    for path in checked_names(found, name):
        yield path, found[path]


def open_unpacked(source: SourceFiles, name: str) -> BinaryIO:
    """A file's content, to read and seek: of a .gz what it holds, at most 200 times its size. Damage is
    raised as DataError where it is read."""
    if isinstance(source, Folder) and name in source.contents:
        return io.BytesIO(source.contents[name])
    file = source.open(name)
    if not name.lower().endswith(".gz"):
        return file
    return unpacked(file, f"{source.name}/{name}", source.size(name))
