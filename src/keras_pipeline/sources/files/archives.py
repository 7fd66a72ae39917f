"""Archives, read in place, and what gzip has packed: no more is unpacked than is asked for, nothing is extracted."""

import errno
import glob
import io
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.files.names import MOST_FILES, checked_names, link, missing, too_many

MOST_UNPACKED = 200
"""So many times its own size a .gz file may unpack to, and a MiB more: images and tables do not come near it."""
BLOCK = 2**20
LARGEST_LIST = 2**26
"""Bytes of the list of a zip archive's members: of some 700,000 files."""


def check_directory(file: BinaryIO, size: int) -> None:
    """Raise ValueError where the list of a zip archive's members, which is read as a whole, is too long, or none is
    there; leaves the file at its start."""
    file.seek(max(0, size - 65_557))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:
        raise ValueError("no zip archive")
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    if (large := tail.rfind(b"PK\6\6")) >= 0:  # of archives beyond 4 GB
        length = int.from_bytes(tail[large + 40 : large + 48], "little")
    if length > LARGEST_LIST:
        raise ValueError(f"a list of members of {length:,} bytes")
    file.seek(0)


@dataclass
class Zip:
    """The members of a .zip archive, unpacked as they are read."""

    path: Path
    name: str
    _open: "tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]] | None" = field(default=None, repr=False)

    def _archive(self) -> "tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]":
        if self._open is None:
            try:
                with self.path.open("rb") as file:
                    check_directory(file, self.path.stat().st_size)
                archive = zipfile.ZipFile(self.path)
                members = [one for one in archive.infolist() if not one.is_dir()]
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, LookupError, struct.error) as error:
                raise DataError(f"{self.name}: damaged, or no zip archive ({error}). Pack it anew.") from None
            found: dict[str, zipfile.ZipInfo] = {}
            for one in members:
                if stat.S_ISLNK(one.external_attr >> 16):
                    raise link(self.name, one.filename)
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
            raise missing(self.name, name)
        return members[name]

    def open(self, name: str) -> BinaryIO:
        """The content: no more than the archive says. Damage is raised as DataError where it is read."""
        member = self._member(name)
        try:
            return cast(BinaryIO, io.BufferedReader(_Member(self._archive()[0].open(member), f"{self.name}/{name}")))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of a place before the start
                raise
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
                            raise link(self.name, one.name)
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
            raise missing(self.name, name)
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


def unpacked(file: BinaryIO, name: str, size: int) -> BinaryIO:
    """What is in a .gz file of this size, to read and seek; damage is raised as DataError where it is read."""
    return cast(BinaryIO, io.BufferedReader(_Unpacked(file, name, MOST_UNPACKED * size + BLOCK), BLOCK))


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
        while self.at < offset and self.read(min(offset - self.at, BLOCK)):
            pass
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        while True:
            self.waiting = self.waiting or self.file.read(BLOCK)
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


def unpack_beside(path: Path, name: str, kept: Path) -> Path:
    """The .tar in a .tar.gz, unpacked now or earlier; it is known by size and time of the .tar.gz."""
    state = path.stat()
    target = kept / f"{path.name}.{state.st_size}.{state.st_mtime_ns}.tar"
    if not target.exists():
        for other in kept.glob(f"{glob.escape(path.name)}.*.tar"):
            other.unlink()
        print(f"{name}: unpacked, once, to {target}", flush=True)
        with (
            files.writing_atomically(target, state.st_size) as out,
            unpacked(path.open("rb"), name, state.st_size) as content,
        ):
            shutil.copyfileobj(content, out, BLOCK)
    return target
