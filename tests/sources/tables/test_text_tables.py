"""CSV and Parquet as text columns: every dialect, and every file that is none."""

import bz2
import csv
import gzip
import io
import lzma
import tracemalloc
from collections.abc import Callable
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.tables import text_tables
from keras_pipeline.sources.tables.text_tables import Dialect, column_names, read_columns, row_place
from memory_files import MemoryFiles

PLAIN = b"a,b,c\n1,x,\n2,NA,00123\n"


def read(content: bytes, columns: list[str], name: str = "t.csv", **dialect: Any) -> list[list[Any]]:
    blocks = list(read_columns(MemoryFiles({name: content}), name, columns, Dialect(**dialect)))
    return [[value for block in blocks for value in block[index].to_pylist()] for index in range(len(columns))]


def parquet_file(**columns: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def test_nothing_is_guessed_and_columns_come_in_the_order_asked_for() -> None:
    assert read(PLAIN, ["c", "b", "c"]) == [["", "00123"], ["x", "NA"], ["", "00123"]]


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20), st.sampled_from(",;\t|"), st.sampled_from("\"'"))
def test_whatever_a_csv_writer_writes_is_read_back(rows: list[tuple[str, str]], delimiter: str, quote: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quotechar=quote, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("first", "second"), *rows])
    found = read(text.getvalue().encode(), ["first", "second"], delimiter=delimiter, quote=quote)
    assert found == [list(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_compressed_files_are_read_and_damaged_ones_named(suffix: str, pack: Callable[[bytes], bytes]) -> None:
    content = pack(PLAIN)
    assert read(content, ["a"], f"t.csv.{suffix}") == [["1", "2"]]
    for wrong in (content[:-6], PLAIN, b""):
        with pytest.raises(DataError, match=rf"data/t.csv.{suffix}: (damaged|it is empty)"):
            read(wrong, ["a"], f"t.csv.{suffix}")


def test_zstandard_is_read() -> None:
    packed = pyarrow.compress(PLAIN, "zstd", asbytes=True)
    assert read(packed, ["a"], "t.csv.zst") == [["1", "2"]]
    with pytest.raises(DataError, match="damaged"):
        read(PLAIN, ["a"], "t.csv.zst")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_encodings(encoding: str) -> None:
    text = "größe;tür\nklein;1\ngrün;2\n"
    given = encoding.removesuffix("-sig")
    assert read(text.encode(encoding), ["größe"], delimiter=";", encoding=given) == [["klein", "grün"]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_any_way_and_empty_ones_are_no_rows(end: str) -> None:
    content = end.join(["", "a,b", "", "1,2", "", "3,4", "", ""]).encode()
    assert read(content, ["b"]) == [["2", "4"]]
    assert read(content, ["y"], names=("x", "y")) == [["b", "2", "4"]]


def test_a_cell_may_have_line_ends() -> None:
    assert read(b'"a\nb",c\n"1\n2",3\n', ["a\nb", "c"]) == [["1\n2"], ["3"]]


def test_no_rows_are_no_block() -> None:
    assert read(b"a,b\n", ["a"]) == [[]]


@pytest.mark.parametrize(
    ("content", "dialect", "message"),
    [
        (b"", {}, r"data/t.csv: it is empty"),
        (b" \n\n", {}, r"data/t.csv: it is empty"),
        (b"a\n1\n", {}, r"got 1 columns. Expected: 2 to 20,000. Is its delimiter ','\?"),
        (b"a,b,a\n1,2,3\n", {}, r"the column 'a' is there 2 times. Expected: once. Its columns are a, b, a"),
        (b"x,b\n1,2\n", {}, r"the column 'a' is there 0 times"),
        (b"a,b\n1,2\n\n1,2,3\n", {}, r"t.csv: row 2 \(line 4\): got 3 values, 1,2,3. Expected: 2"),
        (b'a,b\n"1\n1",2\n1\n', {}, r"t.csv: row 2 \(line 4\): got 1 values, 1. Expected: 2"),
        (b"a,b\n1,\xe4\n", {}, r"t.csv: line 2: the bytes e4 0a are not utf-8. Expected: .* cp1252"),
        (b"a,b\n1,2\n\0,2\n", {}, r"t.csv: line 3: a byte 0"),
        ("a,b\n1,2\n".encode("utf-16-le"), {}, r"t.csv: line 1: a byte 0. .*utf-16"),
        (b"a,b\n1,2\n", {"encoding": "utf-16"}, r"line 1: the bytes 61 2c 62 0a are not utf-16"),
        (b"a,b\n1,2\n", {"names": ("a", "b", "c")}, r"row 1 \(line 1\): got 2 values, a,b. Expected: 3"),
    ],
)
def test_a_file_that_is_not_in_its_dialect_is_refused_with_its_place(
    content: bytes, dialect: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(content, ["a", "b"], **dialect)


def test_a_quotation_mark_that_is_never_closed_fills_no_memory() -> None:
    content = b'a,b\n1,2\n3,"' + b"x,\n" * (1 << 22)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"never closed|field larger"):
        read(content, ["a"])
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()


def test_a_million_columns_are_refused_before_they_are_read() -> None:
    with pytest.raises(DataError, match=r"got [0-9,]{7,} columns. Expected: 2 to 20,000"):
        column_names(MemoryFiles({"t.csv": b",".join([b"a"] * 1_000_000) + b"\n"}), "t.csv", Dialect())


def test_the_line_of_a_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    files = MemoryFiles({"t.csv": b'a,b\n"1\n\n1",2\n\n3,4\n'}, "folder/t.csv")
    assert row_place(files, "t.csv", 1, Dialect()) == "folder/t.csv: row 2 (line 6)"
    monkeypatch.setattr(text_tables, "MOST_COLUMNS", 1)
    with pytest.raises(DataError, match=r"t.csv: got 2 columns"):
        column_names(files, "t.csv", Dialect())


def test_parquet_columns_keep_their_types() -> None:
    content = parquet_file(a=[1, None], b=["x", None], c=[[1], [2]])
    assert column_names(MemoryFiles({"t.parquet": content}), "t.parquet", Dialect()) == ["a", "b", "c"]
    assert read(content, ["b", "a"], "t.parquet") == [["x", None], [1, None]]
    with pytest.raises(DataError, match=r"t.parquet: the column 'c' is nested \(list"):
        read(content, ["c"], "t.parquet")


def test_damaged_parquet_is_refused() -> None:
    content = parquet_file(a=list(range(1000)), b=["x"] * 1000)
    for wrong in (content[:-9], content[:20], b"", b"PAR1", PLAIN):
        with pytest.raises(DataError, match="Expected: a Parquet file"):
            read(wrong, ["a"], "t.parquet")
    harmed = bytearray(content)
    harmed[10:60] = b"\xff" * 50
    with pytest.raises(DataError, match=r"t\.parquet: .*Expected: a whole Parquet file"):
        read(bytes(harmed), ["a"], "t.parquet")
