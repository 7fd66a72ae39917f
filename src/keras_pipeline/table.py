"""Tables of numbers as CSV files: a line of column names, then a line for each row."""

import csv
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write(columns: Sequence[str], rows: "NDArray[np.floating[Any]]") -> bytes:
    """`rows` (n, columns) as CSV; each number is written so that `read` gives it back exactly."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([repr(value) for value in row] for row in rows.tolist())
    return text.getvalue().encode()


def read(content: bytes, name: str, columns: Sequence[str]) -> "NDArray[np.float64]":
    """The rows (n, columns), at least one, of the CSV file `content`; `name` begins the messages.

    Raises DataError unless the columns are these and every value is a finite number.
    """
    lines = list(csv.reader(io.StringIO(content.decode(errors="replace"))))
    if not lines or lines[0] != list(columns):
        raise _wrong(name, f"the columns {', '.join(lines[0]) if lines else '(none)'}", ", ".join(columns))
    if len(lines) == 1:
        raise _wrong(name, "no rows", "one at least")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(columns):
            raise _wrong(name, f"{len(line)} values in line {number}", f"{len(columns)}")
        if bad := [value for value in line if not _is_finite(value)]:
            raise _wrong(name, f"{bad[0]!r} in line {number}", "a finite number")
    return np.array(lines[1:], np.float64)


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _wrong(name: str, received: str, expected: str) -> DataError:
    return DataError(f"{name}: got {received}. Expected: {expected}. Run `dvc repro fetch` to have it written again.")
