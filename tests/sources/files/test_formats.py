"""IDX files and tables: read exactly, and refused in words."""

import gzip
import random
import struct
import tracemalloc

import numpy as np
import pytest

from idx_files import ENVELOPE, LABELS, flips
from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.files import formats


def header(kind: int, *shape: int) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape)


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3), (4, 28, 28), (1, 1, 1)])
def test_write_then_read_is_the_identity(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    content = formats.write_idx(array)
    again = formats.read_idx(content, "file")
    assert again.dtype == np.uint8
    assert np.array_equal(again, array)
    assert not again.flags.writeable
    assert len(content) == 4 + 4 * len(shape) + array.size


def test_reads_the_bytes_that_the_format_prescribes() -> None:
    content = bytes.fromhex("00000803 00000001 00000002 00000003 0102030405ff")
    assert formats.read_idx(content, "file").tolist() == [[[1, 2, 3], [4, 5, 255]]]
    assert formats.write_idx(np.array([[[1, 2, 3], [4, 5, 255]]], np.uint8)) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got 0 bytes. Expected: an IDX file"),
        (b"\0\0\x08", "got 3 bytes"),
        (b"\0\0\x08\x01\0\0", r"got 6 bytes. Expected: 8 for the header alone"),
        (b"\1\0\x08\x01" + bytes(8), "got the first bytes 01 00 08 01. Expected: 00 00 08"),
        (struct.pack("<II", 0x801, 2) + b"ab", "got a header in little-endian order, 01 08 00 00"),
        (header(9, 2) + b"ab", r"element type 9 \(signed bytes\). Expected: 8, unsigned bytes"),
        (header(10, 2) + b"ab", r"element type 10 \(unknown\)"),
        (header(13, 2) + bytes(8), r"element type 13 \(32-bit floats\)"),
        (header(8), "got 0 dimensions. Expected: 1"),
        (header(8, 1, 1, 1, 1) + b"a", "got 4 dimensions"),
        (header(8, 1, 1, 1, 1, 1) + b"a", "got 5 dimensions"),
        (header(8, 3) + b"ab", r"got 10 bytes. Expected: 11 for the size 3 that its header gives"),
        (header(8, 1) + b"ab", r"got 10 bytes. Expected: 9"),
        (header(8, 0), "got the size 0. Expected: no dimension of 0"),
        (header(8, 0, 28, 28), "got the size 0 x 28 x 28"),
        (header(8, 5, 0, 28), "got the size 5 x 0 x 28"),
    ],
)
def test_refuses_what_is_not_exactly_one_file(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^labels: .*{message}") as refused:
        formats.read_idx(content, "labels")
    assert str(refused.value).endswith("Fetch the file anew, or use another source.")


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**31, 2**31, 4), (2**32 - 1,)])
def test_sizes_that_overflow_are_compared_not_allocated(shape: tuple[int, ...]) -> None:
    tracemalloc.start()
    with pytest.raises(DataError, match=f"Expected: {4 + 4 * len(shape) + np.prod(shape, dtype=object)} for"):
        formats.read_idx(header(8, *shape) + b"abcd", "file")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2)), np.zeros((1, 1, 1, 1), np.uint8), np.zeros((), np.uint8), np.zeros((0, 3), np.uint8)],
)
def test_writes_no_other_array(array: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"is not written as IDX\. Expected: uint8, 1 to 3 dimensions"):
        formats.write_idx(array)


def test_decompresses_one_whole_member() -> None:
    assert formats.decompress(ENVELOPE, "file", len(LABELS)) == LABELS


def test_a_sample_of_single_bit_flips_never_gives_other_content() -> None:
    flips(random.Random(0).sample(range(8 * len(ENVELOPE)), 1500))


def test_a_bomb_is_stopped() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 60_000
    tracemalloc.start()
    with pytest.raises(DataError, match=r"unpack to more than 10008 bytes\. Expected: 10008"):
        formats.decompress(bomb, "file", 10_008)
    assert tracemalloc.get_traced_memory()[1] < 10_008 + 65_536 + 60_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file. Expected: gzip data"),
        (b"<html>log in</html>", "got HTML, a page for people, 19 bytes"),
        (b"\n<!DOCTYPE html>\n", "got HTML"),
        (b'<?xml version="1.0"?><Error/>', "got HTML"),
        (b"PK\x03\x04rest", "got a zip archive, 8 bytes"),
        (LABELS, "got IDX data that are not compressed, 10008 bytes"),
        (b"version https://git-lfs", r"got data that begin with b'version ', 23 bytes"),
        (ENVELOPE + ENVELOPE, "got several gzip members. Expected: one"),
        (ENVELOPE + b"trailing", "got 8 bytes after the end of the gzip data. Expected: none"),
        (ENVELOPE + bytes(512), "got 512 bytes after the end"),
        (gzip.compress(LABELS[:-1]), "got 10007 bytes of content. Expected: 10008"),
        (gzip.compress(LABELS + b"x"), "got gzip data that unpack to more than 10008 bytes"),
        (ENVELOPE[:-8] + bytes(4) + ENVELOPE[-4:], r"got damaged gzip data \(its checksum does not match"),
        (ENVELOPE[:-4] + bytes(4), "got damaged gzip data"),
        (ENVELOPE[:20] + b"\xff" * 40 + ENVELOPE[60:], "got damaged gzip data"),
    ],
)
def test_says_what_the_bytes_are_instead(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^mirror/file: {message}"):
        formats.decompress(content, "mirror/file", len(LABELS))
