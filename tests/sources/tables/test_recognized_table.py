"""What `dataset add` takes a table for, and that what it says of one is then read."""

import csv
import io
import json
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from sklearn.datasets import load_iris

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.kind import Recognized
from keras_pipeline.sources.kinds.table import Table
from memory_files import MemoryFiles


def written(*columns: list[Any], header: list[str] | None = None, delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerows([*([header] if header else []), *zip(*columns, strict=True)])
    return text.getvalue().encode()


def recognized(content: bytes | dict[str, bytes], name: str = "t.csv") -> Recognized:
    files = MemoryFiles(content if isinstance(content, dict) else {name: content})
    found = Table.recognize(files)
    assert found is not None
    Table.model_validate_json(json.dumps({**found.keys, "path": "data"})).read(files)
    return found


N = 60
RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.uniform(0, 9, N).round(3).tolist()
COLOURS = [("red", "blue", "")[index % 3] for index in range(N)]
SPECIES = [("rose", "lily")[index % 2] for index in range(N)]


def test_columns_classes_and_what_is_left_out_with_the_reason_of_each() -> None:
    found = recognized(
        written(
            list(range(N)),
            LENGTHS,
            COLOURS,
            ["cm"] * N,
            [f"note {index}" for index in range(N)],
            [f"2026-01-{1 + index % 28:02}" for index in range(N)],
            [f"{index % 4:05}" for index in range(N)],
            SPECIES,
            header=["id", "length", "colour", "unit", "note", "day", "zip", "species"],
        )
    )
    assert found.keys == {
        "kind": "table",
        "columns": {"length": "number", "colour": "category", "zip": "category"},
        "target": "species",
        "classes": ["lily", "rose"],
    }
    assert found.reasons == [
        "its delimiter is ',': that gives 8 columns in every row",
        "'species' is predicted: it is the last that can be, and none is called target or label or labels or class",
        "'id' is left out: it numbers the rows",
        "'unit' is left out: all rows have 'cm'",
        "'note' is left out: 60 different values in 60 rows",
        "'day' is left out: dates are neither numbers nor categories; `splits.time` can use it",
        "numbers: length",
        "categories: colour, zip",
        "'species' is a class: 2 different texts",
    ]


def test_a_dialect_words_for_a_missing_value_and_a_column_of_splits() -> None:
    lengths = [f"{value:.2f}".replace(".", ",") for value in LENGTHS]
    lengths[3] = "k.A."
    lengths[4] = lengths[5] = "NA"
    countries = ["NA" if index % 5 else "DE" for index in range(N)]
    split = [("train", "Train", "val", "test")[index % 4] for index in range(N)]
    columns = [LENGTHS, countries, split, SPECIES]
    content = written(*columns, header=["length", "country", "split", "Label"], delimiter=";")
    found = recognized(content.decode().replace(".", ",").encode("utf-16"))
    assert found.keys["delimiter"] == ";"
    assert found.keys["encoding"] == "utf-16"
    assert found.keys["decimal"] == "comma"
    assert found.keys["target"] == "Label"
    assert found.keys["splits"] == {"column": "split"}
    assert found.keys["columns"] == {"length": "number", "country": "category"}
    assert "missing_values" not in found.keys
    assert "'NA' in 'country' is a value like others; `missing_values` can say otherwise" in found.reasons
    numbers = [value if index % 7 else "NA" for index, value in enumerate(LENGTHS)]
    found = recognized(written(numbers, countries, SPECIES, header=["length", "country", "y"]))
    assert found.keys["missing_values"] == ["NA"]
    assert "NA means a missing value: it is among numbers, which it is not" in found.reasons


def test_a_number_to_predict_and_numbers_that_are_classes() -> None:
    found = recognized(written(COLOURS, LENGTHS, header=["colour", "price"]))
    assert (found.keys["target"], found.keys["classes"]) == ("price", [])
    found = recognized(written(LENGTHS, [index % 11 for index in range(N * 2)][:N], header=["x", "rings"]))
    assert found.keys["classes"] == []  # 11 values in 60 rows
    found = recognized(written(LENGTHS, [2 + index % 3 * 4 for index in range(N)], header=["x", "grade"]))
    assert found.keys["classes"] == ["2", "6", "10"]
    assert "'grade' is a class: 3 different whole numbers, `classes: []` would make a number of it" in found.reasons


def test_a_file_without_header_as_others_publish_them() -> None:
    iris = load_iris()
    names = ["Iris-" + iris.target_names[one] for one in iris.target]
    found = recognized(written(*iris.data.T.tolist(), names) + b"\n", "iris.data")
    assert found.keys["names"] == [f"column_{number}" for number in range(1, 6)]
    assert found.keys["classes"] == ["Iris-setosa", "Iris-versicolor", "Iris-virginica"]
    assert set(found.keys["columns"].values()) == {"number"}
    found = recognized(written([index % 3 + 1 for index in range(N)], LENGTHS), "wine.data")
    assert (found.keys["target"], found.keys["classes"]) == ("column_1", ["1", "2", "3"])


def test_parquet_with_whole_numbers_as_classes_and_columns_that_are_none() -> None:
    file = io.BytesIO()
    table = pyarrow.table({
        "x": LENGTHS, "picture": [b"x"] * N, "parts": [[1]] * N, "label": [1 + index % 2 for index in range(N)],
        "uuid": pyarrow.array([b"abcd"] * N, pyarrow.binary(4)),
    })  # fmt: skip
    parquet.write_table(table, file)
    found = recognized(file.getvalue(), "t.parquet")
    assert found.keys == {
        "kind": "table", "columns": {"x": "number"}, "target": "label", "classes": ["1", "2"], "label_values": [1, 2],
    }  # fmt: skip


def test_a_file_for_each_split() -> None:
    content = written(LENGTHS, SPECIES, header=["x", "y"])
    assert recognized({"data/train.csv": content, "data/test.csv": content}).keys["target"] == "y"
    with pytest.raises(DataError, match=r"data/test.csv: it has no column 'y', which train.csv has"):
        recognized({"train.csv": content, "test.csv": written(LENGTHS, LENGTHS, header=["x", "id"])})


def test_rows_that_are_not_as_long_as_others_are_named() -> None:
    content = b"60,2,rose,lily\n" + written(LENGTHS, LENGTHS, SPECIES)
    with pytest.raises(DataError, match=r"data/t.csv: line 1: got 4 values, where others have 3 \(delimiter ','\)"):
        Table.recognize(MemoryFiles({"t.csv": content}))
    assert Table.recognize(MemoryFiles({"notes.txt": content})) is None


def test_a_column_of_numbers_with_one_that_is_none_says_so() -> None:
    numbers = [*(index % 9 for index in range(N - 1)), "n.a."]
    found = recognized(written(numbers, SPECIES, header=["rings", "y"]))
    assert "'rings' is a category, though most are numbers: 'n.a.' is none" in found.reasons


@pytest.mark.parametrize(
    "files",
    [
        {"a.png": b""},
        {"labels.csv": b"file,label\na.png,x\n", "a.png": b""},
        {"t.csv": b"only\n1\n2\n"},
        {"t.csv": b"a,b\n"},
        {"t.csv": b"a,b\n1,1\n1,2\n"},
    ],
)
def test_what_is_no_table_is_not_taken_for_one(files: dict[str, bytes]) -> None:
    assert Table.recognize(MemoryFiles(files)) is None


@pytest.mark.parametrize("content", [b"", b"\0\1\2", b"\x89PNG\r\n", b"<html>\n<p>1,2</p>\n</html>\n", b"\xff\xfe\0"])
def test_what_is_called_a_table_and_is_none(content: bytes) -> None:
    for name in ("t.csv", "t.parquet", "t.csv.gz"):
        try:
            assert Table.recognize(MemoryFiles({name: content})) is None
        except DataError as fault:
            assert name in str(fault)  # noqa: PT017


CELLS = st.sampled_from(
    ["1", "2.5", "-3", "NA", "", "red", "00123", "1,5", "?", "2026-01-02", " x ", "é", "=1", "1e3", "a\nb"]
)
TABLES = st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=30)


@settings(max_examples=300, deadline=None)
@given(TABLES, st.sampled_from(",;\t|"), st.booleans(), st.sampled_from(["utf-8", "cp1252", "utf-16"]))
def test_whatever_is_recognized_is_read(rows: Any, delimiter: str, header: bool, encoding: str) -> None:
    content = written(*zip(*rows, strict=True), header=["a", "b", "t"] if header else None, delimiter=delimiter)
    files = MemoryFiles({"t.csv": content.decode().encode(encoding)})
    try:
        found = Table.recognize(files)
    except DataError:
        return
    if found is None:
        return
    try:
        Table.model_validate_json(json.dumps({**found.keys, "path": "data"})).read(files)
    except DataError as fault:
        if "no label" not in str(fault) and "nothing is there" not in str(fault):  # told by a reason
            raise
        assert any("take them out" in reason for reason in found.reasons)
