"""What a table seems to be, for `keras-pipeline dataset add`: how it is written, what its columns are, and which is
predicted. All rows are read once; whoever adds it reads the reasons, and edits the file where they are wrong."""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from keras_pipeline.core.csv_files import NUMBER
from keras_pipeline.core.errors import DataError
from keras_pipeline.data.encoding import MOST_CATEGORIES
from keras_pipeline.sources.kinds.kind import Recognized
from keras_pipeline.sources.tables.divisions import WORDS
from keras_pipeline.sources.tables.text_tables import (
    DELIMITERS,
    LONGEST_TEXT,
    MISSING_WORDS,
    PARQUET_FILE,
    Dialect,
    as_text,
    column_names,
    is_bytes,
    is_text,
    opened_parquet,
    place_of,
    read_columns,
    read_start,
)

if TYPE_CHECKING:
    from keras_pipeline.sources.source_files import SourceFiles

TARGETS = ("target", "label", "labels", "class", "y", "outcome")
"""What the column to predict is called, in small letters, the likeliest first."""
SPLIT_COLUMNS = {"split", "subset", "partition", "set", "fold"}
SURELY_CSV = re.compile(r"\.(csv|tsv|tab)(\.\w+)?$", re.IGNORECASE)
MOST_CLASSES_OF_NUMBERS = 20
"""So many different whole numbers may be classes."""
LEAST_OF_EACH = 10
"""So many rows a class has, on average, where numbers are taken for classes."""
MOST_DISTINCT = 10_000
_COMMA_NUMBER = re.compile(NUMBER.pattern.replace(r"\.", ","), re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,15}(\.0*)?", re.ASCII)
_ZEROS = re.compile(r"0\d+", re.ASCII)
_IDENTIFIER = re.compile(r"(?i)(^|[_ .-])(id|index|idx|uuid|guid|key|nr|no|number|rowid)$|^unnamed|[a-z]Id$|^$")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")
_BAD = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass
class Seen:
    """A column, of all its rows: `values`: how often each is there, MOST_DISTINCT of them at most; `many`: there are
    more; `points`, `commas`: how many are a number, written with a point or a comma, and `fractions` of the former;
    `words`: those for a missing value; `other`: the first that is neither; `integer`: so it is in Parquet."""

    name: str
    integer: bool = False
    rows: int = 0
    empty: int = 0
    values: Counter[str] = field(default_factory=Counter)
    many: bool = False
    points: int = 0
    commas: int = 0
    fractions: int = 0
    whole: bool = True
    words: Counter[str] = field(default_factory=Counter)
    rising: bool = True
    last: float = float("-inf")
    other: str = ""

    def add(self, texts: Sequence[str | None]) -> None:
        """More of its rows."""
        for text in texts:
            self.rows += 1
            value = (text or "").strip()
            if not value:
                self.empty += 1
                continue
            if not self.many:
                self.values[value] += 1
                self.many = len(self.values) > MOST_DISTINCT
            point = NUMBER.fullmatch(value) and not _ZEROS.fullmatch(value)
            comma = not point and _COMMA_NUMBER.fullmatch(value)
            if point or comma:
                self.points += bool(point)
                self.commas += bool(comma)
                self.fractions += bool(point and "." in value)
                number = float(value.replace(",", "."))
                self.whole = self.whole and bool(_WHOLE.fullmatch(value))
                self.rising = self.rising and number > self.last
                self.last = number
            elif value.casefold() in MISSING_WORDS:
                self.words[value] += 1
            else:
                self.other = self.other or value

    def is_number(self, decimal: str) -> bool:
        """Whether all that is there are numbers, but for gaps and words for them."""
        found = self.points + self.commas if decimal == "comma" else self.points
        return (
            found > 0
            and found + self.empty + sum(self.words.values()) == self.rows
            and not (decimal == "comma" and self.fractions)
        )

    @property
    def distinct(self) -> int:
        """How many different values, words for a missing one left out."""
        return len(self.values) - len(set(self.words) & set(self.values))


def recognize_table(source: "SourceFiles", files: Sequence[str]) -> Recognized | None:
    """The keys and the reasons of these tables, of which the first is read; None where it is none."""
    name = files[0]
    reasons: list[str] = []
    dialect = Dialect()
    if not PARQUET_FILE.search(name):
        found = _dialect(source, name, reasons)
        if found is None:
            return None
        dialect = found
    names = column_names(source, name, dialect)
    columns = _look(source, name, names, dialect)
    if not columns or not columns[0].rows:
        return None
    for other in files[1:]:
        lacking = set(names) - set(column_names(source, other, dialect))
        if lacking:
            raise DataError(
                f"{source.name}/{other}: it has no column {min(lacking)!a}, which {name} has. Expected: the same. "
                f"Add {name} alone, or put the others elsewhere."
            )
    return _keys(columns, dialect, reasons)


