"""What a table of pixels seems to be: which column is the label, how large the pictures are, in what order."""

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Any, get_args

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.kind import MOST_CLASSES, Recognized, Split
from keras_pipeline.sources.kinds.stored import Order, arranged
from keras_pipeline.sources.source_files import SourceFiles
from keras_pipeline.sources.tables.text_tables import DELIMITERS, Dialect, column_names, is_table, read_columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_PIXELS = 64
"""Of what is taken for a picture."""
LOOKED_AT = 200
"""Rows of each file, by `recognize`."""
LABEL_NAMES = ("label", "class", "target", "category", "y", "digit", "letter", "labels")


def recognize_pixels(source: SourceFiles) -> Recognized | None:
    """Tables of a label and so many columns of whole numbers as a square grey or colour image has pixels."""
    tables = [name for name in source.names() if is_table(name)]
    looks = [look for name in tables[:100] if (look := _look(source, name))]
    labelled = [look for look in looks if look.label]
    if not labelled or len(looks) != len(tables):
        return None
    return _recognized(source, looks, labelled)


def is_pixel(value: Any) -> bool:
    """Whether a value, of CSV a text, is a whole number from 0 to 255."""
    if isinstance(value, str):
        return value.isascii() and value.isdecimal() and len(value) < 100 and int(value) <= 255
    try:
        return bool(0 <= value <= 255 and value == int(value))
    except (TypeError, ValueError):
        return False


@dataclass(frozen=True)
class _Look:
    """What the first rows of a file seem to be; `label` is "" where there is none."""

    name: str
    dialect: Dialect
    columns: list[str]
    label: str
    why: str
    rows: "NDArray[np.uint8]"

    @property
    def shape(self) -> tuple[int, int, int]:
        channels = 1 if isqrt(self.rows.shape[1]) ** 2 == self.rows.shape[1] else 3
        side = isqrt(self.rows.shape[1] // channels)
        return side, side, channels


def _look(source: SourceFiles, name: str) -> _Look | None:
    import numpy as np

    for delimiter in DELIMITERS:
        try:
            names = column_names(source, name, Dialect(delimiter))
            header = not all(is_pixel(one) or (one.isascii() and one.isdecimal()) for one in names)
            columns = names if header else [str(index) for index in range(len(names))]
            dialect = Dialect(delimiter, names=() if header else tuple(columns))
            block = next(read_columns(source, name, columns, dialect), None)
        except DataError:
            continue
        if block is None or len(columns) < LEAST_PIXELS:
            continue
        cells = [column.slice(0, LOOKED_AT).to_pylist() for column in block]
        label, why = _label_of(columns, cells, header=header)
        pixels = [column for one, column in zip(columns, cells, strict=True) if one != label]
        if label is None or not all(is_pixel(value) for column in pixels for value in column):
            continue
        return _Look(name, dialect, columns, label, why, np.array(pixels).astype(np.uint8).T)
    return None


def _label_of(columns: list[str], cells: list[list[Any]], *, header: bool) -> tuple[str | None, str]:
    """Which column, "" for none, None where the others are no picture; and why."""
    if _is_picture(len(columns)):
        return "", "its columns are as many as the pixels of a square picture, and no label"
    if not _is_picture(len(columns) - 1):
        return None, ""
    ends = (columns[0], columns[-1])
    for one in ends if header else ():
        if one.lower() in LABEL_NAMES:
            return one, f"the column {one!a} is the label"
    for one, column in zip(ends, (cells[0], cells[-1]), strict=True):
        if not all(is_pixel(value) for value in column):
            return one, f"the column {one!a} holds what is no pixel: the label"
    several = [len(set(column)) for column in (cells[0], cells[-1])]
    last = several[0] < 2 or 2 <= several[1] < several[0]
    where = "last" if last else "first"
    return ends[last], f"the {where} column is taken for the label: {several[last]} different values in the first rows"


def _is_picture(count: int) -> bool:
    return count >= LEAST_PIXELS and (isqrt(count) ** 2 == count or isqrt(count // 3) ** 2 * 3 == count)


def _recognized(source: SourceFiles, looks: list[_Look], labelled: list[_Look]) -> Recognized | None:
    from keras_pipeline.sources.kinds.labels import class_keys
    from keras_pipeline.sources.tables.divisions import split_of_file

    first = labelled[0]
    same = {(one.dialect.delimiter, bool(one.dialect.names), one.label, one.shape) for one in labelled}
    if len(same) > 1:
        return None
    height, width, channels = first.shape
    keys: dict[str, Any] = {"kind": "pixels", "size": [height, width], "channels": channels}
    reasons = [
        f"{first.name}: {height * width * channels} columns of 0 to 255 are {height} x {width} x {channels} pixels"
    ]
    reasons.append(f"{first.name}: {first.why}")
    files: dict[Split, list[str]] = {"train": [], "validation": [], "test": []}
    for one in labelled:
        files[split_of_file(one.name) or "train"].append(one.name)
    if not files["train"]:
        return None
    if len(source.names()) > 1:
        keys |= {split: names for split, names in files.items() if names}
    reasons += [f"{one.name}: not used, it has no labels" for one in looks if not one.label]
    position = first.columns.index(first.label)
    keys["label"] = "first" if position == 0 else "last"
    if first.dialect.names:
        keys["header"] = False
    if first.dialect.delimiter != ",":
        keys["delimiter"] = first.dialect.delimiter
    if channels == 3:
        keys["order"], reason = _order_of(first)
        reasons.append(reason)
    distinct: set[int | str] = set()
    for one in labelled:
        for (labels,) in read_columns(source, one.name, [one.label], one.dialect):
            distinct.update(_plain(value) for value in labels.unique().to_pylist() if value is not None)
            if len(distinct) > MOST_CLASSES:
                return None
    return Recognized(keys | class_keys(distinct), reasons)


def _plain(value: Any) -> int | str:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole else str(value)


def _order_of(look: _Look) -> tuple[str, str]:
    """By which neighbours are more alike."""
    import numpy as np

    orders = get_args(Order)
    steps = [
        float(np.abs(np.diff(arranged(look.rows, look.shape, order).astype(float), axis=2)).mean()) for order in orders
    ]
    return orders[int(np.argmin(steps))], (
        f"{look.name}: neighbours differ by {steps[0]:.1f} where red, green and blue of a pixel are side by side, by "
        f"{steps[1]:.1f} where a colour comes after the other"
    )
