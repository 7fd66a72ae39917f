"""Arrays of NumPy as a dataset: read exactly, and refused in words where they are not what they claim."""

import io
import json
import struct
import time
import zipfile
from typing import Any

import numpy as np
import pytest

from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.sources.kinds.arrays import Arrays, list_arrays
from keras_pipeline.strict_yaml.reader import parse_yaml
from memory_files import MemoryFiles, images_of
from peak_memory import little_memory

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (7, 4, 5), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0], np.uint8)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asanyarray(array), allow_pickle=True)
    return file.getvalue()


def npz(**arrays: Any) -> MemoryFiles:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return MemoryFiles({"own.npz": file.getvalue()}, "data/own.npz")


def header(shape: str, dtype: str = "'|u1'", order: bool = False, content: bytes = b"") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + content


def dataset(**keys: Any) -> Arrays:
    given = {
        "kind": "arrays", "path": "data/own", "size": (4, 5), "train": {"images": "x_train", "labels": "y_train"},
        "classes": ("a", "b", "c"), **keys,
    }  # fmt: skip
    return Arrays.model_validate(given)


TEST = {"test": {"images": "x_test", "labels": "y_test"}}


def test_keras_own_mnist_is_read_with_its_splits() -> None:
    source = npz(x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=LABELS[:2])
    examples = dataset(**TEST).read(source)
    assert np.array_equal(images_of(examples)[..., 0], np.concatenate([IMAGES, IMAGES[:2]]))
    assert (examples.inputs.dtype, examples.inputs.low, examples.inputs.high) == ("|u1", 0, 255)  # type: ignore[union-attr]
    assert examples.labels.tolist() == [*LABELS.tolist(), 0, 1]
    assert examples.labels.dtype == np.int64
    assert examples.splits == ["train"] * 7 + ["test"] * 2
    assert len(examples.places) == 9
    assert (examples.places[6], examples.places[8]) == (
        "data/own.npz/x_train: index 6", "data/own.npz/x_test: index 1",
    )  # fmt: skip
    assert np.array_equal(images_of(examples, 3), images_of(examples)[3:])
    assert np.array_equal(images_of(examples, 8), images_of(examples)[8:])
    assert len(images_of(examples, 9)) == 0


def test_files_of_a_folder_are_arrays_too() -> None:
    source = MemoryFiles({"deep/x_train.npy": npy(IMAGES), "deep/y_train.npy": npy(LABELS)})
    examples = dataset().read(source)
    assert np.array_equal(images_of(examples)[..., 0], IMAGES)
    assert examples.splits is None


@pytest.mark.parametrize(
    ("images", "keys", "dtype", "expected"),
    [
        (IMAGES[..., None], {}, "|u1", IMAGES),
        (IMAGES.astype(">u2") * 257, {}, "<u2", IMAGES.astype("<u2") * 257),
        (IMAGES / 255, {"range": (0, 1)}, "<f4", (IMAGES / 255).astype("<f4")),
        ((IMAGES / 255).astype(">f4"), {"range": (0, 1)}, "<f4", (IMAGES / 255).astype("<f4")),
        ((IMAGES / 255).astype("f2"), {"range": (-1, 1)}, "<f4", (IMAGES / 255).astype("f2").astype("<f4")),
        (IMAGES.astype(np.int64), {"range": (0, 255)}, "|u1", IMAGES),
        (IMAGES.astype(">i4"), {"range": (0, 1023)}, "<u2", IMAGES.astype("<u2")),
        (IMAGES % 2 == 1, {}, "|u1", IMAGES % 2),
    ],
)
def test_pixels_of_every_type(images: Any, keys: dict[str, Any], dtype: str, expected: Any) -> None:
    examples = dataset(**keys).read(npz(x_train=images, y_train=LABELS))
    found = images_of(examples)
    assert (examples.inputs.dtype, found.dtype.str, found.shape) == (dtype, dtype, (7, 4, 5, 1))  # type: ignore[union-attr]
    assert np.array_equal(found[..., 0], expected)


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        (LABELS[:, None].astype(">i8"), {}),
        (LABELS.astype(float), {}),
        (np.array(["a", "b", "c"])[LABELS], {}),
        (np.array([b"a", b"b", b"c"])[LABELS], {}),
        (np.array(["a", "b", "c"])[LABELS].astype(">U7"), {}),
        (LABELS.astype(int) * 10 - 10, {"label_values": (-10, 0, 10)}),
    ],
)
def test_labels_of_every_type(labels: Any, keys: dict[str, Any]) -> None:
    assert dataset(**keys).read(npz(x_train=IMAGES, y_train=labels)).labels.tolist() == LABELS.tolist()


