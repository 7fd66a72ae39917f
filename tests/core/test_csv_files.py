"""Tables as CSV: numbers as programs write them, and nothing else."""

import csv
from pathlib import Path

import pytest

from keras_pipeline.core.csv_files import parse_csv, parse_numbers, safe_cell, write_table


def test_a_table_is_its_cells() -> None:
    assert parse_csv(b'\xef\xbb\xbfa,"b"\r\n1,"2"\n') == [["a", "b"], ["1", "2"]]
    assert parse_csv(b'"a\r\nb",1\r\n') == [["a\r\nb", "1"]]
    assert parse_csv(b"") == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a\n\xff\n", "byte 2 is not UTF-8. Expected: CSV"),
        (b"\na\n\0\n\0", "line 3: a byte 0. Expected: CSV"),
        (b'a\n"1', "line 2: unexpected end of data. Expected: CSV"),
        (b'a\n"1"2\n', "line 2: ',' expected after '\"'. Expected: CSV"),
        (b"a" * 200_000, "line 1: field larger than field limit (131072). Expected: CSV"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(content: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=r"Expected: CSV") as refused:
        parse_csv(content)
    assert str(refused.value) == fault


@pytest.mark.parametrize("text", ["1", "-1.5", "+2e-3", ".5", "5.", "1e308", "-0.0", "5e-324"])
def test_a_number_is_read_as_python_writes_it(text: str) -> None:
    assert parse_numbers([text], ["a"], 2) == [float(text)]


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "1_0", "nan", "inf", "-Infinity", "1e309", "0x10", "1,5", "٣", "\x1b[31m"]
)
def test_another_number_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"^line 7: a\\nb: got '.*'\. Expected: a finite number$") as refused:
        parse_numbers([text], ["a\nb"], 7)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()


def test_a_ragged_line_is_refused_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"^line 7: got 1 values\. Expected: 2$"):
        parse_numbers(["1"], ["a", "b"], 7)


def test_no_name_in_a_table_is_a_formula_and_numbers_stay_numbers(tmp_path: Path) -> None:
    hostile = ["=1+1", "+1+1", "-A1", "@SUM(A1)"]
    rows = [{"class": name, name: -1.5, "plain": "a-b"} for name in hostile[:1]]
    rows += [{"class": name, hostile[0]: -2, "plain": None} for name in hostile[1:]]
    write_table(tmp_path / "table.csv", rows)
    with (tmp_path / "table.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    assert head == ["class", "'=1+1", "plain"]
    assert [line[0] for line in lines] == [f"'{name}" for name in hostile]
    assert [line[1:] for line in lines] == [["-1.5", "a-b"], *[["-2", ""]] * 3]
    assert [safe_cell(name) for name in ("-1", "+1.5e3", "a")] == ["-1", "+1.5e3", "a"]  # numbers, which they stay
