"""The files of a dataset: those of a folder, one file, or the members of an archive, which is read in place."""

import io
import os
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from typing_extensions import TypedDict

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Count, Digest

MOST_FILES = 10_000_000
MOST_UNPACKED = 200
"""So many times its own size a .gz file may unpack to, and a MiB more: images and tables do not come near it."""
_BLOCK = 2**20
_LEFT_OUT = ("thumbs.db", "__macosx", "desktop.ini")
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
        raise DataError(f"{name}: {what}. Expected: a folder, a file or an archive. Put it there, or mend `path`.")
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
        return Tar(_unpacked_beside(path, name, kept), name)
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
        try:
            state = (self.path / name).lstat()
        except (OSError, ValueError):
            raise missing(self, name) from None
        if not stat.S_ISREG(state.st_mode) or ".." in name.split("/"):
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
            raise missing(self, name)
        return self.path


@dataclass
class Zip:
    """The members of a .zip archive, unpacked as they are read."""

    path: Path
    name: str
    _open: "tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]] | None" = field(default=None, repr=False)

    def _archive(self) -> "tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]":
        if self._open is None:
            try:
                archive = zipfile.ZipFile(self.path)
                members = [one for one in archive.infolist() if not one.is_dir()]
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
                raise DataError(f"{self.name}: damaged, or no zip archive ({error}). Pack it anew.") from None
            found: dict[str, zipfile.ZipInfo] = {}
            for one in members:
                if stat.S_ISLNK(one.external_attr >> 16):
                    raise _link(self.name, one.filename)
                if one.flag_bits & 1:
                    raise DataError(f"{self.name}: {one.filename!a} is encrypted. Pack it anew without a password.")
                if one.filename in found:
                    raise DataError(f"{self.name}: {one.filename!a} is in it twice. Expected: each name once.")
                found[one.filename] = one
            kept = checked_names(found, self.name)
            self._open = archive, {name: found[name] for name in kept}
        return self._open

    def names(self) -> list[str]:
        """All names, sorted."""
        return list(self._archive()[1])

    def size(self, name: str) -> int:
        """Bytes, unpacked, as the archive says."""
        return self._member(name).file_size

    def _member(self, name: str) -> zipfile.ZipInfo:
        members = self._archive()[1]
        if name not in members:
            raise missing(self, name)
        return members[name]

    def open(self, name: str) -> BinaryIO:
        """The content: no more than the archive says. Damage is raised as DataError where it is read."""
        member = self._member(name)
        try:
            return cast(BinaryIO, io.BufferedReader(_Member(self._archive()[0].open(member), f"{self.name}/{name}")))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{self.name}/{name}: cannot be unpacked ({error}). Pack it anew.") from None

    def local(self, name: str) -> Path | None:
        """None: it is in an archive."""
        return None

    def __getstate__(self) -> dict[str, Any]:  # noqa: D105
        return {**vars(self), "_open": None}


@dataclass
class Tar:
    """The members of a .tar archive: parts of one file."""

    path: Path
    name: str
    _places: dict[str, tuple[int, int]] | None = field(default=None, repr=False)

    def _found(self) -> dict[str, tuple[int, int]]:
        if self._places is None:
            places: dict[str, tuple[int, int]] = {}
            end = self.path.stat().st_size
            try:
                with tarfile.open(self.path, "r:") as archive:
                    for one in archive:
                        cast(Any, archive).members = []  # as it is listed, it is let go
                        member = one.name.removeprefix("./")
                        if one.isdir():
                            continue
                        if not one.isreg() or one.issparse():
                            raise _link(self.name, one.name)
                        if one.offset_data + one.size > end:
                            raise tarfile.ReadError(f"{one.name!a} ends behind the end of the archive")
                        if member in places:
                            raise DataError(f"{self.name}: {member!a} is in it twice. Expected: each name once.")
                        places[member] = one.offset_data, one.size
                        if len(places) > MOST_FILES:
                            raise too_many(self.name)
            except (tarfile.TarError, OSError, EOFError, ValueError) as error:
                if isinstance(error, DataError):
                    raise
                raise DataError(f"{self.name}: damaged, or no tar archive ({error}). Pack it anew.") from None
            self._places = {name: places[name] for name in checked_names(places, self.name)}
        return self._places

    def names(self) -> list[str]:
        """All names, sorted."""
        return list(self._found())

    def size(self, name: str) -> int:
        """Bytes, as the archive says."""
        return self._place(name)[1]

    def _place(self, name: str) -> tuple[int, int]:
        if name not in self._found():
            raise missing(self, name)
        return self._found()[name]

    def open(self, name: str) -> BinaryIO:
        """The content: a part of the archive, with a position of its own."""
        return cast(BinaryIO, io.BufferedReader(_Part(self.path, *self._place(name))))

    def local(self, name: str) -> Path | None:
        """None: it is in an archive."""
        return None


