"""One IDX file of unsigned bytes in memory, as the service keeps drawings; and one in gzip, as mirrors have it.

IDX: http://yann.lecun.com/exdb/mnist
"""

import math
import mmap
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from keras_pipeline.core.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNSIGNED_BYTE = 8
_OTHER_TYPES = {
    9: "signed bytes",
    11: "16-bit integers",
    12: "32-bit integers",
    13: "32-bit floats",
    14: "64-bit floats",
}


def read_idx(content: bytes | mmap.mmap, name: str) -> "NDArray[np.uint8]":
    """The array in the IDX file `content`: uint8, 1 to 3 dimensions, read-only, sharing its memory.

    `name` begins the messages. Raises DataError unless the bytes are exactly one such file.
    """
    if len(content) < 4:
        raise _wrong(name, f"{len(content)} bytes", "an IDX file, which has 8 at least")
    zeros, kind, dimensions = struct.unpack(">HBB", content[:4])
    if content[2:4] == b"\0\0" and content[1] == _UNSIGNED_BYTE:
        raise _wrong(name, f"a header in little-endian order, {content[:4].hex(' ')}", "big-endian order")
    if zeros:
        raise _wrong(name, f"the first bytes {content[:4].hex(' ')}", "00 00 08 and the number of dimensions")
    if kind != _UNSIGNED_BYTE:
        raise _wrong(name, f"the element type {kind} ({_OTHER_TYPES.get(kind, 'unknown')})", "8, unsigned bytes")
    if not 1 <= dimensions <= 3:
        raise _wrong(name, f"{dimensions} dimensions", "1 (labels) to 3 (images)")
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise _wrong(name, f"{len(content)} bytes", f"{header} for the header alone")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    # Python's whole numbers do not overflow, and nothing is allocated before the sizes are found true.
    expected = header + math.prod(shape)
    size = " x ".join(map(str, shape))
    if 0 in shape:
        raise _wrong(name, f"the size {size}", "no dimension of 0")
    if len(content) != expected:
        raise _wrong(name, f"{len(content)} bytes", f"{expected} for the size {size} that its header gives")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def write_idx(array: "NDArray[np.uint8]") -> bytes:
    """`array` (uint8, 1 to 3 dimensions, none of 0) as an IDX file. Raises DataError for any other array."""
    if array.dtype != np.uint8 or not 1 <= array.ndim <= 3 or 0 in array.shape:
        raise DataError(
            f"An array of {array.dtype}, shape {array.shape}, is not written as IDX. "
            "Expected: uint8, 1 to 3 dimensions, none of 0. Convert it first."
        )
    header = struct.pack(f">HBB{array.ndim}I", 0, _UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + array.tobytes()


def decompress(content: bytes, name: str, payload_size: int) -> bytes:
    """What is in the gzip file `content`, which must be one whole member of `payload_size` bytes and no more.

    `name` begins the messages. Raises DataError that says what the bytes are instead; however much a file
    would unpack to, no more than `payload_size` + 1 bytes are made of it.
    """
    if not content.startswith(b"\x1f\x8b"):
        raise _wrong(name, looks_like(content, len(content)), "gzip data")
    inflater = zlib.decompressobj(wbits=31)
    try:
        payload = inflater.decompress(content, payload_size + 1)
    except zlib.error as error:
        fault = "its checksum does not match" if "incorrect" in str(error) else str(error)
        raise _wrong(name, f"damaged gzip data ({fault})", "an undamaged file") from None
    if len(payload) > payload_size:
        raise _wrong(name, f"gzip data that unpack to more than {payload_size} bytes", f"{payload_size}")
    if not inflater.eof:
        raise _wrong(
            name,
            f"a file that ends early at byte {len(content)}, after {len(payload)} bytes of content",
            f"{payload_size} bytes of content and the end of the gzip data",
        )
    if inflater.unused_data.startswith(b"\x1f\x8b"):
        raise _wrong(name, "several gzip members", "one")
    if inflater.unused_data:
        raise _wrong(name, f"{len(inflater.unused_data)} bytes after the end of the gzip data", "none")
    if len(payload) != payload_size:
        raise _wrong(name, f"{len(payload)} bytes of content", f"{payload_size}")
    return payload


def looks_like(content: bytes, size: int) -> str:
    """What a file of `size` bytes is that begins so, in words."""
    start = content[:512].lstrip().lower()
    if not content:
        return "an empty file"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        what = "HTML, a page for people"
    elif content.startswith(b"PK"):
        what = "a zip archive"
    elif content.startswith(bytes([0, 0, _UNSIGNED_BYTE])):
        what = "IDX data that are not compressed"
    else:
        what = f"data that begin with {content[:8]!r}"
    return f"{what}, {size} bytes"


def _wrong(name: str, received: str, expected: str) -> DataError:
    return DataError(f"{name}: got {received}. Expected: {expected}. Fetch the file anew, or use another source.")
