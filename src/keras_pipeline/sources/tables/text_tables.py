"""The tables in files: CSV, plain or compressed, every column as text, and Parquet; a block of rows at a time.

Only what is declared is believed: no type is guessed, nothing is a missing value by itself, no row is left out. An
empty line is no row.
"""

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, cast, get_args

from pydantic import StringConstraints

from keras_pipeline.core.csv_files import NUMBER
from keras_pipeline.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

    from keras_pipeline.sources.source_files import SourceFiles

Delimiter = Literal[",", ";", "\t", "|"]
DELIMITERS: Sequence[str] = get_args(Delimiter)
"""That are tried where nobody says which it is, the usual one first."""
OneSign = Annotated[str, StringConstraints(pattern=r"^[\x01-\x09\x0b\x0c\x0e-!#-\x7f]$")]
"""A delimiter: one ASCII character, as Arrow asks for, and no quotation mark."""
MOST_COLUMNS = 20_000
LARGEST_ROW = 1 << 22
"""Bytes of a row of CSV, and of its header."""
ROWS = 1 << 16
"""Of a block of Parquet of 8 columns; of more columns it has fewer."""
CSV_FILE = re.compile(r"\.(csv|tsv|tab|txt|data)(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)
PARQUET_FILE = re.compile(r"\.(parquet|pq)$", re.IGNORECASE)
LONGEST_TEXT = 1000
"""Characters of a category."""
MISSING_WORDS = {"na", "n/a", "#n/a", "nan", "null", "none", "missing", "?", "-", "."}
"""In small letters: what people write for a missing value. None is believed; a message, or `dataset add`, asks."""
SHOWN = 60
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WHOLE = re.compile(r"[+-]?\d+")
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written. `names`: of its columns, where it has no header."""

    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    names: tuple[str, ...] = ()


def is_table(name: str) -> bool:
    """Whether a file is called as tables are."""
    return bool(CSV_FILE.search(name) or PARQUET_FILE.search(name))


def column_names(source: "SourceFiles", name: str, dialect: Dialect, least: int = 2) -> list[str]:
    """Of all columns of the file, in order. Raises DataError where it has fewer than `least`, or too many."""
    place = place_of(source, name)
    if PARQUET_FILE.search(name):
        with opened_parquet(source, name) as file:
            names = list(file.schema_arrow.names)
    else:
        names = list(dialect.names) or [cell.strip() for cell in _header(source, name, dialect)[0]]
    if not least <= len(names) <= MOST_COLUMNS:
        hint = f" Is its delimiter {dialect.delimiter!a}?" if len(names) == 1 and not PARQUET_FILE.search(name) else ""
        raise DataError(f"{place}: got {len(names):,} columns. Expected: {least} to {MOST_COLUMNS:,}.{hint}")
    return names


def read_columns(
    source: "SourceFiles", name: str, columns: Sequence[str], dialect: Dialect
) -> "Iterator[list[pyarrow.Array[Any]]]":
    """These columns, as many as `columns`, a block of rows at a time; of CSV strings, of Parquet what it has.

    Raises DataError, with row and column, where the file is damaged or not in this dialect, or a column is not there
    once.
    """
    known = column_names(source, name, dialect, least=min(2, len(columns)))
    place = place_of(source, name)
    there = Counter(known)
    for column in columns:
        if there[column] != 1:
            shown = ", ".join(ascii(one)[1:-1] for one in known[:20]) + (", …" if len(known) > 20 else "")
            raise DataError(
                f"{place}: the column {column!a} is there {there[column]} times. Expected: once. Its "
                f"columns are {shown}. Correct the dataset file, or the header."
            )
    index_of = {column: index for index, column in enumerate(known)}
    if PARQUET_FILE.search(name):
        yield from _parquet_blocks(source, name, columns)
    else:
        yield from _csv_blocks(source, name, len(known), [index_of[column] for column in columns], dialect)


def place_of(source: "SourceFiles", name: str) -> str:
    """How messages call a file of the source."""
    return source.name if f"/{source.name}".endswith(f"/{name}") else f"{source.name}/{name}"


def row_place(source: "SourceFiles", name: str, row: int, dialect: Dialect) -> str:
    """How messages call a row of the file, which are counted from 0 here; with its line, of CSV."""
    place = f"{place_of(source, name)}: row {row + 1}"
    if PARQUET_FILE.search(name):
        return place
    try:
        for index, (line, _) in enumerate(_records(source, name, dialect)):
            if index == row:
                return f"{place} (line {line})"
    except (DataError, csv.Error):
        pass
    return place


def _csv_blocks(
    source: "SourceFiles", name: str, count: int, indices: Sequence[int], dialect: Dialect
) -> "Iterator[list[pyarrow.Array[Any]]]":
    import pyarrow
    from pyarrow import csv as arrow

    skipped = 0 if dialect.names else _header(source, name, dialect)[1]
    wrong: list[Any] = []

    def remember(row: Any) -> str:
        wrong.append(row)
        return "error"

    names = [str(index) for index in range(count)]
    kept = [str(index) for index in indices]
    with _text(source, name, dialect) as text:
        try:
            blocks = arrow.open_csv(
                text,
                arrow.ReadOptions(
                    use_threads=False, block_size=LARGEST_ROW, column_names=names, skip_rows_after_names=skipped
                ),
                arrow.ParseOptions(
                    delimiter=dialect.delimiter,
                    quote_char=dialect.quote,
                    newlines_in_values=True,
                    invalid_row_handler=remember,
                ),
                arrow.ConvertOptions(
                    column_types=dict.fromkeys(kept, pyarrow.string()),
                    include_columns=list(dict.fromkeys(kept)),
                    strings_can_be_null=False,
                ),
            )
            for block in blocks:
                yield [block.column(key) for key in kept]
        except pyarrow.ArrowInvalid as fault:
            if "Empty CSV" in str(fault):
                return
            raise DataError(_parse_fault(source, name, count, dialect, _first_line(fault))) from None
        except _DAMAGED as fault:
            raise DataError(f"{place_of(source, name)}: damaged ({fault}). Expected: a whole file.") from None


def _parse_fault(source: "SourceFiles", name: str, count: int, dialect: Dialect, fault: str) -> str:
    place = place_of(source, name)
    try:
        for row, (line, cells) in enumerate(_records(source, name, dialect), 1):
            if len(cells) != count:
                start = ascii(dialect.delimiter.join(cells))[1:-1][:SHOWN]
                return f"{place}: row {row} (line {line}): got {len(cells)} values, {start}. Expected: {count}."
    except csv.Error:
        pass
    if "straddling" in fault:
        return (
            f"{place}: a row is longer than {LARGEST_ROW:,} bytes, or a quotation mark is never closed. Expected: rows "
            f"of {count} values. Is `quote` of the dataset file right?"
        )
    return f"{place}: {fault}. Expected: CSV with {count} columns."


def _records(source: "SourceFiles", name: str, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """(line of its end, cells) of each row after the header: slow, to find the place of a fault."""
    with _text(source, name, dialect) as file:
        text = io.TextIOWrapper(cast("BinaryIO", io.BufferedReader(file)), encoding="utf-8", newline="")
        reader = csv.reader(text, delimiter=dialect.delimiter, quotechar=dialect.quote)
        first = not dialect.names
        for cells in reader:
            if cells and not first:
                yield reader.line_num, cells
            first = first and not cells


def _header(source: "SourceFiles", name: str, dialect: Dialect) -> tuple[list[str], int]:
    """Its cells, and how many rows it is, with the empty lines before it."""
    place = place_of(source, name)
    with _text(source, name, dialect) as file:
        try:
            start = file.read(LARGEST_ROW)
        except _DAMAGED as fault:
            raise DataError(f"{place}: damaged ({fault}). Expected: a whole file.") from None
    if not start.strip():
        raise DataError(f"{place}: it is empty. Expected: a table, CSV or Parquet.")
    text = start.decode(errors="ignore")  # of a character that the block divides
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter, quotechar=dialect.quote)
    try:
        for index, cells in enumerate(reader):
            if cells:
                return cells, index + 1
    except csv.Error as fault:
        raise DataError(f"{place}: line 1: {fault}. Expected: the names of the columns.") from None
    return [], 0


def read_start(source: "SourceFiles", name: str) -> bytes:
    """The first bytes of a CSV file, unpacked. Raises DataError where it cannot be."""
    with source.open(name) as packed, _unpacked(packed, name) as file:
        try:
            return bytes(file.read(1 << 16))
        except _DAMAGED as fault:
            raise DataError(f"{place_of(source, name)}: damaged ({fault}). Expected: a whole file.") from None


def is_text(source: "SourceFiles", name: str, encoding: str) -> bool:
    """Whether all of a CSV file is text in this encoding, and has no byte 0."""
    try:
        with _text(source, name, Dialect(encoding=encoding)) as file:
            while file.read():
                pass
    except DataError:
        return False
    return True


class _Utf8(io.RawIOBase):
    """The text of a file, in whatever encoding, as UTF-8 without a byte order mark. Raises DataError where it is not in
    that encoding, or has a byte 0."""

    def __init__(self, packed: BinaryIO, name: str, encoding: str, place: str) -> None:
        self.packed, self.file, self.encoding, self.place = packed, _unpacked(packed, name), encoding, place
        self.decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)()
        self.lines, self.bytes, self.left = 1, 0, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        while not self.left:
            content = self.file.read(1 << 20)
            try:
                text = self.decoder.decode(content, final=not content)
            except UnicodeError as fault:
                start = fault.start if isinstance(fault, UnicodeDecodeError) else 0
                wrong = fault.object if isinstance(fault, UnicodeDecodeError) else content
                line = self.lines + wrong[:start].count(b"\n")
                raise DataError(
                    f"{self.place}: line {line}: the bytes {wrong[start : start + 4].hex(' ')} are not "
                    f"{self.encoding}. Expected: text in the `encoding` of the dataset file, such as cp1252."
                ) from None
            if "\0" in text:
                line = self.lines + text.count("\n", 0, text.index("\0"))
                raise DataError(
                    f"{self.place}: line {line}: a byte 0. Expected: CSV as text in {self.encoding}; other encodings "
                    "are said by `encoding` of the dataset file, such as utf-16."
                )
            self.lines += text.count("\n")
            self.left = text.encode()
            if not content:
                break
        end = len(self.left) if size is None or size < 0 else size
        part, self.left = self.left[:end], self.left[end:]
        return part

    def close(self) -> None:
        self.file.close()
        self.packed.close()  # which gzip and others leave open
        super().close()


def _text(source: "SourceFiles", name: str, dialect: Dialect) -> _Utf8:
    return _Utf8(source.open(name), name, dialect.encoding, place_of(source, name))


def _unpacked(file: Any, name: str) -> Any:
    suffix = name.lower().rpartition(".")[2]
    openers: dict[str, Callable[[Any], Any]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open, "zst": _open_zstd}
    return openers.get(suffix, lambda plain: plain)(file)


def _open_zstd(file: BinaryIO) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(file, "zstd")


@contextmanager
def opened_parquet(source: "SourceFiles", name: str) -> Iterator[Any]:
    """pyarrow's ParquetFile, which reads no more of the file at a time than it must. Raises DataError where it is none,
    or damaged where it is read within."""
    import pyarrow
    from pyarrow import parquet

    place = place_of(source, name)
    with source.open(name) as file:
        try:
            opened = parquet.ParquetFile(file, buffer_size=1 << 16)  # of each column
        except (pyarrow.ArrowException, OSError, ValueError) as fault:
            raise DataError(f"{place}: {_first_line(fault)}. Expected: a Parquet file.") from None
        rows = sum(opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups))
        if rows != opened.metadata.num_rows:
            raise DataError(f"{place}: {rows} rows, and {opened.metadata.num_rows} in all. Expected: a Parquet file.")
        try:
            yield opened
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as fault:
            raise DataError(f"{place}: {_first_line(fault)}. Expected: a whole Parquet file.") from None


def _parquet_blocks(source: "SourceFiles", name: str, columns: Sequence[str]) -> "Iterator[list[pyarrow.Array[Any]]]":
    import pyarrow

    place = place_of(source, name)
    with opened_parquet(source, name) as file:
        for column in columns:
            kind = file.schema_arrow.field(column).type
            if pyarrow.types.is_nested(kind):
                raise DataError(
                    f"{place}: the column {column!a} is nested ({str(kind)[:SHOWN]}). Expected: one value a row. Leave "
                    "it out, or write its parts as columns."
                )
        rows = max(1, 8 * ROWS // max(8, len(columns)))
        done = 0
        for block in file.iter_batches(rows, columns=list(dict.fromkeys(columns))):
            block.validate(full=True)  # that texts are UTF-8: nobody has looked
            yield [block.column(column) for column in columns]
            done += len(block)
        if done != file.metadata.num_rows:
            raise pyarrow.ArrowInvalid(f"{done} rows, and {file.metadata.num_rows} by its end")


def to_texts(
    array: "pyarrow.Array[Any]", missing_values: Sequence[str], place: Callable[[int], str]
) -> list[str | None]:
    """The values as texts, without the spaces around them; None where one is missing: null, empty, or one of
    `missing_values`. Raises DataError, beginning with `place` of its index, for one that is no line of text."""
    encoded = as_text(array, place).dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    missing = {"", *missing_values}
    words: list[str | None] = [None if word in missing else word for word in encoded.dictionary.to_pylist()]
    for code, word in enumerate(words):
        if word is not None and (len(word) > LONGEST_TEXT or _CONTROL.search(word)):
            raise DataError(
                f"{place(int((codes == code).argmax()))}: got {word[:SHOWN]!a}, {len(word):,} characters. Expected: a "
                f"category, {LONGEST_TEXT:,} at most in one line. Leave the column out, or clean it."
            )
    words.append(None)
    return [words[code] for code in codes.tolist()]


def to_numbers(
    array: "pyarrow.Array[Any]", missing_values: Sequence[str], place: Callable[[int], str], decimal: str = "point"
) -> "NDArray[np.float64]":
    """The values as float64; NaN where one is missing, as of `to_texts`, or equal to a number of `missing_values`.

    Raises DataError, beginning with `place` of its index, for one that is no finite number, or a whole number that
    float64 does not have.
    """
    import numpy as np
    import pyarrow
    from pyarrow import compute

    kind, types = array.type, pyarrow.types
    if types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    nothing = array.is_null().to_numpy(zero_copy_only=False)
    words = {word.casefold() for word in missing_values}
    if types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal(kind):
        if types.is_boolean(kind):
            array = array.cast(pyarrow.int8())
        values = array.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
        wrong = ~np.isfinite(values) & ~nothing
        if "nan" in words:
            wrong &= ~np.isnan(values)
    else:
        text = as_text(array, place)
        nothing |= compute.is_in(text, pyarrow.array(["", *missing_values])).to_numpy(zero_copy_only=False)
        pattern = NUMBER.pattern.replace(r"\.", ",") if decimal == "comma" else NUMBER.pattern
        fits = compute.match_substring_regex(text, f"^(?:{pattern})$").fill_null(False)
        known = compute.and_(fits, pyarrow.array(~nothing))
        if decimal == "comma":
            text = compute.replace_substring(text, ",", ".")
        values = compute.if_else(known, text, None).cast(pyarrow.float64()).to_numpy(zero_copy_only=False)
        wrong = ~np.isfinite(values) & ~nothing
    for index in np.flatnonzero(np.isfinite(values) & (np.abs(values) >= 2**53)).tolist():
        whole = str(array[index].as_py()).strip()
        wrong[index] |= bool(_WHOLE.fullmatch(whole)) and int(whole) != int(values[index])
    sentinels = [float(word) for word in missing_values if NUMBER.fullmatch(word)]
    values = np.where(nothing | np.isin(values, sentinels), np.nan, values)
    for index in np.flatnonzero(wrong)[:1].tolist():
        raise DataError(f"{place(index)}: {_no_number(str(array[index].as_py()), decimal)}")
    return values


def is_bytes(kind: Any) -> bool:
    """Whether a column of Parquet of this type holds bytes."""
    from pyarrow import types

    every = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(one(kind) for one in every)


def as_text(array: "pyarrow.Array[Any]", place: Callable[[int], str]) -> "pyarrow.Array[Any]":
    """The values as strings, without the spaces around them. Raises DataError, beginning with `place` of the first,
    where they are of a type that has no text, such as bytes."""
    import pyarrow
    from pyarrow import compute, types

    kind = array.type.value_type if types.is_dictionary(array.type) else array.type
    if is_bytes(kind):
        raise DataError(f"{place(0)}: got bytes ({kind}). Expected: text or numbers. Leave the column out.")
    try:
        return compute.utf8_trim_whitespace(array.cast(pyarrow.string()))
    except pyarrow.ArrowException as fault:  # such as times in a zone that nobody knows
        raise DataError(
            f"{place(0)}: got {str(kind)[:SHOWN]} ({_first_line(fault)}). Expected: text or numbers. Leave the "
            "column out."
        ) from None


def _no_number(text: str, decimal: str) -> str:
    """What is to be said of a value that should have been a number."""
    if text.strip().casefold() in MISSING_WORDS:
        hint = " Does it mean a missing value? Then add it to `missing_values` of the dataset file."
    elif re.fullmatch(r"[+-]?\d{16,300}", text.strip()):
        return (
            f"got {text[:SHOWN]!a}, which a number of 64 bits has not exactly. Expected: a number. If it is a name, "
            "the column is a category, or left out."
        )
    elif re.fullmatch(r"[-+.,\d]+", text):
        hint = f" `decimal` of the dataset file is {decimal}."
    else:
        hint = " Is the column a category?"
    return f"got {text[:SHOWN]!a}. Expected: a finite number.{hint}"


def _first_line(fault: Exception) -> str:
    return f"{str(fault).partition(chr(10))[0]:.200}"
