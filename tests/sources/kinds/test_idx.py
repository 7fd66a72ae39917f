"""IDX files as a dataset: read exactly, plain and as .gz, and refused in words."""

import gzip
import json
import struct
from typing import Any

import numpy as np
import pytest

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.idx import Idx
from memory_files import MemoryFiles, images_of
from peak_memory import little_memory

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (5, 3, 4), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1], np.uint8)
TRAIN = {"images": "x", "labels": "y"}


def idx(array: Any, kind: int = 8) -> bytes:
    return header(kind, *array.shape) + array.tobytes()


def header(kind: int, *shape: int) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape)


GOOD = {"x": idx(IMAGES), "y": idx(LABELS)}


def dataset(**keys: Any) -> Idx:
    given = {"kind": "idx", "path": "own", "size": (3, 4), "train": TRAIN, "classes": ("a", "b", "c"), **keys}
    return Idx.model_validate(given)


def test_splits_are_read_one_after_the_other_also_packed() -> None:
    test = {"images": "deep/x.gz", "labels": "deep/y.GZ"}
    files = {**GOOD, "deep/x.gz": gzip.compress(idx(IMAGES[:2])), "deep/y.GZ": gzip.compress(idx(LABELS[:2]))}
    examples = dataset(test=test).read(MemoryFiles(files))
    expected = np.concatenate([IMAGES, IMAGES[:2]])[..., None]
    for done in range(7):
        assert np.array_equal(images_of(examples, done), expected[done:])
    assert examples.labels.tolist() == [*LABELS.tolist(), 0, 1]
    assert examples.splits == ["train"] * 5 + ["test"] * 2
    assert (examples.places[4], examples.places[5]) == ("data/x: image 4", "data/deep/x.gz: image 0")


@pytest.mark.parametrize(
    ("files", "keys", "expected"),
    [
        ({**GOOD, "x": idx(IMAGES.transpose(0, 2, 1))}, {"transpose": True}, IMAGES[..., None]),
        ({**GOOD, "x": idx(IMAGES[..., None].repeat(3, 3))}, {"channels": 3}, IMAGES[..., None].repeat(3, 3)),
        ({**GOOD, "y": idx(LABELS + 5)}, {"label_values": (5, 6, 7)}, IMAGES[..., None]),
        ({**GOOD, "y": idx(LABELS.astype(">i4"), 12)}, {}, IMAGES[..., None]),
        (
            {**GOOD, "y": idx(np.column_stack([LABELS + 9, LABELS]).astype(">i4"), 12)}, {"label_column": 1},
            IMAGES[..., None],
        ),
    ],
)  # fmt: skip
def test_other_forms(files: dict[str, bytes], keys: dict[str, Any], expected: Any) -> None:
    examples = dataset(**keys).read(MemoryFiles(files))
    assert np.array_equal(images_of(examples), expected)
    assert examples.labels.tolist() == LABELS.tolist()


HUGE = 2**32 - 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": b""}, "data/x: got 0 bytes. Expected: an IDX file, which has 8 at least."),
        ({"x": b"\1\0\x08\x01" + bytes(8)}, "data/x: got the first bytes 01 00 08 01. Expected: 00 00 08"),
        ({"x": struct.pack("<II", 0x803, 2)}, "data/x: got a header in little-endian order, 03 08 00 00."),
        ({"x": header(13, 5, 3, 4)}, "data/x: got the element type 13 (32-bit floats). Expected: 8, unsigned bytes"),
        ({"x": header(8)}, "data/x: got 0 dimensions. Expected: 1 (labels) to 4"),
        ({"x": header(8, 5, 3, 4)[:-1]}, "data/x: got 15 bytes. Expected: 16 for the header alone."),
        ({"x": header(8, 0, 3, 4)}, "data/x: got the size 0 × 3 × 4. Expected: no dimension of 0."),
        (
            {"x": idx(IMAGES.transpose(0, 2, 1))},
            "data/x: got images of 4 × 3. Expected: 3 × 4, as the dataset",
        ),
        ({"x": idx(LABELS)}, "data/x: got 5 numbers of the type |u1. Expected: images of unsigned bytes."),
        ({"x": idx(IMAGES)[:-1]}, "data/x: image 0: got damaged data (it ends 1 bytes early)."),
        ({"x": idx(IMAGES) + b"x"}, "got damaged data (more than the 5 items that its header tells of)."),
        ({"x": header(8, HUGE, 3, 4)}, "data/x: got 4,294,967,295 images and 5 labels in y. Expected: as many"),
        ({"y": header(8, HUGE)}, "data/y: got the size 4294967295. Expected: labels"),
        ({"y": header(12, 50_000_000, 1000)}, "data/y: label 0: got damaged data (it ends"),
        ({"y": idx(LABELS)[:-1]}, "data/y: label 0: got damaged data (it ends 1 bytes early)."),
        ({"y": idx(LABELS) + b"1"}, "got damaged data (more than the 5 items"),
        ({"y": idx(LABELS[:-1])}, "data/x: got 5 images and 4 labels in y. Expected: as many labels as images."),
        ({"y": idx(IMAGES)}, "data/y: got the size 5 × 3 × 4. Expected: labels"),
        ({"y": idx(LABELS + 1)}, "data/y: label 2: got the label 3."),
        ({"y": idx(np.column_stack([LABELS - 1]).astype(">i4"), 12)}, "data/y: label 0: got the label 255"),
    ],
)
def test_what_is_no_such_file_is_refused(changed: dict[str, bytes], message: str) -> None:
    with little_memory(30_000_000), pytest.raises(DataError) as refused:
        images_of(dataset().read(MemoryFiles({**GOOD, **changed})))
    assert message in str(refused.value)


def test_damaged_gzip_is_refused() -> None:
    train = {"images": "x.gz", "labels": "y"}
    for content in (
        gzip.compress(idx(IMAGES))[:-9],
        gzip.compress(bytes(90_000_000)),
        b"\x1f\x8b" + bytes(20),
        idx(IMAGES),
    ):
        with little_memory(30_000_000), pytest.raises(DataError, match=r"^data/x\.gz"):
            images_of(dataset(train=train).read(MemoryFiles({"x.gz": content, "y": GOOD["y"]})))


def test_files_are_recognized() -> None:
    files = {
        "emnist-train-images.gz": gzip.compress(idx(IMAGES)), "emnist-train-labels.gz": gzip.compress(idx(LABELS + 1)),
        "emnist-test-images.gz": gzip.compress(idx(IMAGES)), "emnist-test-labels.gz": gzip.compress(idx(LABELS + 1)),
        "readme.txt": b"hello",
    }  # fmt: skip
    found = Idx.recognize(MemoryFiles(files))
    assert found is not None
    assert found.keys == {
        "kind": "idx", "size": [3, 4], "classes": ["1", "2", "3"], "label_values": [1, 2, 3],
        "train": {"images": "emnist-train-images.gz", "labels": "emnist-train-labels.gz"},
        "test": {"images": "emnist-test-images.gz", "labels": "emnist-test-labels.gz"},
    }  # fmt: skip
    read = Idx.model_validate_json(json.dumps({"path": "own", **found.keys})).read(MemoryFiles(files))
    assert read.labels.tolist() == LABELS.tolist() * 2
    assert Idx.recognize(MemoryFiles({"a.csv": b"1,2"})) is None
