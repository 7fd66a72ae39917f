"""The kind `table`: what a dataset file may say of one, what is read, and what is refused with file, row and column."""

import csv
import io
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from pydantic import ValidationError

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources import raw, raw_writer
from keras_pipeline.sources.kinds import table as module
from keras_pipeline.sources.kinds.kind import Columns, Examples
from keras_pipeline.sources.kinds.table import Table
from memory_files import MemoryFiles

FLOWERS = "id,length,colour,zip,species\n1,1.5,red,00123,rose\n2,,NA,00456,lily\n3,2,,00123,rose\n"
KEYS: dict[str, Any] = {
    "kind": "table",
    "path": "data",
    "columns": {"length": "number", "colour": "category", "zip": "category"},
    "target": "species",
    "classes": ["rose", "lily"],
}


def table(**changes: Any) -> Table:
    return Table.model_validate_json(json.dumps({**KEYS, **changes}))


def read(content: str | bytes | dict[str, bytes], name: str = "flowers.csv", **changes: Any) -> Examples:
    if isinstance(content, str):
        content = content.encode()
    files = content if isinstance(content, dict) else {name: content}
    return table(**changes).read(MemoryFiles(files, "data" if len(files) > 1 else f"data/{name}"))


def parquet_file(**columns: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def same(found: Any, expected: list[Any]) -> None:
    if isinstance(found, list):
        assert found == expected
    else:
        np.testing.assert_array_equal(found, expected)


def test_columns_are_what_the_dataset_file_says_and_nothing_more() -> None:
    found = read(FLOWERS)
    assert list(found.inputs.values) == ["length", "colour", "zip"]  # type: ignore[union-attr]
    same(found.inputs.values["length"], [1.5, math.nan, 2])  # type: ignore[union-attr]
    same(found.inputs.values["colour"], ["red", "NA", None])  # type: ignore[union-attr]
    same(found.inputs.values["zip"], ["00123", "00456", "00123"])  # type: ignore[union-attr]
    assert found.labels.tolist() == [0, 1, 0]
    assert found.labels.dtype == np.int64
    assert (len(found.places), found.places[-1], found.places[:1]) == (3, "row 3", ["row 1"])
    assert found.splits is found.groups is found.times is None
    assert table().input_shape == (3,)


def test_a_word_is_a_missing_value_where_the_dataset_file_says_so() -> None:
    found = read("a,b,t\n-999,NA,1\nNA,x,2\n-999.0, y ,3\n", columns={"a": "number", "b": "category"}, target="t",
                 classes=[], missing_values=["NA", "-999"])  # fmt: skip
    same(found.inputs.values["a"], [math.nan] * 3)  # type: ignore[union-attr]
    same(found.inputs.values["b"], [None, "x", "y"])  # type: ignore[union-attr]
    assert found.inputs.missing_values == ("NA", "-999")  # type: ignore[union-attr]
    assert found.labels.tolist() == [1.0, 2.0, 3.0]
    assert found.labels.dtype == np.float64


def test_a_file_of_another_dialect() -> None:
    content = "1,5;'re;d';rose\n-,25;blue;lily\n".encode("utf-16")
    found = read(content, columns={"x": "number", "c": "category"}, target="t", delimiter=";", quote="'",
                 decimal="comma", encoding="utf-16", names=["x", "c", "t"])  # fmt: skip
    same(found.inputs.values["x"], [1.5, -0.25])  # type: ignore[union-attr]
    same(found.inputs.values["c"], ["re;d", "blue"])  # type: ignore[union-attr]


def test_a_file_for_each_split_and_a_column_of_splits_groups_and_times() -> None:
    header = "length,colour,zip,species,part,person,day\n"
    rows = ["1,a,b,rose,train,p1,2026-01-02", "2,a,b,lily,val,p2,2026-01-01", "3,a,b,rose,test,p1,2026-01-03"]
    files = {
        f"{name}.csv": f"{header}{row}\n".encode() for name, row in zip(("val", "test", "train"), rows, strict=True)
    }
    found = read({**files, "README.md": b"about"})
    assert found.splits == ["train", "validation", "test"]
    assert found.inputs.values["length"].tolist() == [3.0, 1.0, 2.0]  # type: ignore[union-attr]
    assert found.places[1] == "val.csv: row 1"
    found = read(header + "\n".join(rows), splits={"column": "part", "group": "person"})
    assert found.splits == ["train", "validation", "test"]
    assert found.groups == ["p1", "p2", "p1"]
    found = read(header + "\n".join(rows), splits={"time": "day"})
    assert found.times is not None
    assert np.argsort(found.times).tolist() == [1, 0, 2]


MIXED = st.tuples(
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    st.sampled_from(["NA", None, 'a"b,c', "=1+1", "é", "00123"]),
)


@settings(max_examples=20, deadline=None)
@given(st.lists(MIXED, min_size=1, max_size=30))
def test_what_fetch_writes_of_a_table_is_read_back_exactly(rows: list[tuple[float | None, str | None]]) -> None:
    numbers = np.array([math.nan if number is None else number for number, _ in rows] * 2)
    texts = [text for _, text in rows] * 2
    splits: list[Any] = ["train", "test"] * len(rows)
    columns = Columns({"x": numbers, "c": texts}, "mean", ("NA",), "t")
    for dataset, labels in (
        (table(columns={"x": "number", "c": "category"}, target="t"), np.arange(2 * len(rows)) % 2),
        (table(columns={"x": "number", "c": "category"}, target="t", classes=[]), np.arange(2.0 * len(rows))),
    ):
        with tempfile.TemporaryDirectory() as folder:
            examples = Examples(columns, labels, range(len(labels)), splits)  # type: ignore[arg-type]
            raw_writer.write_raw(Path(folder) / "raw", "flowers", dataset, examples, definition="0" * 64)
            found = raw.read_raw(Path(folder) / "raw")
        for start, split in enumerate(("train", "test")):
            read_back = found.tables[split]  # type: ignore[index]
            assert read_back.values["x"].tobytes() == numbers[start::2].tobytes()  # type: ignore[union-attr]
            assert read_back.values["c"] == texts[start::2]
            assert found.labels[split].tolist() == labels[start::2].tolist()  # type: ignore[index]
            assert (read_back.missing, read_back.missing_values, read_back.target) == ("mean", ("NA",), "t")


def test_parquet_gives_what_csv_gives() -> None:
    colours = pyarrow.array(["red", "NA", None]).dictionary_encode()
    content = parquet_file(length=[1.5, None, 2.0], colour=colours, zip=["00123", "00456", "00123"],
                           species=["rose", "lily", "rose"])  # fmt: skip
    found, expected = read(content, "flowers.parquet"), read(FLOWERS)
    for name, column in expected.inputs.values.items():  # type: ignore[union-attr]
        same(found.inputs.values[name], list(column))  # type: ignore[union-attr]
    assert found.labels.tolist() == expected.labels.tolist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pyarrow.array([1, None, 3], pyarrow.int8()), [1, math.nan, 3]),
        (pyarrow.array([True, False, None]), [1, 0, math.nan]),
        (pyarrow.array(["1", "2.5", None], pyarrow.large_string()), [1, 2.5, math.nan]),
        (pyarrow.array([2**53, -(2**62), 0], pyarrow.int64()), [2.0**53, -(2.0**62), 0]),
        (pyarrow.array([1, None, 0]).cast(pyarrow.decimal128(30, 3)), [1, math.nan, 0]),
        (pyarrow.nulls(3), [math.nan] * 3),
        (pyarrow.array([0.1, 2, 3], pyarrow.float32()), [float(np.float32(0.1)), 2, 3]),
        (pyarrow.array([1, None, 3], pyarrow.int8()).dictionary_encode(), [1, math.nan, 3]),
    ],
)
def test_numbers_of_parquet(values: Any, expected: list[float]) -> None:
    found = read(parquet_file(x=values, t=[1, 2, 3]), "t.parquet", columns={"x": "number"}, target="t", classes=[])
    np.testing.assert_array_equal(found.inputs.values["x"], expected)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, math.nan], r"row 2: 'x': got 'nan'. Expected: a finite number. Does it mean a missing value"),
        ([1.0, -math.inf], r"row 2: 'x': got '-inf'. Expected: a finite number"),
        ([1, 2**53 + 1], r"row 2: 'x': got '9007199254740993', which a number of 64 bits has not exactly"),
        ([b"1", b"2"], r"row 1: 'x': got bytes \(binary\)"),
        (pyarrow.array([b"\xff", b"2"], pyarrow.binary_view()), r"row 1: 'x': got bytes \(binary_view\)"),
        (pyarrow.array([1, 2], pyarrow.timestamp("s", "Nowhere")), r"row 1: 'x': got timestamp.*Leave the column out"),
        ([[1], [2]], r"the column 'x' is nested \(list"),
        ([{"a": 1}, {"a": 2}], r"the column 'x' is nested \(struct"),
    ],
)
def test_parquet_that_is_no_numbers(values: Any, message: str) -> None:
    keys: dict[str, Any] = {"columns": {"x": "number"}, "target": "t", "classes": []}
    with pytest.raises(DataError, match=message):
        read(parquet_file(x=values, t=[1, 2]), "t.parquet", **keys)
    if "nan" in message:
        found = read(parquet_file(x=values, t=[1, 2]), "t.parquet", **keys, missing_values=["NaN"])
        np.testing.assert_array_equal(found.inputs.values["x"], [1, math.nan])  # type: ignore[union-attr]


