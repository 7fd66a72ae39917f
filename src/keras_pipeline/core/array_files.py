"""NumPy's files .npy and .npz, read as the arrays that they must hold; nothing else of them is believed."""

import io
import mmap
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError

HEADER_BYTES = 4096


@dataclass(frozen=True)
class Expected:
    """An array: its kind as NumPy writes it, such as "<f4", and its shape."""

    kind: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Of its numbers."""
        size = np.dtype(self.kind).itemsize
        for length in self.shape:
            size *= length  # whole numbers of Python do not overflow
        return size


def map_array(path: Path, expected: Expected, written_by: str) -> NDArray[Any]:
    """The array of a .npy file, left on disk and mapped into memory.

    Raises DataError, before anything is allocated, where it is not exactly what is expected.
    """
    with files.open_regular(path, written_by) as file:
        try:
            offset = _check_header(file, expected)
            size = path.stat().st_size - offset
            if size != expected.bytes:
                raise ValueError(f"{size} bytes of numbers. Expected: {expected.bytes}")
        except ValueError as fault:
            raise _refusal(path, "", fault, written_by) from None
    if not expected.bytes:
        return np.empty(expected.shape, expected.kind)
    return np.memmap(path, expected.kind, "r", offset, expected.shape)


KEPT_BYTES = 64 * 2**20
"""Of an array that is mapped into memory, as much may stay there."""


def release_pages(array: NDArray[Any]) -> None:
    """Take out of this process what was read of an array that lies on disk, if it is a large one: otherwise a training
    has all of it in memory after an epoch. What is read again comes from the system's cache."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and len(mapped) > KEPT_BYTES and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def read_arrays(
    path: Path, expected: Mapping[str, Expected], written_by: str, *, optional: Iterable[str] = ()
) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file by their names: exactly those that are expected, of which the `optional` may lack.

    No more is unpacked than they must hold. Raises DataError where one is missing, twice there, unknown, damaged, or
    not what is expected.
    """
    content = io.BytesIO(files.read_content(path, written_by))
    arrays: dict[str, NDArray[Any]] = {}
    name = ""
    try:
        with zipfile.ZipFile(content) as archive:
            members = [one.filename for one in archive.infolist()]
            if len(set(members)) < len(members):
                raise ValueError(f"the members {', '.join(members)}. Expected: each once")
            known = {f"{one}.npy" for one in expected}
            needed = known - {f"{one}.npy" for one in optional}
            if not needed <= set(members) <= known:
                raise ValueError(f"{', '.join(map(ascii, members)) or 'nothing'}. Expected: {', '.join(sorted(known))}")
            for member in members:
                name = member.removesuffix(".npy")
                with archive.open(member) as file:
                    arrays[name] = _read(file, expected[name])
    except Exception as fault:  # whatever zipfile, zlib and NumPy raise for bytes that are not theirs
        raise _refusal(path, name, fault, written_by) from None
    return arrays


def _read(file: IO[bytes], expected: Expected) -> NDArray[Any]:
    _check_header(file, expected)
    numbers = file.read(expected.bytes + 1)
    if len(numbers) != expected.bytes:
        more = "more than " if len(numbers) > expected.bytes else ""
        raise ValueError(f"{more}{min(len(numbers), expected.bytes)} bytes of numbers. Expected: {expected.bytes}")
    return np.frombuffer(numbers, expected.kind).reshape(expected.shape)


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape that a .npy file claims, whether in the order of columns, and the kind; the numbers come next.

    Raises ValueError where it is no such file.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"version {version}")
        with warnings.catch_warnings(action="ignore"):  # of those that Python 2 wrote
            shape, in_columns, kind = np.lib.format.read_array_header_1_0(file, max_header_size=HEADER_BYTES)
    except Exception as error:  # NumPy reads it as Python's source does
        reason = str(error).strip().split("\n")[0][:80] or type(error).__name__
        raise ValueError(f"no array of NumPy ({reason})") from None
    return shape, in_columns, kind


def _check_header(file: IO[bytes], expected: Expected) -> int:
    """Where the numbers begin. Raises ValueError where the file holds another array."""
    try:
        shape, in_columns, kind = read_header(file)
    except ValueError as fault:
        raise ValueError(f"{fault}. Expected: {_described(expected.kind, expected.shape)}") from None
    if (kind.str, shape, in_columns) != (expected.kind, expected.shape, False):
        order = ", in the order of columns" if in_columns else ""
        raise ValueError(f"{_described(kind.str, shape)}{order}. Expected: {_described(expected.kind, expected.shape)}")
    return file.tell()


def _described(kind: str, shape: tuple[int, ...]) -> str:
    return f"{kind[:40]} of the shape {str(shape)[:60]}"


def _refusal(path: Path, name: str, fault: Exception, written_by: str) -> DataError:
    reason = str(fault).strip().split("\n")[0] or type(fault).__name__
    told = reason if "Expected: " in reason else f"damaged data ({reason}). Expected: arrays of NumPy"
    return DataError(f"{path}: {f'{name}: ' if name else ''}got {told}. {files.remedy(written_by, 'delete it and ')}")
