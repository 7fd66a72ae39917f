"""The kind `table`: rows of numbers and categories, in CSV or Parquet, and a column to predict: a class or a number."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, overload

from pydantic import Field, model_validator

from keras_pipeline.core.errors import DataError
from keras_pipeline.data.missing import Missing
from keras_pipeline.sources.kinds.kind import Columns, Examples, Kind, Line, Recognized, Split
from keras_pipeline.sources.kinds.labels import ClassOf
from keras_pipeline.sources.tables.divisions import split_of_file, splits_of_column, times_of_column
from keras_pipeline.sources.tables.text_tables import (
    MOST_COLUMNS,
    Dialect,
    OneSign,
    is_table,
    place_of,
    read_columns,
    row_place,
    to_numbers,
    to_texts,
)
from keras_pipeline.strict_yaml.faults import KeyedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from keras_pipeline.sources.source_files import SourceFiles

Encoding = Literal[
    "utf-8", "utf-16", "latin-1", "cp1250", "cp1251", "cp1252", "cp437", "shift_jis", "euc_jp", "euc_kr", "gb18030",
    "big5",
]  # fmt: skip
_PERHAPS_WORDS = re.compile(r"\.(txt|data)(\.\w+)?$", re.IGNORECASE)
"""Of a file beside others that are tables for sure."""
_OTHER_KINDS = re.compile(r"\.(png|jpe?g|bmp|webp|tiff?|gif|npz|npy)$", re.IGNORECASE)
"""Of what a table beside it tells something."""
MOST_CELLS = 1 << 27
"""Of all columns that are used: they are in memory at a time."""


class Table(Kind):
    """A CSV file (.csv, .tsv, .txt, .data; plain, .gz, .bz2, .xz or .zst) or a Parquet file, or one for each split in a
    folder or an archive, which are then called train, validation and test."""

    kind: Literal["table"]
    columns: Annotated[dict[Line, Literal["number", "category"]], Field(min_length=1, max_length=MOST_COLUMNS)]
    """what each column is, of those that the network is to learn from; others are left out"""
    target: Line
    """the column that is predicted: a class, or a number where `classes` is empty"""
    missing: Missing = "median"
    """what stands for a missing number: median or mean of the training rows, or zero; a missing category is a value of
    its own. refuse: neither is accepted"""
    missing_values: Annotated[tuple[Line, ...], Field(max_length=100)] = ()
    """what means a missing value, such as NA, beside an empty cell"""
    delimiter: OneSign = ","
    """of CSV: what is between two values"""
    quote: Literal['"', "'"] = '"'
    """of CSV: what is around a value that has the delimiter in it"""
    encoding: Encoding = "utf-8"
    """of CSV: that of its text"""
    decimal: Literal["point", "comma"] = "point"
    """of CSV: what is before the fraction of a number"""
    names: Annotated[tuple[Line, ...], Field(max_length=MOST_COLUMNS)] = ()
    """of CSV without a header: the names of all its columns"""

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        """Raise KeyedError where what is said of the columns does not go together."""
        if self.target in self.columns:
            raise KeyedError(("columns", self.target), "is what is predicted (target). Take it out of `columns`.")
        used: list[tuple[tuple[str, ...], str]] = [(("columns", name), name) for name in self.columns]
        used += [(("target",), self.target)]
        used += [(("splits", key), name) for key in ("column", "group", "time") if (name := getattr(self.splits, key))]
        for key, name in used if self.names else ():
            if name not in self.names:
                raise KeyedError(key, f"'{name}' is not one of `names`.")
        if len(set(self.names)) < len(self.names):
            twice = next(index for index, name in enumerate(self.names) if name in self.names[:index])
            raise KeyedError(("names", twice), f"'{self.names[twice]}' is there already. Give each name once.")
        return self

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(columns,): a category gives more features than one."""
        return (len(self.columns),)

    @property
    def dialect(self) -> Dialect:
        """How the files are written."""
        return Dialect(self.delimiter, self.quote, self.encoding, self.names)

    @classmethod
    def recognize(cls, source: "SourceFiles") -> Recognized | None:
        """A table by the names of its files; what its columns are, by all of its rows."""
        names = source.names()
        tables = [name for name in names if is_table(name)]
        if not tables or any(_OTHER_KINDS.search(name) for name in names):
            return None
        from keras_pipeline.sources.tables.recognized_table import recognize_table

        return recognize_table(source, list(table_files(source)))

    def read(self, source: "SourceFiles") -> Examples:
        """All rows, of the training file first. Raises DataError, with file, row and column."""
        import numpy as np

        rows = _Rows(self, source)
        labels: NDArray[Any]
        if self.classes:
            labels = _labels(self, rows)
        else:
            labels = rows.numbers(self.target)
            for row in np.flatnonzero(np.isnan(labels))[:1].tolist():
                raise DataError(
                    f"{rows.place_in(self.target)(row)}: nothing is there ({int(np.isnan(labels).sum()):,} rows). "
                    "Expected: the number to predict. Take the row out."
                )
        values = {
            name: rows.numbers(name) if kind == "number" else rows.texts(name) for name, kind in self.columns.items()
        }
        if self.missing == "refuse":
            _refuse_missing(values, rows)
        splits, given = self.splits, rows.splits
        if splits.column:
            given = splits_of_column(rows.texts(splits.column), rows.place_in(splits.column))
        groups = rows.texts(splits.group) if splits.group else None
        for row in [groups.index(None)] if groups and None in groups else []:
            raise DataError(f"{rows.place_in(str(splits.group))(row)}: nothing is there. Expected: the row's group.")
        times = times_of_column(rows.texts(splits.time), rows.place_in(splits.time)) if splits.time else None
        return Examples(
            inputs=Columns(values, self.missing, self.missing_values, self.target),
            labels=labels,
            places=rows,
            splits=given,
            groups=[group or "" for group in groups] if groups else None,
            times=times,
        )