def _dialect(source: "SourceFiles", name: str, reasons: list[str]) -> Dialect | None:
    encoding = "utf-8"
    if read_start(source, name)[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
        reasons.append("its text is UTF-16: it begins with the mark of that")
    elif not is_text(source, name, "utf-8"):
        encoding = "cp1252"
        reasons.append("its text is taken for cp1252, for it is not UTF-8: look at letters such as ä and é")
    text = read_start(source, name).decode(encoding, "ignore").removeprefix("\ufeff")
    counts: dict[str, int] = {}
    for delimiter in DELIMITERS:
        rows = [len(row) for _, row in _first_rows(text, delimiter)]
        if rows and min(rows) == max(rows) > 1:
            counts[delimiter] = rows[0]
    if not counts:
        _refuse_uneven(source, name, text)
        return None
    delimiter = max(counts, key=lambda one: counts[one])
    reasons.append(f"its delimiter is {delimiter!a}: that gives {counts[delimiter]} columns in every row")
    dialect = Dialect(delimiter, '"', encoding)
    header = [cell.strip() for cell in next(_first_rows(text, delimiter))[1]]
    if any(NUMBER.fullmatch(cell) or _COMMA_NUMBER.fullmatch(cell) for cell in header):
        reasons.append("it has no header: its first row has numbers")
        return replace(dialect, names=tuple(f"column_{number}" for number in range(1, len(header) + 1)))
    return dialect


def _refuse_uneven(source: "SourceFiles", name: str, text: str) -> None:
    """Raise DataError where nearly all rows of a file that is called CSV have as many values."""
    for delimiter in DELIMITERS if SURELY_CSV.search(name) else "":
        rows = [(line, len(row)) for line, row in _first_rows(text, delimiter)]
        ((usual, often),) = Counter(count for _, count in rows).most_common(1) or [(0, 0)]
        if usual > 1 and often > 0.8 * len(rows):
            line, count = next(one for one in rows if one[1] != usual)
            raise DataError(
                f"{place_of(source, name)}: line {line}: got {count} values, where others have {usual} (delimiter "
                f"{delimiter!a}). Expected: as many in every row, the header included. Mend the line, or take it out."
            )


def _first_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Of the whole lines, a hundred rows at most; with the line that each ends in."""
    whole = text if len(text) < 1 << 16 else text[: 1 << 16].rpartition("\n")[0]
    reader = csv.reader(io.StringIO(whole, newline=""), delimiter=delimiter)
    try:
        yield from itertools.islice(((reader.line_num, row) for row in reader if row), 100)
    except csv.Error:
        return


def _look(source: "SourceFiles", name: str, names: list[str], dialect: Dialect) -> list[Seen]:
    import pyarrow

    kinds = {}
    if PARQUET_FILE.search(name):
        with opened_parquet(source, name) as file:
            kinds = {one.name: one.type for one in file.schema_arrow}
    fit = [one for one in names if names.count(one) == 1 and _is_plain(kinds.get(one))]
    columns = [Seen(one, integer=one in kinds and pyarrow.types.is_integer(kinds[one])) for one in fit]
    for block in read_columns(source, name, fit, dialect):
        for column, array in zip(columns, block, strict=True):
            column.add(as_text(array, partial(_place, source, name, column.name)).to_pylist())
    return columns


def _place(source: "SourceFiles", name: str, column: str, _: int) -> str:
    return f"{place_of(source, name)}: {column!a}"


def _is_plain(kind: Any) -> bool:
    """Whether a column of Parquet, or of CSV, has a value a row that can be written as text."""
    from pyarrow import types

    own = kind.value_type if kind is not None and types.is_dictionary(kind) else kind
    return own is None or not (types.is_nested(own) or is_bytes(own))


def _keys(columns: list[Seen], dialect: Dialect, reasons: list[str]) -> Recognized | None:
    decimal = "point"
    commas, fractions = (any(getattr(column, which) for column in columns) for which in ("commas", "fractions"))
    if dialect.delimiter != "," and commas and not fractions:
        decimal = "comma"
        reasons.append("its numbers have a decimal comma")
    target = _target([one for one in columns if _may_be_target(one, decimal)], dialect, decimal, reasons)
    if target is None:
        return None
    kinds: dict[str, str] = {}
    splits: dict[str, Any] = {}
    for column in columns:
        if column is target:
            continue
        if column.name.casefold() in SPLIT_COLUMNS and {one.casefold() for one in column.values} <= set(WORDS):
            splits["column"] = column.name
            reasons.append(f"{column.name!a} says which split a row is in")
            continue
        why = _left_out(column, decimal)
        if why:
            reasons.append(f"{column.name!a} is left out: {why}")
            continue
        kinds[column.name] = "number" if column.is_number(decimal) else "category"
        if kinds[column.name] == "category" and column.points > column.rows / 2:
            reasons.append(f"{column.name!a} is a category, though most are numbers: {column.other[:40]!a} is none")
    if not kinds:
        return None
    for kind in ("number", "category"):
        own = [name for name, one in kinds.items() if one == kind]
        if own:
            shown = ", ".join(own[:8]) + (f", … ({len(own)} in all)" if len(own) > 8 else "")
            reasons.append(f"{'numbers' if kind == 'number' else 'categories'}: {shown}")
    used = [column for column in columns if column.name in kinds or column is target]
    words: list[str] = list(
        dict.fromkeys(word for column in used if column.is_number(decimal) for word in column.words)
    )
    if words:
        reasons.append(f"{', '.join(words)} means a missing value: it is among numbers, which it is not")
    for column in used:
        if not column.is_number(decimal) and (others := set(column.words) - set(words)):
            reasons.append(
                f"{min(others)!a} in {column.name!a} is a value like others; `missing_values` can say otherwise"
            )
    classes = _classes(target, decimal, words, reasons)
    keys: dict[str, Any] = {"kind": "table", "columns": kinds, "target": target.name, "classes": classes}
    if classes and target.integer and classes != [str(number) for number in range(len(classes))]:
        keys["label_values"] = [int(one) for one in classes]
    usual = {"delimiter": ",", "encoding": "utf-8", "decimal": "point"}
    changed = {"missing_values": words, "decimal": decimal, "names": list(dialect.names), "splits": splits}
    changed |= {"delimiter": dialect.delimiter, "encoding": dialect.encoding}
    keys |= {key: value for key, value in changed.items() if value and usual.get(key) != value}
    return Recognized(keys, reasons)


def _may_be_target(column: Seen, decimal: str) -> bool:
    return not _left_out(column, decimal) and column.distinct > 1


def _target(columns: list[Seen], dialect: Dialect, decimal: str, reasons: list[str]) -> Seen | None:
    if not columns:
        return None
    by_name = {column.name.casefold(): column for column in reversed(columns)}
    for name in TARGETS:
        if name in by_name:
            reasons.append(f"{by_name[name].name!a} is predicted: by its name")
            return by_name[name]
    first, last = columns[0], columns[-1]
    if dialect.names and _as_classes(first, decimal) and not _as_classes(last, decimal):
        reasons.append(f"{first.name!a} is predicted: the first column has few values, and the last has many")
        return first
    reasons.append(
        f"{last.name!a} is predicted: it is the last that can be, and none is called {' or '.join(TARGETS[:4])}"
    )
    return last


def _as_classes(column: Seen, decimal: str) -> bool:
    if column.many:
        return False
    if not column.is_number(decimal):
        return True
    return column.whole and column.distinct <= min(MOST_CLASSES_OF_NUMBERS, column.rows // LEAST_OF_EACH)


def _classes(target: Seen, decimal: str, words: Sequence[str], reasons: list[str]) -> list[str]:
    """The classes of the target, in order; none where it is a number. `words` mean a missing value."""
    if missing := target.empty + sum(target.words[word] for word in words):
        reasons.append(f"{missing:,} rows have no {target.name!a}: take them out, they are refused")
    if not _as_classes(target, decimal):
        reasons.append(f"{target.name!a} is a number to predict: `classes` would make classes of it")
        return []
    number = target.is_number(decimal)
    classes = sorted(
        set(target.values) - set(words), key=lambda one: (float(one.replace(",", ".")), one) if number else one
    )
    what = f"{len(classes)} different {'whole numbers' if number else 'texts'}"
    other = ", `classes: []` would make a number of it" if number else ""
    reasons.append(f"{target.name!a} is a class: {what}{other}")
    return classes


def _left_out(column: Seen, decimal: str) -> str:
    """Why the network should not learn from a column; "" where it should."""
    known = column.rows - column.empty
    if not known:
        return "it is empty"
    if column.distinct < 2 and not column.many and not column.empty and not column.words:
        return f"all rows have {min(column.values)[:40]!a}"
    if not column.name or _BAD.search(column.name):
        return "it has no name that can be written"
    all_differ = column.distinct == known and known > 1 and not column.many
    if column.is_number(decimal):
        of_rows = column.whole and (all_differ or column.many)
        named = bool(_IDENTIFIER.search(column.name))
        return "it numbers the rows" if of_rows and known > 10 and (named or column.rising) else ""
    if any(_DATE.fullmatch(value) for value in list(column.values)[:3]):
        return "dates are neither numbers nor categories; `splits.time` can use it"
    if any(len(value) > LONGEST_TEXT or _BAD.search(value) for value in column.values):
        return "it has long texts"
    found = "more than " * column.many + f"{column.distinct:,} different values in {known:,} rows"
    if column.points > known / 2:
        found += f"; most are numbers, and {column.other[:40]!a} is none"
    if column.many or column.distinct > MOST_CATEGORIES or (known > 20 and column.distinct > known / 2):
        return found
    return ""
