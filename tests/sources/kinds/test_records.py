"""Binary records of one length: read exactly, refused where they are not whole."""

from typing import Any

import numpy as np
import pytest

from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.sources.kinds.records import Records
from keras_pipeline.strict_yaml.reader import parse_yaml
from memory_files import MemoryFiles, images_of

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 4, 5, 3), np.uint8)
LABELS = np.array([2, 0, 1, 2, 0, 1], np.uint8)


def records(images: Any, *labels: Any) -> bytes:
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.column_stack([*labels, planes]).astype(np.uint8).tobytes()


def dataset(**keys: Any) -> Records:
    given = {
        "kind": "records", "path": "own", "size": (4, 5), "channels": 3, "classes": ("a", "b", "c"),
        "train": ("batch_1.bin", "batch_2.bin"), **keys,
    }  # fmt: skip
    return Records.model_validate(given)


FILES = {
    "batch_1.bin": records(IMAGES[:2], LABELS[:2]), "batch_2.bin": records(IMAGES[2:3], LABELS[2:3]),
    "test_batch.bin": records(IMAGES[3:], LABELS[3:]),
}  # fmt: skip


def test_files_of_each_split_are_read_in_order() -> None:
    examples = dataset(test=("test_batch.bin",)).read(MemoryFiles(FILES))
    assert np.array_equal(images_of(examples), IMAGES)
    for done in range(7):
        assert np.array_equal(images_of(examples, done).reshape(-1, 4, 5, 3), IMAGES[done:])
    assert examples.labels.tolist() == LABELS.tolist()
    assert examples.splits == ["train"] * 3 + ["test"] * 3
    assert (examples.places[2], examples.places[3]) == (
        "data/batch_2.bin: record 0", "data/test_batch.bin: record 0",
    )  # fmt: skip


def test_the_class_may_be_another_byte_and_colours_side_by_side() -> None:
    whole = np.column_stack([LABELS * 0, LABELS, IMAGES.reshape(6, -1)]).tobytes()
    keys = {"train": ("t.bin",), "label_bytes": 2, "label_byte": 1, "order": "interleaved"}
    examples = dataset(**keys).read(MemoryFiles({"t.bin": whole}))
    assert np.array_equal(images_of(examples), IMAGES)
    assert examples.labels.tolist() == LABELS.tolist()
    assert examples.splits is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "data/batch_1.bin: got 0 bytes, 0 records and 0 bytes. Expected: whole records of 61 bytes, 1 of labels"),
        (bytes(123), "got 123 bytes, 2 records and 1 bytes."),
        (records(IMAGES, LABELS + 1), "data/batch_1.bin: record 0: got the label 3 (and 1 more that are no class's)."),
    ],
)
def test_what_are_no_such_records_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError) as refused:
        dataset().read(MemoryFiles({**FILES, "batch_1.bin": content}))
    assert message in str(refused.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataError, match=r"'nowhere\.bin' is not in it"):
        dataset(train=("nowhere.bin",)).read(MemoryFiles(FILES))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("label_byte: 1", "label_byte: a record has 1 bytes of labels. Use a smaller number."),
        ("train: []", "train: 0 is not the right number of items."),
        ("label_bytes: 0", "label_bytes: 0 is out of range."),
    ],
)
def test_a_dataset_file_is_checked(line: str, message: str) -> None:
    train = [] if line.startswith("train") else ["train: [a.bin]"]
    text = "\n".join(["kind: records", "path: own", "classes: [a, b]", "size: [4, 5]", line, *train])
    with pytest.raises(ParamsError) as refused:
        parse_yaml(text.encode(), "x.yaml", Records)
    assert message in str(refused.value)


def test_records_as_those_of_cifar_10_are_recognized() -> None:
    images = RANDOM.integers(0, 256, (4, 32, 32, 3), np.uint8)
    content = records(images, np.array([0, 1, 2, 0]))
    files = {"cifar/data_batch_1.bin": content, "cifar/test_batch.bin": content, "cifar/readme.html": b""}
    found = Records.recognize(MemoryFiles(files))
    assert found is not None
    assert found.keys == {
        "kind": "records", "size": [32, 32], "channels": 3, "classes": ["0", "1", "2"],
        "train": ["cifar/data_batch_1.bin"], "test": ["cifar/test_batch.bin"],
    }  # fmt: skip
    assert Records.recognize(MemoryFiles(FILES)) is None
    assert Records.recognize(MemoryFiles({"x.bin": b""})) is None