class _Part(io.RawIOBase):
    """A part of a file, to read and seek."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        super().__init__()
        self.file = os.open(path, os.O_RDONLY)
        self.offset, self.length, self.at = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, self.length)[whence])
        return self.at

    def readinto(self, buffer: Any) -> int:
        content = os.pread(self.file, max(0, min(len(buffer), self.length - self.at)), self.offset + self.at)
        buffer[: len(content)] = content
        self.at += len(content)
        return len(content)

    def close(self) -> None:
        if not self.closed:
            os.close(self.file)
        super().close()


class _Member(io.RawIOBase):
    """A member of a .zip archive, whose damage is a DataError."""

    def __init__(self, file: Any, name: str) -> None:
        super().__init__()
        self.file, self.called = file, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._undamaged(lambda: self.file.seek(offset, whence)))

    def readinto(self, buffer: Any) -> int:
        content = self._undamaged(lambda: self.file.read(len(buffer)))
        buffer[: len(content)] = content
        return len(content)

    def _undamaged(self, action: Any) -> Any:
        try:
            return action()
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataError(f"{self.called}: damaged ({error}). Pack it anew.") from None

    def close(self) -> None:
        self.file.close()
        super().close()


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
                if _is_left_out(entry.name):
                    continue
                path = f"{below}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    found[path] = entry.stat(follow_symlinks=False)
                else:
                    raise _link(name, path)
        if len(found) > MOST_FILES:
            raise too_many(name)
    for path in checked_names(found, name):
        yield path, found[path]


def checked_names(names: Iterable[str], where: str) -> list[str]:
    """Those that a dataset can be made of, sorted. Raises DataError for one that no file may have."""
    kept: list[str] = []
    folded: dict[str, str] = {}
    for name in sorted(names):
        parts = name.split("/")
        if any(map(_is_left_out, parts)) and ".." not in parts:
            continue
        if not name.isprintable() and any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
            raise DataError(f"{where}: {name!a}: a control character or no UTF-8 in a name. Rename the file.")
        if ".." in parts or name.startswith("/") or "\\" in name:
            raise DataError(f"{where}: {name!a} leads out of it. Expected: names of files in it. Pack it anew.")
        one = name if name.isascii() else unicodedata.normalize("NFC", name)
        other = folded.setdefault(one.casefold(), name)
        if other != name:
            raise DataError(
                f"{where}: {other!a} and {name!a} are one name on some machines. Expected: names that differ in more "
                "than case and accents' encoding. Rename one of them."
            )
        kept.append(name)
    return kept


def missing(source: SourceFiles, name: str) -> DataError:
    """What is raised for a file that the source does not have."""
    return DataError(f"{source.name}: {name!a} is not in it. Expected: that file. Mend the dataset file, or the data.")


def too_many(name: str) -> DataError:
    """What is raised for more files than any dataset has."""
    return DataError(f"{name}: more than {MOST_FILES:,} files. Expected: fewer. Pack many examples into one file.")


def _link(where: str, name: str) -> DataError:
    return DataError(
        f"{where}: {name!a}: a link, a pipe or a device. Expected: files and folders. Put the file itself there."
    )


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _LEFT_OUT


def open_unpacked(source: SourceFiles, name: str) -> BinaryIO:
    """A file's content, to read and seek: of a .gz what it holds, at most MOST_UNPACKED times its size. Damage is
    raised as DataError where it is read."""
    if isinstance(source, Folder) and name in source.contents:
        return io.BytesIO(source.contents[name])
    file = source.open(name)
    if not name.lower().endswith(".gz"):
        return file
    return _unpacking(file, f"{source.name}/{name}", source.size(name))


def _unpacking(file: BinaryIO, name: str, size: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Unpacked(file, name, MOST_UNPACKED * size + _BLOCK), _BLOCK))


class _Unpacked(io.RawIOBase):
    """What is in a .gz file, all its members one behind the other."""

    def __init__(self, file: BinaryIO, name: str, most: int) -> None:
        super().__init__()
        self.file, self.called, self.most, self.at = file, name, most, 0
        self.inflater = zlib.decompressobj(wbits=31)
        self.waiting = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """To a place from the start on: what is before it is unpacked and let go."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("seek from elsewhere than the start")
        if offset < self.at:
            self.file.seek(0)
            self.inflater, self.waiting, self.at = zlib.decompressobj(wbits=31), b"", 0
        while self.at < offset and self.read(min(offset - self.at, _BLOCK)):
            pass
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        while True:
            self.waiting = self.waiting or self.file.read(_BLOCK)
            if not self.waiting:
                if not self.inflater.eof:
                    raise DataError(f"{self.called}: ends early. Expected: the end of the gzip data. Fetch it anew.")
                return 0
            if self.inflater.eof:
                self.inflater = zlib.decompressobj(wbits=31)
            try:
                content = self.inflater.decompress(self.waiting, len(buffer))
            except zlib.error as error:
                raise DataError(f"{self.called}: damaged gzip data ({error}). Fetch it anew.") from None
            self.waiting = self.inflater.unused_data if self.inflater.eof else self.inflater.unconsumed_tail
            self.at += len(content)
            if self.at > self.most:
                raise DataError(
                    f"{self.called}: unpacks to more than {MOST_UNPACKED} times its size. Expected: less. Unpack it by "
                    "hand if that is meant."
                )
            if content:
                buffer[: len(content)] = content
                return len(content)

    def close(self) -> None:
        self.file.close()
        super().close()


def _unpacked_beside(path: Path, name: str, kept: Path) -> Path:
    """The .tar in a .tar.gz, unpacked now or earlier; it is known by size and time of the .tar.gz."""
    state = path.stat()
    target = kept / f"{path.name}.{state.st_size}.{state.st_mtime_ns}.tar"
    if not target.exists():
        for other in kept.glob(f"{path.name}.*.tar"):
            other.unlink()
        print(f"{name}: unpacked, once, to {target}", flush=True)
        with (
            files.writing_atomically(target, state.st_size) as out,
            _unpacking(path.open("rb"), name, state.st_size) as content,
        ):
            shutil.copyfileobj(content, out, _BLOCK)
    return target
