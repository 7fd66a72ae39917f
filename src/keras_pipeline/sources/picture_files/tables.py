"""Tables that say of each picture what it is: a CSV that names files, or Parquet that holds them, as data hubs export
it."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.kind import MOST_EXAMPLES, Line, Split
from keras_pipeline.sources.picture_files.folders import contents_of
from keras_pipeline.sources.pictures import MOST_BYTES
from keras_pipeline.sources.tables import text_tables
from keras_pipeline.sources.tables.divisions import split_of_file
from keras_pipeline.strict_yaml.faults import Block

if TYPE_CHECKING:
    import pyarrow

    from keras_pipeline.sources.source_files import SourceFiles

ROWS = 4
"""Of Parquet so many pictures are unpacked at a time: fewer take long, and more take memory where all are large. What
the file says of their sizes is not asked for, since a damaged file ends the process then."""


class PictureTable(Block):
    """Where the pictures and their labels are written down."""

    files: Line
    """a CSV in `path`, or Parquet; a pattern, such as `data/*.parquet`, for several. train, validation or test in their
    names divides them"""
    image: Line = "image"
    """the column with a picture's file, from the folder of the CSV; of Parquet with the picture itself"""
    label: Line = "label"
    """the column with its class"""
    delimiter: text_tables.OneSign = ","
    """between the columns of a CSV"""

    @property
    def dialect(self) -> text_tables.Dialect:
        """As `text_tables` reads it."""
        return text_tables.Dialect(delimiter=self.delimiter)


@dataclass
class Rows:
    """All rows of the files of a table: columns as texts, None where a value is missing.

    `numbers`: whether the labels are numbers in the files; `class_names`: what these are called there, if that is said;
    `splits`: of each row, if the files' names say it.
    """

    source: "SourceFiles"
    table: PictureTable
    files: list[str]
    counts: list[int] = field(default_factory=list)
    columns: dict[str, list[str | None]] = field(default_factory=dict)
    numbers: bool = False
    class_names: list[str] = field(default_factory=list)
    splits: list[Split] | None = None

    def place(self, index: int) -> str:
        """What a row is called in messages."""
        file, row = self._file_and_row(index)
        return text_tables.row_place(self.source, file, row, self.table.dialect)

    def _file_and_row(self, index: int) -> tuple[str, int]:
        for file, count in zip(self.files, self.counts, strict=False):
            if index < count:
                return file, index
            index -= count
        return self.files[-1], index

    def pictures(self) -> tuple[Callable[[int], Iterator[bytes]], list[str]]:
        """What gives the bytes of each picture from a number on, and what each picture is called in messages.

        Raises DataError, with the row, for a file that is not there, leads out of the source, or is listed twice.
        """
        if is_parquet(self.files[0]):
            numbered = [
                (file, row + 1) for file, count in zip(self.files, self.counts, strict=True) for row in range(count)
            ]
            places = [f"{text_tables.place_of(self.source, file)}: row {row}" for file, row in numbered]
            return pictures_of_parquet(self.source, self.files, self.counts, self.table.image), places
        names = self._listed_files()
        return contents_of(self.source, names), [f"{self.source.name}/{name}" for name in names]

    def _listed_files(self) -> list[str]:
        known = {unicodedata.normalize("NFC", name): name for name in self.source.names()}
        found: list[str] = []
        first: dict[str, int] = {}
        of_row = [file for file, count in zip(self.files, self.counts, strict=True) for _ in range(count)]
        for row, (file, listed) in enumerate(zip(of_row, self.columns[self.table.image], strict=True)):
            path = PurePosixPath(listed or "")
            if (
                not listed
                or path.is_absolute()
                or ".." in path.parts
                or "\\" in listed
                or re.match("[A-Za-z]:", listed)
            ):
                got = f"got {listed!a:.200} for a file" if listed else "no file is named"
                raise self._refusal(row, f"{got}. Expected: its path from the folder of the CSV, with / in it")
            name = known.get(unicodedata.normalize("NFC", str(PurePosixPath(file).parent / path)))
            if name is None:
                raise self._refusal(
                    row, f"the file {listed!a:.200} is not there. Expected: all that are listed. Add it"
                )
            if first.setdefault(name, row) != row:
                raise self._refusal(
                    row,
                    f"the file {listed!a:.200} is listed twice, first in {self.place(first[name])}. Expected: once",
                )
            found.append(name)
        return found

    def _refusal(self, row: int, what: str) -> DataError:
        return DataError(f"{self.place(row)}: {what}. Correct or remove the row.")


def files_of_table(source: "SourceFiles", table: PictureTable) -> list[str]:
    """The files that `table.files` means, sorted. Raises DataError where there is none, or of two formats."""
    names = source.names()
    found = [table.files] if table.files in names else [name for name in names if fnmatchcase(name, table.files)]
    wrong = [name for name in found if not text_tables.is_table(name) or is_parquet(name) != is_parquet(found[0])]
    if not found or wrong:
        what = f"{wrong[0]!a} is none of them" if wrong else f"no file is called {table.files!a}"
        raise DataError(f"{source.name}: {what}. Expected: CSV, or Parquet. Correct `table.files` of the dataset file.")
    return found


