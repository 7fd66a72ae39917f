"""history.csv: a training's epochs, a row each."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from keras_pipeline.core import files
from keras_pipeline.core.csv_files import parse_csv, parse_numbers
from keras_pipeline.core.errors import DataError


def write_history(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write the rows, at least one, without their times, atomically: the same training gives the same bytes."""
    text = io.StringIO()
    columns = [name for name in rows[0] if name != "time"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_atomically(path, text.getvalue().encode())


def read_history(path: Path, written_by: str = "train") -> list[dict[str, float]]:
    """The rows, at least one, their epochs counted from 1 as whole numbers.

    Raises DataError, with the line, where the file is missing or none of ours.
    """
    content = files.read_content(path, written_by)
    try:
        lines = parse_csv(content)
        columns = lines[0] if lines else []
        if len(columns) < 2 or columns[0] != "epoch" or len(set(columns)) < len(columns):
            raise ValueError(f"line 1: got {', '.join(columns)[:80]!a}. Expected: epoch and what was measured in it")
        rows = [_row(columns, cells, number) for number, cells in enumerate(lines[1:], 1)]
        if not rows:
            raise ValueError("got no epoch. Expected: a line for each")
    except ValueError as error:
        raise DataError(f"{path}: {error}. {files.remedy(written_by, 'delete it and ')}") from None
    return rows


def history_columns(rows: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """The rows as columns, by name."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def _row(columns: Sequence[str], cells: Sequence[str], epoch: int) -> dict[str, float]:
    numbers = parse_numbers(cells, columns, epoch + 1)
    if cells[0] != str(epoch):
        raise ValueError(f"line {epoch + 1}: epoch: got {cells[0][:40]!r}. Expected: {epoch}")
    return {**dict(zip(columns, numbers, strict=True)), "epoch": epoch}