GOOD = npy(IMAGES)
MANY = f"({2**63}, 4, 5)"


@pytest.mark.parametrize(
    ("x", "y", "keys", "message"),
    [
        (header(MANY), None, {}, f"x_train.npy: got {len(header(MANY))} bytes. Expected: 184467440737095516"),
        (GOOD[:-1], None, {}, "got 267 bytes. Expected: 268 for uint8 of the shape (7, 4, 5)"),
        (GOOD + b"x", None, {}, "got 269 bytes. Expected: 268"),
        (b"", None, {}, "x_train.npy: got no array of NumPy"),
        (b"\x93NUMPY\x02\x00" + b"\xff" * 50, None, {}, "got no array of NumPy (version (2, 0))"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, None, {}, "got no array of NumPy (Header info length (65535)"),
        (header("(7, 4, 5)", "'O'"), None, {}, "got pickled Python objects, which may run any program"),
        (npy(np.array([{}, []], object)), None, {}, "got pickled Python objects"),
        (header("(7, 4, 5)", "[('a', '<i4'), ('b', 'O')]"), None, {}, "got pickled Python objects"),
        (header("(7, 4, 5)", "[('a', '<i4')]"), None, {}, "got void32. Expected: whole numbers, floats, or texts"),
        (header("(7, 4, 5)", "'<c8'"), None, {}, "got complex64. Expected"),
        (header("(7, 4, 5)", "'<M8[s]'"), None, {}, "got datetime64[s]. Expected"),
        (header("(7,)", "'<U99999999'"), None, {}, "got texts of 99999999 characters. Expected"),
        (header("(7, 4, 5)", "'<U0'"), None, {}, "got texts of 0 characters. Expected"),
        (npy(np.zeros((7, 4, 5), np.longdouble)), None, {}, "Expected: float64 at most"),
        (npy(np.asfortranarray(IMAGES)), None, {}, "in the order of columns (Fortran's). Expected: in that of rows"),
        (header("(0, 4, 5)"), None, {}, "got the shape (0, 4, 5). Expected: one item at least"),
        (header("(-7, 4, 5)"), None, {}, "got the shape (-7, 4, 5)"),
        (header("(True, 4, 5)", content=bytes(20)), None, {}, "got the shape (True, 4, 5)"),
        (header("()", content=b"1"), None, {}, "got the shape ()"),
        (header("7", content=bytes(7)), None, {}, "got no array of NumPy"),
        (npy(IMAGES.reshape(7, 20)), None, {}, "got the shape (7, 20). Expected: (n, 4, 5, 1) or (n, 4, 5), by `size`"),
        (npy(IMAGES.transpose(0, 2, 1).copy()), None, {}, "got the shape (7, 5, 4)"),
        (npy(np.zeros((7, 3, 4, 5), np.uint8)), None, {"channels": 3}, "save `np.moveaxis(x, 1, -1)`"),
        (npy(IMAGES / 255), None, {}, "got float64. Expected: 8 or 16 bits without a sign, or the least and greatest"),
        (npy(IMAGES.astype(int)), None, {}, "such as `range: [0, 1]` or `range: [0, 255]`"),
        (npy(IMAGES.astype(int)), None, {"range": (-1, 1)}, "Expected: whole numbers from 0 to 65535, or an array"),
        (GOOD, npy(LABELS[:-1]), {}, "y_train.npy: got labels of the shape (6,) for 7 images. Expected: (7,)."),
        (GOOD, npy(np.eye(3)[LABELS]), {}, "Are they one-hot? Then save `np.argmax(labels, axis=1)`."),
        (GOOD, npy(LABELS + 1), {}, "y_train.npy: index 2: got the label 3 (and 1 more that are no class's). Expected"),
        (GOOD, npy(np.array(["a", "b", "d"])[LABELS]), {}, "index 2: got the label 'd' (and 1 more"),
        (GOOD, npy(np.array([b"\xff"] * 7)), {}, "index 0 and on: got no text"),
        (GOOD, header("(7,)", "'<U1'", content=b"\xff" * 28), {}, "index 0 and on: got no text"),
        (GOOD, npy(LABELS / 2), {}, "index 1: got the label 0.5"),
        (GOOD, None, {"train": {"images": "x", "labels": "y_train"}}, "got no array 'x'. Expected: one of x_train"),
    ],
)  # fmt: skip
def test_what_is_no_such_array_is_refused(x: bytes, y: bytes | None, keys: dict[str, Any], message: str) -> None:
    source = MemoryFiles({"x_train.npy": x, "y_train.npy": npy(LABELS) if y is None else y})
    with little_memory(20_000_000), pytest.raises(DataError) as refused:
        dataset(**keys).read(source)
    assert str(refused.value).startswith("data")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("value", "keys", "said"),
    [
        (np.nan, {"range": (0, 1)}, "got the value nan. Expected: 0 to 1."),
        (np.inf, {"range": (0, 1)}, "got the value inf."),
        (1.5, {"range": (0, 1)}, "got the value 1.5."),
        (-1e-9, {"range": (0, 1)}, "got the value -1e-09."),
    ],
)
def test_a_pixel_out_of_range_is_refused_with_its_place(value: float, keys: dict[str, Any], said: str) -> None:
    images = IMAGES / 255
    images[5, 2, 1] = value
    examples = dataset(**keys).read(npz(x_train=images, y_train=LABELS))
    with pytest.raises(DataError, match=r"^data/own\.npz/x_train: index 5, row 2, column 1, channel 0: ") as refused:
        images_of(examples)
    assert said in str(refused.value)


