"""A picture a row: tables of CSV or Parquet whose columns are a label and the value of each pixel, 0 to 255."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.kind import MOST_EXAMPLES, Examples, Line, Recognized, Split
from keras_pipeline.sources.kinds.stored import Files, Order, Places, StoredImages, arranged, splits_of
from keras_pipeline.sources.source_files import SourceFiles
from keras_pipeline.sources.tables.recognized_pixels import is_pixel, recognize_pixels
from keras_pipeline.sources.tables.text_tables import (
    MOST_COLUMNS,
    Delimiter,
    Dialect,
    column_names,
    is_table,
    place_of,
    read_columns,
    row_place,
)
from keras_pipeline.strict_yaml.faults import KeyedError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

ORDER = "order of pixels"
"""Among the facts of a dataset in colour: the `order`, by which whoever asks the network later gives pixels."""


class Pixels(StoredImages):
    """A dataset file of the kind `pixels`."""

    kind: Literal["pixels"]
    train: Files | None = None
    """files, CSV (.csv, also .gz, .bz2, .xz, .zst) or .parquet; not needed where there is one file only"""
    validation: Files | None = None
    test: Files | None = None
    label: Line = "first"
    """where the label is: in the `first` column, the `last`, or the one of this name"""
    header: bool = True
    """whether the first row of a CSV file names the columns"""
    delimiter: Delimiter = ","
    order: Order = "interleaved"
    """of three channels: red, green and blue of a pixel side by side, or all red, then all green, then all blue"""

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        height, width = self.size
        if height * width * self.channels >= MOST_COLUMNS:
            count = height * width * self.channels
            raise KeyedError(("size",), f"{count} columns of pixels. Expected: fewer than {MOST_COLUMNS}.")
        named = [self.splits.column, self.splits.group, self.splits.time]
        if not self.header and (any(named) or self.label not in ("first", "last")):
            raise KeyedError(("header",), "a column is named, but there are no names. Use true, or `label: first`.")
        if self.splits.column and (self.validation or self.test):
            raise KeyedError(("splits", "column"), "the files say already what is test or validation. Use one of both.")
        return self

    def _columns(self) -> bool:
        return True

    def read(self, source: SourceFiles) -> Examples:
        """See `Kind.read`."""
        import numpy as np

        from keras_pipeline.sources.tables.divisions import splits_of_column, times_of_column

        tables = self._tables(source)
        texts: dict[str, list[str | None]] = {"column": [], "group": [], "time": []}
        labels = []
        for table in tables:
            labels.append(table.classes(self, texts))
            if sum(one.count for one in tables) > MOST_EXAMPLES:
                raise DataError(f"{table.name}: got more than {MOST_EXAMPLES} rows. Expected: that many at most.")
        places = Places(tables)
        splits = splits_of(tables)
        if self.splits.column:
            splits = splits_of_column(texts["column"], places.__getitem__)
        return Examples(
            inputs=RowsOfPixels(self, tables),
            labels=np.concatenate(labels),
            places=places,
            splits=splits,
            groups=_groups(texts["group"], places) if self.splits.group else None,
            times=times_of_column(texts["time"], places.__getitem__) if self.splits.time else None,
            facts={ORDER: self.order} if self.channels == 3 else {},
        )

    def _tables(self, source: SourceFiles) -> list["Table"]:
        train = self.train
        if train is None:
            found = [name for name in source.names() if is_table(name)]
            if len(found) != 1:
                raise DataError(
                    f"{source.name}: got {len(found)} files of CSV or Parquet. Expected: one, or `train` in the "
                    "dataset file, which names those of the training split."
                )
            train = tuple(found)
        files: list[tuple[Split, Files]] = [("train", train)]
        files += [("validation", self.validation)] if self.validation else []
        files += [("test", self.test)] if self.test else []
        return [self._table(source, name, split) for split, names in files for name in names]

    def _table(self, source: SourceFiles, name: str, split: Split) -> "Table":
        height, width = self.size
        count = height * width * self.channels
        named = [one for one in (self.splits.column, self.splits.group, self.splits.time) if one]
        columns = 1 + len(named) + count
        dialect = Dialect(self.delimiter, names=() if self.header else tuple(map(str, range(columns))))
        names = column_names(source, name, dialect)
        place = place_of(source, name)
        if self.header and all(one.isascii() and one.isdecimal() for one in names):
            raise DataError(
                f"{place}: got no names of columns. Expected: a header, or `header: false` in the dataset file."
            )
        label = {"first": names[0], "last": names[-1]}.get(self.label, self.label)
        pixels = [one for one in names if one != label and one not in named]
        if len(pixels) != count or len(names) != columns:
            hint = " The first has no name: did pandas write its index? Save with index=False." if not names[0] else ""
            if len(names) == count:
                hint = " Has it no labels? Then it is for `keras-pipeline predict`."
            raise DataError(
                f"{place}: got {len(names)} columns. Expected: {columns}, {height} x {width} x {self.channels} pixels, "
                f"a label and {len(named)} of `splits`.{hint}"
            )
        return Table(source, name, split, dialect, label, tuple(pixels))

    @classmethod
    def recognize(cls, source: SourceFiles) -> Recognized | None:
        """Tables of a label and so many columns of whole numbers as a square grey or colour image has pixels."""
        return recognize_pixels(source)


@dataclass
class Table:
    """A file of a split. `count` is known once its labels are read."""

    source: SourceFiles
    file: str
    split: Split
    dialect: Dialect
    label: str
    pixels: tuple[str, ...]
    count: int = 0

    @property
    def name(self) -> str:
        """In messages."""
        return place_of(self.source, self.file)

    def place(self, index: int) -> str:
        """What a row is called in messages."""
        return f"{self.name}: row {index + 1}"

    def place_of_fault(self, start: int, index: int) -> str:
        """That of a row behind row `start`, with its line, which is looked for in the file."""
        return row_place(self.source, self.file, start + index, self.dialect)

    def classes(self, kind: Pixels, texts: dict[str, list[str | None]]) -> "NDArray[np.int64]":
        """Of all rows; what the columns of `splits` say is added to `texts`."""
        import numpy as np

        from keras_pipeline.sources.kinds.labels import ClassOf

        class_of, found = ClassOf(kind), []
        wanted = [key for key in texts if getattr(kind.splits, key)]
        columns = [self.label, *(getattr(kind.splits, key) for key in wanted)]
        for labels, *others in read_columns(self.source, self.file, columns, self.dialect):
            start = self.count
            found.append(_classes(labels, class_of, partial(self.place_of_fault, start)))
            for key, column in zip(wanted, others, strict=True):
                texts[key] += [None if value is None else str(value) for value in column.to_pylist()]
            self.count += len(labels)
        if not found:
            raise DataError(f"{self.name}: got no rows. Expected: one at least.")
        return np.concatenate(found)

    def rows(self) -> "Iterator[NDArray[np.uint8]]":
        """Arrays (k, pixels) of all rows. Raises DataError, with row and column, for what is no pixel."""
        done = 0
        for columns in read_columns(self.source, self.file, self.pixels, self.dialect):
            yield self._numbers(columns, done)
            done += len(columns[0])

    def blocks(self) -> "Iterator[NDArray[np.uint8]]":
        """As `rows`; raises DataError, too, where they are not as many as the labels."""
        done = 0
        for block in self.rows():
            yield block
            done += len(block)
        if done != self.count:
            raise DataError(f"{self.name}: got {done} rows of pixels. Expected: {self.count}, as many as labels.")

    def _numbers(self, columns: "list[pyarrow.Array[Any]]", start: int) -> "NDArray[np.uint8]":
        import numpy as np
        import pyarrow

        try:
            if all(pyarrow.types.is_string(column.type) for column in columns):
                columns = [_digits(pyarrow.concat_arrays(columns))]
            numbers = [column.cast(pyarrow.uint8()) for column in columns]
            if any(column.null_count for column in numbers):
                raise pyarrow.ArrowInvalid("nothing")
        except pyarrow.ArrowException:
            raise self._fault(columns, start) from None
        return np.concatenate(numbers).reshape(len(self.pixels), -1).T

    def _fault(self, columns: "list[pyarrow.Array[Any]]", start: int) -> DataError:
        values = list(chain.from_iterable(column.to_pylist() for column in columns))
        rows = len(values) // len(self.pixels)
        for row in range(rows):
            for index, value in enumerate(values[row::rows]):
                if not is_pixel(value):
                    column = f"column {self.pixels[index]!a}" if not self.dialect.names else f"pixel {index + 1}"
                    return DataError(
                        f"{self.place_of_fault(start, row)}, {column}: got {_shown(value)}. Expected: a whole number, "
                        f"0 to 255. Correct the data."
                    )
        return DataError(f"{self.name}: got columns of {columns[0].type}. Expected: whole numbers, 0 to 255.")


@dataclass
class RowsOfPixels:
    """`Images` of the rows of tables: see kind.py."""

    kind: Pixels
    tables: Sequence[Table]
    dtype: str = "|u1"
    low: float = 0
    high: float = 255

    def blocks(self, done: int = 0) -> "Iterator[tuple[NDArray[Any], list[str | None]]]":
        """See `kind.Images`."""
        for table in self.tables:
            if done >= table.count:
                done -= table.count
                continue
            for block in table.blocks():
                rows = block[done:]
                done = max(0, done - len(block))
                if len(rows):
                    yield arranged(rows, self.kind.input_shape, self.kind.order), [None] * len(rows)


def _digits(texts: "pyarrow.Array[Any]") -> "pyarrow.Array[Any]":
    """The same. Raises ArrowInvalid where one has another sign than digits: 0x1F is a number to Arrow."""
    import numpy as np
    import pyarrow

    content = texts.buffers()[2]
    signs = np.frombuffer(content if content is not None else b"", np.uint8)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1]
    if ((signs[offsets[0] : offsets[-1]] - ord("0")) > 9).any():
        raise pyarrow.ArrowInvalid("no digits")
    return texts


def _groups(values: list[str | None], places: Sequence[str]) -> list[str]:
    for index, value in enumerate(values):
        if not value:
            raise DataError(f"{places[index]}: got no group. Expected: what `splits.group` names, in each row.")
    return [value or "" for value in values]


def _shown(value: Any) -> str:
    return "nothing" if value is None or value == "" else ascii(value)[:60]


def _classes(labels: "pyarrow.Array[Any]", class_of: Any, place: Callable[[int], str]) -> "NDArray[np.int64]":
    from pyarrow import types

    if types.is_integer(labels.type) or types.is_floating(labels.type) or types.is_boolean(labels.type):
        found: NDArray[np.int64] = class_of.numbers_to_classes(labels.to_numpy(zero_copy_only=False), place)
        return found
    values = labels.to_pylist()
    return class_of.texts_to_classes([value if value is None else str(value) for value in values], place)  # type: ignore[no-any-return]
