"""A picture a row of CSV or Parquet: every form is read exactly, and what is no pixel is refused."""

import gzip
import io
import json
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.sources.kinds.pixels import Pixels
from keras_pipeline.strict_yaml.reader import parse_yaml
from memory_files import MemoryFiles, images_of
from peak_memory import little_memory

RANDOM = np.random.default_rng(0)
U1 = pyarrow.uint8()
GREY = RANDOM.integers(0, 256, (9, 8, 8, 1), np.uint8)
COLOUR = RANDOM.integers(0, 256, (9, 8, 8, 3), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
NAMES = [f"pixel{index}" for index in range(64)]


def rows(images: Any = GREY, labels: Any = LABELS, *, last: bool = False) -> list[list[Any]]:
    pixels = images.reshape(len(images), -1).tolist()
    pairs = zip(list(labels), pixels, strict=True)
    return [[*values, label] if last else [label, *values] for label, values in pairs]


def csv(table: list[list[Any]], header: list[str] | None = None, delimiter: str = ",") -> bytes:
    lines = ([header] if header else []) + table
    return "".join(delimiter.join(map(str, line)) + "\n" for line in lines).encode()


def columns(table: list[list[Any]], names: list[str], kind: Any = U1) -> bytes:
    file = io.BytesIO()
    arrays = [pyarrow.array([row[index] for row in table]) for index in range(len(names))]
    arrays = [one.cast(kind) if name != "label" else one for one, name in zip(arrays, names, strict=True)]
    parquet.write_table(pyarrow.table(arrays, names=names), file, row_group_size=4)
    return file.getvalue()


def dataset(**keys: Any) -> Pixels:
    return Pixels.model_validate({"kind": "pixels", "path": "own", "size": (8, 8), "classes": ("a", "b", "c"), **keys})


DIGITS = {"label_values": (0, 1, 2)}
ONE_BASED = [f"{row}x{column}" for row in range(1, 9) for column in range(1, 9)]
TWO_ROWS = csv(rows()[:2], ["label", *NAMES])


@pytest.mark.parametrize(
    ("name", "content", "keys"),
    [
        ("kaggle.csv", csv(rows(), ["label", *NAMES]), DIGITS),
        ("one_based.csv", csv(rows(), ["label", *ONE_BASED]), DIGITS),
        ("last.csv", csv(rows(last=True), [*NAMES, "class"]), {**DIGITS, "label": "last"}),
        ("named.csv", csv([[1, *row] for row in rows()], ["usage", "label", *NAMES]), None),
        ("no_header.csv", csv(rows()), {**DIGITS, "header": False}),
        ("last_without.csv", csv(rows(last=True)), {**DIGITS, "header": False, "label": "last"}),
        ("names.csv", csv(rows(labels=np.array(["a", "b", "c"])[LABELS]), ["label", *NAMES]), {}),
        ("packed.csv.gz", gzip.compress(csv(rows(), ["label", *NAMES])), DIGITS),
        ("other.csv", csv(rows(), ["label", *NAMES], ";"), {**DIGITS, "delimiter": ";"}),
        ("quoted.csv", b'\xef\xbb\xbf"label",' + csv(rows(), ["label", *NAMES])[6:].replace(b"\n", b"\r\n"), DIGITS),
        ("whole.parquet", columns(rows(), ["label", *NAMES]), {}),
        ("long.parquet", columns(rows(), ["label", *NAMES], pyarrow.int64()), {}),
        ("float.parquet", columns(rows(), ["label", *NAMES], pyarrow.float64()), {}),
        ("texts.parquet", columns(rows(), ["label", *NAMES], pyarrow.string()), {}),
    ],
)
def test_every_form_is_read(name: str, content: bytes, keys: dict[str, Any] | None) -> None:
    if keys is None:
        content = content.replace(b"usage", b"Usage").replace(b"\n1,", b"\ntest,").replace(b"\ntest,", b"\ntrain,", 5)
        keys = {**DIGITS, "label": "label", "splits": {"column": "Usage"}}
    examples = dataset(**keys).read(MemoryFiles({name: content}))
    assert np.array_equal(images_of(examples), GREY)
    assert examples.labels.tolist() == LABELS.tolist()
    assert examples.splits == (["train"] * 5 + ["test"] * 4 if "splits" in keys else None)
    for done in (1, 4, 8):
        assert np.array_equal(images_of(examples, done), GREY[done:])
    assert len(images_of(examples, 9)) == 0


@pytest.mark.parametrize("order", ["interleaved", "planes"])
def test_colours_are_side_by_side_or_one_after_the_other(order: str) -> None:
    stored = COLOUR if order == "interleaved" else COLOUR.transpose(0, 3, 1, 2)
    examples = dataset(channels=3, order=order, header=False, **DIGITS).read(MemoryFiles({"t.csv": csv(rows(stored))}))
    assert np.array_equal(images_of(examples), COLOUR)


def test_files_of_each_split_come_in_order_with_their_places() -> None:
    files = {"b.csv": csv(rows()[:3]), "a.csv": csv(rows()[3:5]), "c.csv": csv(rows()[5:])}
    examples = dataset(train=("b.csv", "a.csv"), test=("c.csv",), header=False, **DIGITS).read(MemoryFiles(files))
    assert np.array_equal(images_of(examples), GREY)
    assert np.array_equal(images_of(examples, 4), GREY[4:])
    assert examples.splits == ["train"] * 5 + ["test"] * 4
    assert examples.places[4].endswith("a.csv: row 2")


def test_groups_and_times_are_columns() -> None:
    table = [[index % 2, *row, f"2026-01-0{index + 1}"] for index, row in enumerate(rows())]
    files = MemoryFiles({"t.csv": csv(table, ["who", "label", *NAMES, "when"])})
    named = {"label": "label", **DIGITS}
    # The other of the two columns is no pixel then.
    with pytest.raises(DataError, match=r"got 67 columns\. Expected: 66, 8 x 8 x 1 pixels, a label and 1 of `splits`"):
        dataset(**named, splits={"group": "who"}).read(files)
    files = MemoryFiles({"t.csv": csv([row[:-1] for row in table], ["who", "label", *NAMES])})
    assert dataset(**named, splits={"group": "who"}).read(files).groups == list("010101010")
    files = MemoryFiles({"t.csv": csv([row[1:] for row in table], ["label", *NAMES, "when"])})
    times = dataset(**named, splits={"time": "when"}).read(files).times
    assert times is not None
    assert np.diff(times).tolist() == [86_400.0] * 8


def changed(row: int, column: int, value: Any) -> bytes:
    table = rows()
    table[row][column] = value
    return csv(table, ["label", *NAMES])


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        (
            changed(6, 3, 256),
            {},
            "t.csv: row 7 (line 8), column 'pixel2': got '256'. Expected: a whole number, 0 to",
        ),
        (changed(6, 3, -1), {}, "column 'pixel2': got '-1'."),
        (changed(6, 3, ""), {}, "column 'pixel2': got nothing."),
        (changed(6, 3, "0x1F"), {}, "got '0x1F'."),
        (changed(6, 3, " 5"), {}, "got ' 5'."),
        (changed(6, 3, "5.0"), {}, "got '5.0'."),
        (changed(6, 3, "nan"), {}, "got 'nan'."),
        (changed(6, 3, "٣"), {}, "got '\\u0663'."),
        (changed(6, 3, "9" * 5000), {}, "got '9999"),
        (changed(6, 0, 7), {}, "t.csv: row 7 (line 8): got the label '7'. Expected: one of 0, 1, 2."),
        (changed(6, 0, ""), {}, "row 7 (line 8): got no label."),
        (changed(6, 3, "1,2"), {}, "t.csv: row 7 (line 8): got 66 values"),
        (changed(6, 3, "=1+1"), {}, "got '=1+1'."),
        (csv([row[:-1] for row in rows()], ["label", *NAMES[:-1]]), {}, "got 64 columns. Expected: 65"),
        (csv([row[1:] for row in rows()], NAMES), {}, "Has it no labels? Then it is for `keras-pipeline predict`."),
        (csv([[0, *row] for row in rows()], ["", "label", *NAMES]), {"label": "label"}, "did pandas write its index?"),
        (csv(rows()), {}, "got no names of columns. Expected: a header, or `header: false`"),
        (TWO_ROWS, {"header": False}, "row 1 (line 1): got the label 'label'"),
        (csv([], ["label", *NAMES]), {}, "got no rows. Expected: one at least."),
        (b"", {}, "it is empty"),
        (b"\0" * 100, {}, "a byte 0"),
        (csv(rows(), ["label", *NAMES[:-1], "pixel0"]), {}, "'pixel0' is there 2 times"),
        (TWO_ROWS, {"label": "klass"}, "got 65 columns"),
    ],
)
def test_what_is_no_such_table_is_refused(content: bytes, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as refused:
        images_of(dataset(**{**DIGITS, **keys}).read(MemoryFiles({"t.csv": content})))
    assert message in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (None, pyarrow.uint8(), "row 7, column 'pixel2': got nothing."),
        (256, pyarrow.int64(), "row 7, column 'pixel2': got 256. Expected: a whole number, 0 to 255."),
        (0.5, pyarrow.float64(), "row 7, column 'pixel2': got 0.5."),
        (float("nan"), pyarrow.float64(), "row 7, column 'pixel2': got nan."),
    ],
)
def test_a_cell_of_parquet_is_refused_with_its_place(value: Any, kind: Any, message: str) -> None:
    table = rows()
    table[6][3] = value
    with pytest.raises(DataError) as refused:
        images_of(dataset().read(MemoryFiles({"t.parquet": columns(table, ["label", *NAMES], kind)})))
    assert message in str(refused.value)