def numbers_of(*values: str, **changes: Any) -> Examples:
    rows = "".join(f"{value};{index}\n" for index, value in enumerate(values))
    return read(f"x;t\n{rows}", columns={"x": "number"}, target="t", classes=[], delimiter=";", **changes)


@pytest.mark.parametrize(
    ("value", "changes", "message"),
    [
        ("NA", {}, r"flowers.csv: row 2 \(line 3\): 'x': got 'NA'. Expected: a finite number. .*`missing_values`"),
        ("inf", {}, r"got 'inf'"),
        ("nan", {}, r"got 'nan'"),
        ("1e999", {}, r"got '1e999'"),
        ("1_000", {}, r"got '1_000'"),
        ("0x10", {}, r"got '0x10'"),
        ("1,5", {}, r"got '1,5'. Expected: a finite number. `decimal` of the dataset file is point"),
        ("1.5", {"decimal": "comma"}, r"got '1.5'. .*`decimal` of the dataset file is comma"),
        ("9007199254740993", {}, r"got '9007199254740993', which a number of 64 bits has not exactly"),
        ("١", {}, r"got '\\u0661'"),
        ("=1+1", {}, r"got '=1\+1'"),
        ("red", {}, r"got 'red'. Expected: a finite number. Is the column a category\?"),
        ("1 2", {}, r"got '1 2'"),
    ],
)
def test_what_is_no_number_is_refused_with_its_place(value: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        numbers_of("1", value, **changes)


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=30))
def test_every_number_is_read_exactly(values: list[float | None]) -> None:
    found = numbers_of(*("" if value is None else repr(value) for value in values))
    expected = [math.nan if value is None else value for value in values]
    assert found.inputs.values["x"].tobytes() == np.array(expected).tobytes()  # type: ignore[union-attr]


