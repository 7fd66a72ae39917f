"""IDX files of one's own: every form that is known of them, read exactly; whatever else they are, refused in words."""

import gzip
import math
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.idx import Idx
from keras_pipeline.sources.source_files import Folder
from memory_files import MemoryFiles, images_of

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 4, 3), np.uint8)
LABELS = (np.arange(50) % 3).astype(np.uint8)


def idx(array: Any, kind: int = 8) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return header + array.astype("|u1" if kind == 8 else ">i4").tobytes()


def dataset(**changes: Any) -> Idx:
    keys = {
        "kind": "idx", "path": "own", "size": (4, 3), "train": {"images": "images", "labels": "labels"},
        "classes": ("a", "b", "c"),
    }  # fmt: skip
    return Idx.model_validate({**keys, **changes})


def source(**changes: bytes) -> MemoryFiles:
    return MemoryFiles({"images": idx(IMAGES), "labels": idx(LABELS), **changes}, "own")


def refusal(files: MemoryFiles, chosen: Idx | None = None) -> str:
    with pytest.raises(DataError) as caught:
        images_of((chosen or dataset()).read(files))
    return str(caught.value)


def test_images_and_labels_are_read_exactly_and_from_any_place_on() -> None:
    examples = dataset().read(source())
    assert np.array_equal(images_of(examples)[..., 0], IMAGES)
    assert (examples.labels.dtype, examples.labels.tolist()) == (np.int64, LABELS.tolist())
    assert examples.splits is None
    assert (len(examples.places), examples.places[17]) == (50, "own/images: image 17")
    assert np.array_equal(images_of(examples, 33)[..., 0], IMAGES[33:])


def test_every_split_is_as_it_is_given() -> None:
    files = source(**{"v-images": idx(IMAGES[:5]), "v-labels": idx(LABELS[:5])})
    pair = {"images": "v-images", "labels": "v-labels"}
    examples = dataset(validation=pair, test=pair).read(files)
    assert examples.splits == ["train"] * 50 + ["validation"] * 5 + ["test"] * 5
    assert np.array_equal(images_of(examples, 52)[..., 0], np.concatenate([IMAGES[2:5], IMAGES[:5]]))


@pytest.mark.parametrize("packed", [False, True])
def test_packed_transposed_with_channels_and_rows_of_labels(packed: bool, tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (50, 3, 4, 3), np.uint8)  # width first, as in EMNIST
    rows = np.stack([np.arange(50), LABELS + 5, np.full(50, -1)], axis=1)
    name = "images.gz" if packed else "images"
    (tmp_path / name).write_bytes(gzip.compress(idx(colours)) if packed else idx(colours))
    (tmp_path / "labels").write_bytes(idx(rows, 12))
    chosen = dataset(
        channels=3, transpose=True, label_column=1, label_values=(5, 6, 7), train={"images": name, "labels": "labels"}
    )
    examples = chosen.read(Folder(tmp_path, "own"))
    assert np.array_equal(images_of(examples), colours.transpose(0, 2, 1, 3))
    assert np.array_equal(images_of(examples, 20), colours.transpose(0, 2, 1, 3)[20:])
    assert examples.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": b""}, "own/images: got 0 bytes. Expected: an IDX file"),
        ({"images": b"\1\0\x08\x01" + bytes(8)}, "got the first bytes 01 00 08 01"),
        ({"images": struct.pack("<II", 0x803, 2)}, "got a header in little-endian order"),
        ({"images": idx(IMAGES, 8)[:3] + b"\x05" + bytes(40)}, "got 5 dimensions"),
        ({"images": b"\0\0\x0d\x03" + bytes(12)}, "got the element type 13 (32-bit floats). Expected: 8, unsigned"),
        ({"images": idx(IMAGES, 12)}, "own/images: got 50 × 4 × 3 numbers of the type >i4. Expected: images of uns"),
        (
            {"images": idx(IMAGES.transpose(0, 2, 1))},
            "got images of 3 × 4. Expected: 4 × 3, as the dataset file has it",
        ),
        ({"images": idx(IMAGES)[:-1]}, "own/images: image 0: got damaged data (it ends 1 bytes early)"),
        ({"images": idx(IMAGES) + b"x"}, "got damaged data (more than the 50 items that its header tells of)"),
        ({"images": idx(IMAGES[:49])}, "own/images: got 49 images and 50 labels in labels. Expected: as many labels"),
        ({"images": struct.pack(">HBB3I", 0, 8, 3, 0, 4, 3)}, "got the size 0 × 4 × 3. Expected: no dimension of 0"),
        ({"labels": idx(LABELS)[:-1]}, "own/labels: label 0: got damaged data (it ends 1 bytes early)"),
        ({"labels": idx(LABELS) + b"x"}, "own/labels: label 50: got damaged data (more than the 50 items"),
        ({"labels": idx(LABELS + 1)}, "own/labels: label 2: got the label 3 (and 15 more that are no class's)."),
        ({"labels": idx(IMAGES)}, "own/labels: got the size 50 × 4 × 3. Expected: labels"),
        ({"labels": struct.pack(">HBBI", 0, 8, 1, 2**32 - 1)}, "own/labels: got the size 4294967295"),
        ({"labels": struct.pack(">HBB2I", 0, 12, 2, 50_000_000, 1000)}, "own/labels: label 0: got damaged data"),
    ],
)
def test_whatever_else_it_is_is_said(changes: dict[str, bytes], message: str) -> None:
    assert message in refusal(source(**changes))