def test_whole_numbers_are_held_against_the_range_too() -> None:
    examples = dataset(range=(0, 15)).read(npz(x_train=IMAGES, y_train=LABELS))
    with pytest.raises(DataError, match=r"index 0, row \d, column \d, channel 0: got the value \d+\. Expected"):
        images_of(examples)


def crafted(**members: bytes) -> MemoryFiles:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return MemoryFiles({"own.npz": file.getvalue()}, "data/own.npz")


def test_a_member_that_unpacks_to_more_than_its_header_says_is_not_unpacked() -> None:
    source = crafted(x_train=header("(7, 4, 5)", content=bytes(50_000_000)), y_train=npy(LABELS))
    assert len(source.files["own.npz"]) < 60_000
    with (
        little_memory(20_000_000),
        pytest.raises(DataError, match=r"x_train: got 50000128 bytes. Expected: 268 for uint8"),
    ):
        dataset().read(source)


def test_an_array_that_unpacks_to_hundreds_of_times_its_size_is_refused() -> None:
    zeros = crafted(x_train=header("(2500000, 4, 5)", content=bytes(50_000_000)), y_train=npy(LABELS))
    with little_memory(20_000_000), pytest.raises(DataError, match=r"x_train: unpacks to more than 200 times its size"):
        dataset().read(zeros)


def test_a_damaged_member_is_refused_with_its_place() -> None:
    file = io.BytesIO()
    np.savez(file, x_train=IMAGES.repeat(10, 1).repeat(10, 2), y_train=LABELS)
    content = bytearray(file.getvalue())
    content[content.index(IMAGES[0, 0].repeat(10).tobytes()) + 5000] ^= 1
    examples = dataset(size=(40, 50)).read(MemoryFiles({"own.npz": bytes(content)}, "data/own.npz"))
    with pytest.raises(DataError, match=r"^data/own.npz/x_train: index 0: got damaged data \(Bad CRC-32"):
        images_of(examples)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\5\6" + bytes(30), b"x" * 100])