TEXT = st.text(max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from(["f.csv", "f.csv.gz", "f.parquet", "f.csv.zst", "f.csv.xz", "f.csv.bz2"])
)
def test_any_bytes_are_read_or_refused(content: bytes, name: str) -> None:
    for start in (b"", b"length,colour,zip,species\n"):
        try:
            read(start + content, name)
        except DataError as fault:
            assert name in str(fault)  # noqa: PT017


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=10))
def test_any_texts_are_read_or_refused_and_none_is_lost(rows: list[tuple[str, str]]) -> None:
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n", quoting=1)
    writer.writerows([("c", "t"), *((value, "a") for value, _ in rows)])
    try:
        found = read(
            content.getvalue().encode(errors="replace"), columns={"c": "category"}, target="t", classes=["a", "b"]
        )
    except DataError as fault:
        assert "row " in str(fault) or "line " in str(fault)  # noqa: PT017
        return
    texts = [value.encode(errors="replace").decode().strip() or None for value, _ in rows]
    assert found.inputs.values["c"] == texts  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        ("", {}, "flowers.csv: it is empty"),
        ("length,colour,zip,species\n", {}, "flowers.csv: it has no rows"),
        (FLOWERS, {"target": "kind"}, "the column 'kind' is there 0 times. .*id, length, colour, zip, species"),
        ("length,length,colour,zip,species\n", {}, "the column 'length' is there 2 times"),
        (FLOWERS + "4,1,red\n", {}, r"row 4 \(line 5\): got 3 values, 4,1,red. Expected: 5"),
        (FLOWERS.replace("lily", "lilly"), {}, r"row 2 \(line 3\): 'species': got the label 'lilly'. Expected: one of"),
        (FLOWERS.replace("lily", ""), {}, r"row 2 \(line 3\): 'species': got no label"),
        (FLOWERS, {"missing": "refuse"}, r"row 2 \(line 3\): 'length': nothing is there. .*`missing: refuse`"),
        (FLOWERS.replace(",,NA", ",1,NA"), {"missing": "refuse"}, r"row 3 \(line 4\): 'colour': nothing is there"),
        (FLOWERS.replace("red", '"re\nd"'), {}, r"row 1 \(line 3\): 'colour': got 're\\nd', 4 characters"),
        (FLOWERS.replace("red", "r" * 1001), {}, r"row 1 \(line 2\): 'colour': got 'r+', 1,001 characters"),
        (FLOWERS.replace("red", "r\0d"), {}, "line 2: a byte 0"),
        (FLOWERS.replace("red", "röd").encode("cp1252"), {}, "line 2: the bytes f6 64 2c 30 are not utf-8"),
        (b"PK\x03\x04" + b"\0" * 30, {}, "line 1: a byte 0"),
        (FLOWERS, {"splits": {"column": "colour"}}, r"row 1 \(line 2\): 'colour': got 'red' for a split"),
        (FLOWERS, {"splits": {"group": "colour"}}, r"row 3 \(line 4\): 'colour': nothing is there. .*group"),
        (FLOWERS, {"splits": {"time": "colour"}}, r"row 1 \(line 2\): 'colour': got 'red' for a time"),
        (FLOWERS.replace("rose", ""), {"target": "length", "columns": {"zip": "category"}, "classes": []},
         r"row 2 \(line 3\): 'length': nothing is there \(1 rows\). Expected: the number to predict"),
    ],
)  # fmt: skip
def test_what_is_not_as_the_dataset_file_says_is_refused_with_its_place(
    content: str | bytes, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(content, **changes)


def test_formulas_are_texts() -> None:
    found = read(FLOWERS.replace("red", "=cmd|'/c calc'!A0"))
    assert found.inputs.values["colour"][0] == "=cmd|'/c calc'!A0"  # type: ignore[union-attr]


def test_a_table_beyond_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CELLS", 8)
    with pytest.raises(DataError, match=r"more than 2 rows of 4 columns. Expected: 8 values at most"):
        read(FLOWERS)


def test_which_file_it_is_must_be_clear() -> None:
    content = FLOWERS.encode()
    with pytest.raises(DataError, match=r"data: got the tables a.csv, b.csv. Expected: one, or files that are called"):
        read({"a.csv": content, "b.csv": content})
    with pytest.raises(DataError, match=r"data: got the tables \(none\)"):
        read({"a.png": content, "b.png": content})
    assert len(read({"a.csv": content, "LICENSE.txt": b"free"}).labels) == 3


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"columns": {"species": "category"}}, ("columns", "species")),
        ({"classes": ["rose"]}, ("classes",)),
        ({"names": ["length", "colour", "zip"]}, ("target",)),
        ({"names": ["length", "length"]}, ("columns", "colour")),
        ({"columns": {}}, ("columns",)),
        ({"columns": {"length": "text"}}, ("columns", "length")),
        ({"delimiter": ",,"}, ("delimiter",)),
        ({"delimiter": "é"}, ("delimiter",)),
        ({"encoding": "rot13"}, ("encoding",)),
        ({"splits": {"group": "person"}, "names": ["length", "colour", "zip", "species"]}, ("splits", "group")),
    ],
)
def test_a_dataset_file_that_contradicts_itself_is_refused(changes: dict[str, Any], key: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        table(**changes)
    (first, *_) = caught.value.errors()
    where = (*first["loc"], *getattr(first.get("ctx", {}).get("error"), "key", ()))
    assert where == key