def _labels(table: Table, rows: "_Rows") -> "NDArray[np.int64]":
    """The class of each row: by its text, or where Parquet has whole numbers by these."""
    import numpy as np

    texts, place = rows.texts(table.target), rows.place_in(table.target)
    if not rows.whole_targets or None in texts:
        return ClassOf(table).texts_to_classes(texts, place)
    return ClassOf(table).numbers_to_classes(np.array([int(text or 0) for text in texts]), place)


def _refuse_missing(values: "dict[str, NDArray[np.float64] | list[str | None]]", rows: "_Rows") -> None:
    import numpy as np

    for name, column in values.items():
        lacking = np.flatnonzero(np.isnan(column)) if isinstance(column, np.ndarray) else None
        first = lacking[0] if lacking is not None and lacking.size else None
        if isinstance(column, list) and None in column:
            first = column.index(None)
        if first is not None:
            raise DataError(
                f"{rows.place_in(name)(int(first))}: nothing is there. Expected: a value, for the dataset file says "
                "`missing: refuse`."
            )


def table_files(source: "SourceFiles") -> dict[str, Split | None]:
    """The files with rows, and the split of each: None where one file has all. Raises DataError where that is not
    clear."""
    names = source.names()
    found = names if len(names) == 1 else [name for name in names if is_table(name)]
    found = [name for name in found if not _PERHAPS_WORDS.search(name)] or found
    if len(found) == 1:
        return {found[0]: None}
    splits = {name: split_of_file(name) for name in found}
    unclear = [name for name, split in splits.items() if split is None]
    if unclear or "train" not in splits.values():
        shown = ", ".join(found[:5]) + (f", … ({len(found)} in all)" if len(found) > 5 else "")
        raise DataError(
            f"{source.name}: got the tables {shown or '(none)'}. Expected: one, or files that are called train, "
            "validation and test. Name one of them as `path`."
        )
    order = ("train", "validation", "test")
    return dict(sorted(splits.items(), key=lambda pair: (order.index(pair[1] or "train"), pair[0])))


class _Rows(Sequence[str]):
    """The columns that are used, of all files one after the other; as a sequence, what each row is called.

    `files`: each, and how many rows come before its own; `splits`: of each row, where the files say so;
    `whole_targets`: whether the target is of a type of whole numbers.
    """

    def __init__(self, table: Table, source: "SourceFiles") -> None:
        import pyarrow

        self.table, self.source = table, source
        splits = table.splits
        as_texts = [table.target] if table.classes else []
        as_texts += [name for name, kind in table.columns.items() if kind == "category"]
        as_texts += [name for name in (splits.column, splits.group, splits.time) if name]
        as_numbers = [] if table.classes else [table.target]
        as_numbers += [name for name, kind in table.columns.items() if kind == "number"]
        self._texts: dict[str, list[str | None]] = {name: [] for name in as_texts}
        self._numbers: dict[str, list[NDArray[np.float64]]] = {name: [] for name in as_numbers}
        names = [*self._texts, *self._numbers]
        self.files: list[tuple[str, int]] = []
        given = table_files(source)
        self.splits: list[Split] | None = None if None in given.values() else []
        self.total, self.whole_targets = 0, False
        for file, split in given.items():
            self.files.append((file, self.total))
            for block in read_columns(source, file, names, table.dialect):
                arrays = dict(zip(names, block, strict=True))
                missing = table.missing_values
                self.whole_targets = pyarrow.types.is_integer(arrays[table.target].type)
                for name, texts in self._texts.items():
                    texts += to_texts(arrays[name], missing, self.place_in(name, self.total))
                for name, numbers in self._numbers.items():
                    numbers.append(to_numbers(arrays[name], missing, self.place_in(name, self.total), table.decimal))
                self.total += len(block[0])
                if self.total * len(names) > MOST_CELLS:
                    raise DataError(
                        f"{place_of(source, file)}: more than {MOST_CELLS // len(names):,} rows of {len(names)} "
                        f"columns. Expected: {MOST_CELLS:,} values at most. Take fewer rows, or fewer columns."
                    )
            if self.splits is not None and split:
                self.splits += [split] * (self.total - len(self.splits))
            if self.total == self.files[-1][1]:
                raise DataError(f"{place_of(source, file)}: it has no rows. Expected: one at least.")

    def texts(self, name: str) -> list[str | None]:
        """A column of texts, None where one is missing."""
        return self._texts[name]

    def numbers(self, name: str) -> "NDArray[np.float64]":
        """A column of numbers, NaN where one is missing."""
        import numpy as np

        if len(self._numbers[name]) > 1:
            self._numbers[name] = [np.concatenate(self._numbers[name])]
        return self._numbers[name][0]

    def place_in(self, name: str, first: int = 0) -> Callable[[int], str]:
        """What messages call a value of this column, by its index from the row `first` on: file, row, line, column."""

        def place(index: int) -> str:
            file, before = self._file(first + index)
            return f"{row_place(self.source, file, first + index - before, self.table.dialect)}: {name!a}"

        return place

    def _file(self, row: int) -> tuple[str, int]:
        return max((one for one in self.files if one[1] <= row), key=lambda one: one[1])

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(self.total))]
        row = range(self.total)[index]
        file, before = self._file(row)
        return f"{file}: row {row - before + 1}" if len(self.files) > 1 else f"row {row + 1}"