def test_memory_is_a_block_whatever_the_file() -> None:
    table = csv(rows() * 10_000, ["label", *NAMES])
    packed = gzip.compress(table)
    examples = dataset(**DIGITS).read(MemoryFiles({"t.csv.gz": packed}))
    with little_memory(60_000_000):
        count = sum(len(block) for block, _ in examples.inputs.blocks())  # type: ignore[union-attr]
    assert count == 90_000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("size: [200, 200]", "size: 40000 columns of pixels. Expected: fewer than 20000."),
        ("header: false\nlabel: digit", "header: a column is named, but there are no names."),
        ("splits: {column: usage}\ntest: [t.csv]", "splits.column: the files say already what is test"),
        ("train: t.csv", "train: 't.csv' is a string. A list is expected: write [t.csv]."),
        ("order: rgb", "order: 'rgb' is not known. Allowed: interleaved, planes."),
    ],
)
def test_a_dataset_file_is_checked(line: str, message: str) -> None:
    others = {"size": "size: [8, 8]"}
    others.pop(line.partition(":")[0], None)
    text = "\n".join(["kind: pixels", "path: own", "classes: [a, b]", line, *others.values()])
    with pytest.raises(ParamsError) as refused:
        parse_yaml(text.encode(), "x.yaml", Pixels)
    assert message in str(refused.value)


