"""Tables as CSV: written so that a spreadsheet computes nothing; each line is read as numbers under known columns, or
refused with its place."""

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_pipeline.core import files

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""As programs write one: without spaces, lines below digits, or words."""
SHOWN = 60


def parse_csv(content: bytes) -> list[list[str]]:
    """The cells of each line, the names of the columns first. Raises ValueError where it is no CSV in UTF-8."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8. Expected: CSV") from None
    if "\0" in text:
        raise ValueError(f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: a byte 0. Expected: CSV")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return list(reader)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}. Expected: CSV") from None


def parse_numbers(cells: Sequence[str], columns: Sequence[str], line: int) -> list[float]:
    """The finite numbers of a line of the file. Raises ValueError with its place otherwise."""
    if len(cells) != len(columns):
        raise ValueError(f"line {line}: got {len(cells)} values. Expected: {len(columns)}")
    numbers = []
    for name, text in zip(columns, cells, strict=True):
        number = float(text) if NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(number):
            raise ValueError(f"line {line}: {ascii(name)[1:-1]}: got {text[:SHOWN]!a}. Expected: a finite number")
        numbers.append(number)
    return numbers


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of the same keys, atomically; a name that a spreadsheet would compute as a formula gets a ' before
    it."""
    text = io.StringIO()
    lines = [list(rows[0]), *(row.values() for row in rows)]
    csv.writer(text, lineterminator="\n").writerows([map(safe_cell, line) for line in lines])
    files.write_atomically(path, text.getvalue().encode())


def safe_cell(value: Any) -> Any:
    """A value as it is written: a text that a spreadsheet would compute as a formula gets a ' before it."""
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@")) and not NUMBER.fullmatch(value)
    return f"'{value}" if formula else value
