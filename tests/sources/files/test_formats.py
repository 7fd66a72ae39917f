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


def pair(count: int, *labels: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((count, 28, 28), np.uint8), np.array(labels, np.uint8)


def test_a_good_pair_passes() -> None:
    formats.check_pair(*pair(3, 0, 5, 9), 10, "train")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (pair(3, 1, 2), "train: got 3 images and 2 labels. Expected: as many"),
        (
            pair(4, 0, 9, 10, 255),
            r"train: got the label 10 at index 2 \(and 1 more that are too large\). Expected: 0 to 9",
        ),
        (
            pair(3, 1, 10, 2),
            r"train: got the label 10 at index 1 \(and 0 more that are too large\), and no label is 0\. "
            r"Expected: 0 to 9\. They seem to count from 1: write each label 1 less",
        ),
        (pair(2, 255, 0), r"the label 255 at index 0 .* too large\)\. Expected"),
        (pair(1, 3)[::-1], "images of 1 and labels of 3 dimensions"),
    ],
)
def test_a_bad_pair_is_refused(arrays: tuple[np.ndarray, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        formats.check_pair(*arrays, 10, "train")


def test_tables_survive_the_disk_exactly() -> None:
    rows = np.array([[0.1, 1 / 3], [-1e-300, 1e300], [5, -0.0]])
    content = formats.write_csv(("a", "b"), rows)
    assert content.startswith(b"a,b\n0.1,0.3333333333333333\n")
    assert formats.read_csv(content, "t", ("a", "b")).tobytes() == rows.tobytes()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "got the columns (none). Expected: a, b"),
        (b"a,c\n1,2\n", "got the columns a, c. Expected: a, b"),
        (b"a\x1b[31m,c\n1,2\n", "got the columns a\\x1b[31m, c. Expected: a, b"),
        (b"a" * 999 + b"\n1,2\n", f"got the columns {'a' * 200}…. Expected: a, b"),
        (b"a,b\n", "got no rows. Expected: one at least"),
        (b"a,b\n1,2\n3\n", "line 3: got 1 values. Expected: 2"),
        (b"a,b\n1,2,3\n", "line 2: got 3 values. Expected: 2"),
        (b"a,b\n\n1,2\n", "line 2: got 0 values. Expected: 2"),
        (b"a,b\n1,x\n", "line 2: b: got 'x'. Expected: a finite number"),
        (b"a,b\n1,nan\n", "line 2: b: got 'nan'. Expected: a finite number"),
        (b"a,b\ninf,1\n", "line 2: a: got 'inf'. Expected: a finite number"),
        (b"a,b\n1,1e999\n", "line 2: b: got '1e999'. Expected: a finite number"),
        (b"a,b\n1," + b"9" * 5000 + b"\n", f"line 2: b: got '{'9' * 60}'. Expected: a finite number"),
        (b"a,b\n1,1_000\n", "line 2: b: got '1_000'. Expected: a finite number"),
        (b"a,b\n1, 2\n", "line 2: b: got ' 2'. Expected: a finite number"),
        ("a,b\n1,٣\n".encode(), "line 2: b: got '\\u0663'. Expected: a finite number"),
        (b"a,b\n1;2\n", "line 2: got 1 values. Expected: 2"),
        (b"a,b\n1,2\0\n", "line 2: a byte 0. Expected: CSV"),
        (b'a,b\n1,"2\n3,4\n', "line 3: unexpected end of data. Expected: CSV"),
        (b"a,b\n1,2\r3,4\n" * 1 + b"\r\r", "got 0 values. Expected: 2"),
        (b"a,b\n1," + b"1" * 200_000 + b"\n", "line 2: field larger than field limit (131072). Expected: CSV"),
        (b"\xff\xfe\x00", "byte 0 is not UTF-8. Expected: CSV"),
        ("a,b\n1,2\n".encode("utf-16"), "byte 0 is not UTF-8. Expected: CSV"),
        (b"a,b\n1,2\n\xe9,1\n", "byte 8 is not UTF-8. Expected: CSV"),
        (b"<<<<<<< HEAD\na,b\n", "got the columns <<<<<<< HEAD. Expected: a, b"),
    ],
)
def test_what_is_no_such_table_is_refused(content: bytes, fault: str) -> None:
    with pytest.raises(DataError) as refused:
        formats.read_csv(content, "data/raw/train.csv", ("a", "b"))
    assert str(refused.value).startswith("data/raw/train.csv: ")
    assert fault in str(refused.value)
    assert str(refused.value).endswith("Run `dvc repro fetch` to have it written again.")


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfa,b\n1,2\n", b"a,b\r\n1,2\r\n", b'"a",b\n"1",+2e0\n', b"a,b\n1,2"])
def test_what_editors_make_of_a_table_is_the_same_table(content: bytes) -> None:
    assert formats.read_csv(content, "t", ("a", "b")).tolist() == [[1, 2]]