def test_labels_that_count_from_1_are_told_what_to_write() -> None:
    assert "They seem to count from 1: write `label_values: [1, 2, …, 3]`." in refusal(source(labels=idx(LABELS + 1)))


def test_a_file_that_is_not_there_is_named() -> None:
    assert refusal(source(), dataset(train={"images": "imagse", "labels": "labels"})).startswith(
        "own: 'imagse' is not in it."
    )


@pytest.mark.parametrize("shape", [(2**32 - 1, 4, 3), (2**31, 4, 3)])
def test_sizes_that_nobody_has_take_no_memory(shape: tuple[int, ...]) -> None:
    claimed = struct.pack(">HBB3I", 0, 8, 3, *shape) + bytes(1000)
    tracemalloc.start()
    said = refusal(source(images=claimed))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert f"got {shape[0]:,} images and 50 labels" in said


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(images: bytes, labels: bytes) -> None:
    header = struct.pack(">HBB3I", 0, 8, 3, 3, 4, 3)
    for files in (source(images=images), source(labels=labels), source(images=header + images, labels=idx(LABELS[:3]))):
        try:
            found = images_of(dataset().read(files))
        except DataError:
            continue
        assert found.shape[1:] == (4, 3, 1)


def test_what_is_recognized_is_read() -> None:
    files = MemoryFiles(
        {
            "README.txt": b"about",
            "train-images-idx3-ubyte": idx(IMAGES),
            "train-labels-idx1-ubyte": idx(LABELS + 1),
            "t10k-images-idx3-ubyte": idx(IMAGES[:5]),
            "t10k-labels-idx1-ubyte": idx(LABELS[:5] + 1),
        },
        "own",
    )
    found = Idx.recognize(files)
    assert found
    assert found.reasons == [
        "the first bytes are those of IDX files: images of 4 × 3, 50 train, 5 test",
        "3 different labels, from 1 to 3",
    ]
    assert found.keys["classes"] == ["1", "2", "3"]
    as_tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in found.keys.items()}
    examples = Idx.model_validate({**as_tuples, "path": "own"}).read(files)
    assert examples.labels[:5].tolist() == [0, 1, 2, 0, 1]
    assert examples.splits == ["train"] * 50 + ["test"] * 5
    assert Idx.recognize(MemoryFiles({"a.csv": b"x,y\n1,2\n"})) is None
    assert Idx.recognize(MemoryFiles({"train-images": idx(IMAGES)})) is None


def test_blocks_are_of_some_mebibytes_whatever_the_size_of_an_image() -> None:
    large = np.zeros((9, 1024, 1024), np.uint8)
    files = MemoryFiles({"images": idx(large), "labels": idx(LABELS[:9])}, "own")
    blocks = [len(block) for block, _ in dataset(size=(1024, 1024)).read(files).inputs.blocks()]  # type: ignore[union-attr]
    assert blocks == [4, 4, 1]
    assert math.prod(large.shape) == 9 * 2**20
