"""What a dataset's own columns, folders and file names say of how it is divided: the words for splits, and times."""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keras_pipeline.core.csv_files import NUMBER
from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.kind import Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORDS: dict[str, Split] = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""For the three splits, in small letters."""


def split_named(word: str | None) -> Split | None:
    """The split that a folder or a value of a column means."""
    return WORDS.get((word or "").strip().casefold())


def split_of_file(name: str) -> Split | None:
    """The split that a file's name or its folders mean, as in `data/train-00000-of-00002.parquet`, `test/0000.parquet`.

    None where none is meant, or not one alone.
    """
    words = re.split(r"[/._-]", name.casefold())
    found = {WORDS[word] for word in words if word in WORDS}
    return found.pop() if len(found) == 1 else None


def splits_of_column(values: Sequence[str | None], place: Callable[[int], str]) -> list[Split]:
    """The split of each row. Raises DataError, beginning with `place` of its index, for a value that means none."""
    found: list[Split] = []
    for index, value in enumerate(values):
        split = split_named(value)
        if split is None:
            raise DataError(f"{place(index)}: got {_shown(value)} for a split. Expected: train, validation or test.")
        found.append(split)
    return found


def times_of_column(values: Sequence[str | None], place: Callable[[int], str]) -> "NDArray[np.float64]":
    """float64 (n,): numbers as they are, or dates and times (ISO 8601, such as 2026-03-01 or 2026-03-01T12:30:00Z) as
    seconds since 1970; UTC where no zone is written.

    Raises DataError, beginning with `place` of its index, for a value that is neither, or not as those before it.
    """
    import numpy as np

    found = np.empty(len(values))
    kinds: dict[str, int] = {}
    for index, value in enumerate(values):
        text = (value or "").strip()
        number = float(text) if NUMBER.fullmatch(text) else math.nan
        kind = "a number"
        if not math.isfinite(number):
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                raise DataError(
                    f"{place(index)}: got {_shown(value)} for a time. Expected: a number, or a date as 2026-03-01 or "
                    "2026-03-01T12:30:00."
                ) from None
            kind = "a time with a zone" if moment.tzinfo else "a time without a zone"
            number = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if kinds.setdefault(kind, index) == index and len(kinds) > 1:
            other, first = next(iter(kinds.items()))
            raise DataError(
                f"{place(index)}: got {_shown(value)}, {kind}; {place(first)} has {other}. Expected: one form for all."
            )
        found[index] = number
    return found


def _shown(value: str | None) -> str:
    return "nothing" if value in (None, "") else ascii(value)[:60]
