"""history.csv: a training's epochs, a row each."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError


def write_history(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write the rows, at least one, without their times, atomically: the same training gives the same bytes."""
    text = io.StringIO()
    columns = [name for name in rows[0] if name != "time"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_atomically(path, text.getvalue().encode())


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows, at least one; `epoch` is an int. Raises DataError where the file is missing or none of ours."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        history: list[dict[str, float]] = [
            {name: (int if name == "epoch" else float)(value) for name, value in row.items()} for row in rows
        ]
        if not history:
            raise ValueError("it holds no epoch")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read as a training history ({error}). "
            "The stage 'train' writes it: run `dvc repro train`."
        ) from None
    return history
