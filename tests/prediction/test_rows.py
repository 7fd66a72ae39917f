"""Rows of CSV and Parquet by the names of their columns: the features of the training, or a refusal with its place."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from keras_pipeline.core.errors import DataError
from keras_pipeline.data import encoding
from keras_pipeline.prediction.inputs import Inputs, open_path
from keras_pipeline.prediction.rows import open_rows

COLUMNS: list[Any] = [
    {"name": "age", "kind": "number", "fill": 30.5},
    {"name": "city", "kind": "category", "categories": ["Oslo", "Rome"], "missing": "value"},
]


def described(columns: list[Any] = COLUMNS, missing: Any = "median") -> encoding.TableInput:
    return {
        "kind": "table", "columns": columns, "target": "price", "missing": missing, "missing_values": ["NA"],
        "features": encoding.feature_names(columns),
    }  # fmt: skip


PLAIN = encoding.number_columns(["x"], "y")


def opened(path: Path, text: str | bytes, table: encoding.TableInput) -> Inputs:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_rows(open_path(path)[0], table)


def read(inputs: Inputs) -> tuple[list[str], Any]:
    blocks = list(inputs.blocks)
    return [place for places, _ in blocks for place in places], np.concatenate([rows for _, rows in blocks])


def test_columns_go_by_name_gaps_are_filled_and_others_left_out(tmp_path: Path) -> None:
    inputs = opened(tmp_path / "x.csv", "id,city,age,price\n1,Rome,4,9\n2,NA,,9\n3,Paris,1e3,\n", described())
    places, rows = read(inputs)
    assert (inputs.place, places) == ("row", ["1", "2", "3"])
    assert rows.dtype == np.float64
    assert rows.tolist() == [[4, 0, 1, 0, 0], [30.5, 0, 0, 1, 0], [1000, 0, 0, 0, 1]]
    assert inputs.notes == [
        "columns left out: id, price, of which price is what is predicted",
        "city: 1 row has a value that no training row has",
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_seen(tmp_path: Path, delimiter: str) -> None:
    text = f'\ufeff"age"{delimiter}city\r\n4{delimiter}"Rome"\r\n'
    assert read(opened(tmp_path / "x.csv", text, described()))[1].tolist() == [[4, 0, 1, 0, 0]]


def test_a_comma_before_the_fraction_is_understood(tmp_path: Path) -> None:
    assert read(opened(tmp_path / "x.csv", "age;city\n4,25;Rome\n", described()))[1][0, 0] == 4.25


def test_a_table_of_one_column_is_one(tmp_path: Path) -> None:
    assert read(opened(tmp_path / "x.csv", "x\n1\n2.5\n", PLAIN))[1].tolist() == [[1], [2.5]]


def test_parquet_and_csv_give_the_same(tmp_path: Path) -> None:
    table = pyarrow.table({"city": ["Rome", None, "Paris"], "age": [4, None, 1000], "more": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "x.parquet")
    inputs = open_rows(open_path(tmp_path / "x.parquet")[0], described())
    assert read(inputs)[1].tolist() == [[4, 0, 1, 0, 0], [30.5, 0, 0, 1, 0], [1000, 0, 0, 0, 1]]


def test_blocks_are_the_rows_in_order(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=300_000)
    text = "x\n" + "\n".join(map(repr, numbers.tolist())) + "\n"
    inputs = opened(tmp_path / "x.csv", text, PLAIN)
    blocks = list(inputs.blocks)
    assert len(blocks) > 1
    assert [place for places, _ in blocks for place in places] == [str(row) for row in range(1, 300_001)]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in blocks])[:, 0], numbers)


REFUSED = [
    ("Age,city\n1,a\n", r"got the columns Age, city; 'age' is missing\. Expected: a header with age, city\. Is it"),
    ("age\n1\n", r"'city' is missing"),
    ("4,Rome\n5,Oslo\n", r"'age' and 1 more is missing"),
    ("age,city\n1,a\nseven,b\n", r"x\.csv: row 2 \(line 3\): 'age': got 'seven'"),
    ("age,city\n1,a\ninf,b\n", r"row 2 \(line 3\): 'age'"),
    ("age,city\n1,a\n2,b,c\n", r"row 2 \(line 3\): got 3 values"),
    (b"age,city\n1,\xff\n", r"not utf-8"),
    ("", "it is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_does_not_fit_is_refused_with_its_place(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(opened(tmp_path / "x.csv", text, described()))


def test_a_gap_is_refused_where_the_training_had_none(tmp_path: Path) -> None:
    columns = [{**COLUMNS[0], "fill": None}, {**COLUMNS[1], "missing": "refuse"}]
    table = described(columns, "refuse")
    for text, column in (("age,city\n1,Oslo\n,Rome\n", "age"), ("age,city\n1,Oslo\n2,NA\n", "city")):
        with pytest.raises(DataError, match=rf"row 2 \(line 3\): '{column}': nothing is there\. Expected: a value"):
            read(opened(tmp_path / "x.csv", text, table))


def test_one_table_is_asked_about(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x\n1\n")
    with pytest.raises(DataError, match=r"got a\.csv, b\.csv\. Expected: one CSV or Parquet file"):
        open_rows(open_path(tmp_path)[0], PLAIN)
