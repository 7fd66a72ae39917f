"""Tables of numbers as CSV: each line is read as numbers under known columns, or refused with its place."""

import csv
import io
import math
import re
from collections.abc import Sequence

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