def recognized(files: dict[str, bytes]) -> dict[str, Any]:
    found = Pixels.recognize(MemoryFiles(files))
    assert found is not None
    assert all(found.reasons)
    Pixels.model_validate_json(json.dumps({"path": "own", **found.keys})).read(MemoryFiles(files))
    return found.keys


def test_tables_of_pixels_are_recognized() -> None:
    kaggle = {"train.csv": csv(rows(), ["label", *NAMES]), "test.csv": csv([row[1:] for row in rows()], NAMES)}
    assert recognized(kaggle) == {
        "kind": "pixels", "size": [8, 8], "channels": 1, "label": "first", "train": ["train.csv"],
        "classes": ["0", "1", "2"],
    }  # fmt: skip
    assert recognized({"t.csv": csv(rows(last=True), delimiter=";")}) == {
        "kind": "pixels", "size": [8, 8], "channels": 1, "label": "last", "header": False, "delimiter": ";",
        "classes": ["0", "1", "2"],
    }  # fmt: skip
    smooth = np.add.outer(np.arange(8) * 20, np.arange(8)).astype(np.uint8)
    smooth = np.stack([smooth, 255 - smooth, smooth // 2], axis=-1)[None].repeat(9, 0)
    for order, stored in (("interleaved", smooth), ("planes", smooth.transpose(0, 3, 1, 2))):
        keys = recognized({"t.parquet": columns(rows(stored, LABELS + 1), ["label", *map(str, range(192))])})
        assert (keys["channels"], keys["order"], keys["label_values"]) == (3, order, [1, 2, 3])


def test_other_tables_are_not_recognized() -> None:
    iris = b"sepal,petal,kind\n1.2,3.4,a\n"
    letters = csv([["T", *range(16)]])  # letter and 16 measures, as a dataset that is no picture has them
    halves = csv([[0, *([0.5] * 64)]])
    for content in (iris, letters, halves, b"", b"\0\1\2"):
        assert Pixels.recognize(MemoryFiles({"t.csv": content})) is None
    assert Pixels.recognize(MemoryFiles({"t.png": b""})) is None