def test_what_is_no_npz_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^data/own.npz: got "):
        dataset().read(MemoryFiles({"own.npz": content}, "data/own.npz"))


def test_a_list_of_members_without_end_is_not_read() -> None:
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 100_000_000, 0, 0)
    with pytest.raises(DataError, match="a list of members of 100,000,000 bytes"):
        dataset().read(MemoryFiles({"own.npz": bytes(5_000) + end}, "data/own.npz"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("range: [1, 0]", "x.yaml:4:8: range: the first is not smaller than the second."),
        ("range: [.nan, 0]", "range[0]"),
        ("splits: {group: person}", "splits.group: a dataset of the kind 'arrays' has no columns. Remove the line."),
        ("channels: 4", "channels: 4 is not known. Allowed: 1, 3."),
        ("size: [28]", "size"),
        ("size: [28, 0]", "size[1]: 0 is out of range. Expected: 1 <= value <= 4096."),
        ("classes: []", "classes: two at least are needed."),
        ("trian: {}", "trian: this key is not known here."),
    ],
)
def test_a_dataset_file_is_checked(line: str, message: str) -> None:
    key = line.partition(":")[0]
    others = {"size": "size: [4, 5]", "classes": "classes: [a, b]"}
    others.pop(key, None)
    text = "\n".join(["kind: arrays", "path: a", "train: {images: x, labels: t}", line, *others.values()])
    with pytest.raises(ParamsError) as refused:
        parse_yaml(text.encode(), "x.yaml", Arrays)
    assert message in str(refused.value)


def test_arrays_are_recognized() -> None:
    source = npz(x_train=IMAGES / 255, y_train=LABELS + 1, x_test=IMAGES[:2] / 255, y_test=LABELS[:2] + 1)
    found = Arrays.recognize(source)
    assert found is not None
    assert found.keys == {
        "kind": "arrays", "size": [4, 5], "channels": 1, "range": [0, 1], "classes": ["1", "2", "3"],
        "train": {"images": "x_train", "labels": "y_train"}, "test": {"images": "x_test", "labels": "y_test"},
        "label_values": [1, 2, 3],
    }  # fmt: skip
    assert found.reasons[0] == "data/own.npz/x_train has the shape (7, 4, 5), data/own.npz/y_train as many labels."
    assert "float64, of the first 7 images from 0 to 0.97" in found.reasons[-1]
    examples = Arrays.model_validate_json(json.dumps({"path": "own", **found.keys})).read(source)
    assert examples.labels.tolist()[:7] == LABELS.tolist()


def test_files_of_each_split_are_recognized() -> None:
    files = {
        f"{split}.npz": npz(x=IMAGES, y=np.array(["cat", "ape", "dog"])[LABELS]).files["own.npz"]
        for split in ("train", "test")
    }
    found = Arrays.recognize(MemoryFiles(files))
    assert found is not None
    assert found.keys["train"] == {"images": "train.npz/x", "labels": "train.npz/y"}
    assert found.keys["classes"] == ["ape", "cat", "dog"]
    assert "label_values" not in found.keys


def test_other_files_are_not_recognized() -> None:
    assert Arrays.recognize(MemoryFiles({"a.csv": b"1,2"})) is None
    assert Arrays.recognize(MemoryFiles({"a.npy": npy(IMAGES)})) is None
    with pytest.raises(DataError, match="several pairs"):
        Arrays.recognize(npz(a=IMAGES, b=IMAGES, c=LABELS))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice_is_refused_among_very_many() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for index in range(40_000):
            archive.writestr(f"{index}.npy", b"")
        archive.writestr("39999.npy", b"")
    begun = time.process_time()
    with pytest.raises(DataError, match=r"got the array '.*/39999' twice\. Expected: each name once"):
        list_arrays(MemoryFiles({"many.npz": file.getvalue()}))
    assert time.process_time() - begun < 3