def read_rows(source: "SourceFiles", files: Sequence[str], table: PictureTable, columns: Sequence[str]) -> Rows:
    """These columns of all rows, and what says which picture it is of which class. Raises DataError, with file and
    column, where one is not there or not readable, and where only some files' names say a split."""
    import pyarrow

    parquet = is_parquet(files[0])
    wanted = list(dict.fromkeys([*columns, table.label, *([] if parquet else [table.image])]))
    rows = Rows(source, table, list(files), columns={column: [] for column in wanted})
    for number, file in enumerate(files):
        before = len(rows.columns[table.label])
        names = class_names(source, file, table.label) if parquet else []
        kinds: set[bool] = set()
        for block in text_tables.read_columns(source, file, wanted, table.dialect):
            kinds.add(pyarrow.types.is_integer(block[wanted.index(table.label)].type))
            for column, values in zip(wanted, block, strict=True):
                rows.columns[column] += _texts(values, f"{text_tables.place_of(source, file)}: the column {column!a}")
            if len(rows.columns[table.label]) > MOST_EXAMPLES:
                raise DataError(f"{source.name}: more than {MOST_EXAMPLES:,} rows. Expected: fewer.")
        if number and ((kinds and kinds != {rows.numbers}) or names != rows.class_names):
            raise DataError(
                f"{text_tables.place_of(source, file)}: the column {table.label!a} is not as in {files[0]!a}. "
                "Expected: the same numbers or names in all files. Let `table.files` name those of one dataset."
            )
        rows.numbers, rows.class_names = True in kinds if not number else rows.numbers, names
        rows.counts.append(len(rows.columns[table.label]) - before)
    splits = splits_of_files(source, files)
    if splits:
        rows.splits = [split for split, count in zip(splits, rows.counts, strict=True) for _ in range(count)]
    return rows


def is_parquet(file: str) -> bool:
    """Whether a file is called as Parquet is."""
    return bool(text_tables.PARQUET_FILE.search(file))


def _texts(values: "pyarrow.Array[Any]", place: str) -> list[str | None]:
    import pyarrow

    try:
        texts: list[str | None] = values.cast(pyarrow.string()).to_pylist()
    except pyarrow.ArrowException:
        raise DataError(f"{place} holds {str(values.type)[:60]}. Expected: texts or numbers.") from None
    return texts


def class_names(source: "SourceFiles", file: str, column: str) -> list[str]:
    """What the numbers of a column are called, where Parquet says it as Hugging Face's libraries do; else none."""
    with text_tables.opened_parquet(source, file) as opened:
        metadata = (opened.schema_arrow.metadata or {}).get(b"huggingface", b"")
    try:
        names = json.loads(metadata)["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def splits_of_files(source: "SourceFiles", files: Sequence[str]) -> list[Split]:
    """The split that each file's name means, none at all where none does. Raises DataError where only some do."""
    found = [split_of_file(file) for file in files]
    splits = [split for split in found if split]
    if splits and len(splits) < len(files):
        without = files[found.index(None)]
        raise DataError(
            f"{source.name}: {without!a} says no split in its name, and other files do. Expected: train, validation or "
            "test in each, as in train-0.parquet, or in none. Rename it, or let `table.files` leave it out."
        )
    return splits


def image_columns(source: "SourceFiles", file: str) -> list[str]:
    """The columns of Parquet that may hold pictures: bytes, or a struct of `bytes` and `path`."""
    with text_tables.opened_parquet(source, file) as opened:
        return [column.name for column in opened.schema_arrow if _holds_bytes(column.type)]


def _holds_bytes(kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return any(one.name == "bytes" and _holds_bytes(one.type) for one in kind.fields)
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def pictures_of_parquet(
    source: "SourceFiles", files: Sequence[str], counts: Sequence[int], column: str
) -> Callable[[int], Iterator[bytes]]:
    """What gives the bytes of each picture from a number on, over all files. Raises DataError where there is no such
    column of pictures; a row without a picture gives no bytes."""
    for file in files:
        if column not in (there := image_columns(source, file)):
            have = f"Pictures are in {', '.join(map(ascii, there))}" if there else "No column holds any"
            raise DataError(
                f"{text_tables.place_of(source, file)}: no column {column!a} of pictures. Expected: one of bytes, or "
                f"of a struct of bytes and path. {have}. Correct `table.image` of the dataset file."
            )

    def contents(start: int) -> Iterator[bytes]:
        for file, count in zip(files, counts, strict=True):
            if start < count:
                yield from _pictures(source, file, column, start)
            start = max(0, start - count)

    return contents


def _pictures(source: "SourceFiles", file: str, column: str, start: int) -> Iterator[bytes]:
    import pyarrow
    from pyarrow import compute

    with text_tables.opened_parquet(source, file) as opened:
        for group in range(opened.num_row_groups):
            rows = opened.metadata.row_group(group).num_rows
            if start >= rows:
                start -= rows
                continue
            found = 0
            for batch in opened.iter_batches(ROWS, [group], [column]):
                values = batch.column(0)
                if pyarrow.types.is_struct(values.type):
                    values = compute.struct_field(values, "bytes")
                for value in values[min(start, len(values)) :]:
                    buffer = value.as_buffer()
                    yield b"" if buffer is None else buffer.slice(0, min(buffer.size, MOST_BYTES + 1)).to_pybytes()
                start = max(0, start - len(values))
                found += len(values)
            if found != rows:
                raise pyarrow.ArrowInvalid(f"{found} pictures, and {rows} rows")
