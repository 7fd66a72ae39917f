"""What `keras-pipeline dataset add` takes pictures for: where the labels are, the classes, the size and the colours.

It looks at names, at headers, and at a few hundred pictures at most.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import PurePosixPath
from statistics import median
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.kind import MOST_CLASSES, Recognized, Split
from keras_pipeline.sources.picture_files import tables
from keras_pipeline.sources.picture_files.folders import contents_of, is_picture, listed, placed_in_folders
from keras_pipeline.sources.picture_files.tables import PictureTable
from keras_pipeline.sources.pictures import Colour, Preparation, picture_size, prepare_picture
from keras_pipeline.sources.tables import text_tables
from keras_pipeline.sources.tables.divisions import split_named, split_of_file

if TYPE_CHECKING:
    from keras_pipeline.sources.source_files import SourceFiles

MOST_PICTURES = 200
"""So many are looked at, for their size and their colours."""
LONGEST = 96
"""A longer side is not proposed: networks for larger pictures take hours without a GPU."""
LONGEST_KEPT = 128
"""Where all pictures are of one size, it is kept up to so long a side."""
STEP = 8
"""Other sides are a multiple of it, so that a network can halve them three times."""
GREY = 12
"""Levels between red, green and blue up to which a pixel is grey: JPEG does not keep them equal."""
LABELS = ("label", "labels", "class", "class_name", "category", "target", "y", "fine_label", "coarse_label")
SPLITS = ("split", "subset", "set", "fold", "partition")
ROWS = 200
"""So many rows of a CSV are looked at."""


@dataclass
class _Found:
    """Where the labels are, and the classes; `pictures`: some of them, to be looked at."""

    classes: list[str]
    pictures: Iterator[bytes]
    keys: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


def recognize_pictures(source: "SourceFiles") -> Recognized | None:
    """See `Kind.recognize`. Raises DataError where there are pictures, and nothing says what they are of."""
    found = _from_parquet(source) or _from_csv(source) or _from_folders(source)
    if found is None or not all(map(_is_line, found.classes)):
        return None
    size, colour, reasons = _look(found.pictures)
    keys = {"classes": found.classes, "size": list(size), "colour": colour, **found.keys}
    return Recognized({"kind": "images", **keys}, [*found.reasons, *reasons])


def _from_folders(source: "SourceFiles") -> _Found | None:
    names = source.names()
    pictures = [name for name in names if is_picture(name)]
    if 2 * len(pictures) <= len(names):
        return None
    placed = placed_in_folders(pictures, ())
    without = [one.name for one in placed if not one.folder]
    folders = Counter(one.folder for one in placed)
    if without or len(folders) < 2:
        raise DataError(
            f"{source.name}: nothing says what {listed(without or pictures)} are pictures of. Expected: a folder a "
            "class, two at least, and above them at most train, validation and test; or a CSV that lists files, labels."
        )
    classes = sorted_classes(folders)
    fewest, most = min(folders.values()), max(folders.values())
    each = f"{fewest:,} pictures each" if fewest == most else f"{fewest:,} to {most:,} pictures"
    reasons = [
        f"{len(pictures):,} pictures in {len(classes):,} folders, which are the classes: {listed(classes)}; {each}."
    ]
    if placed[0].split:
        reasons.append(f"The folders above these divide them: {_counted([one.split for one in placed])}.")
    others = [name for name in names if not is_picture(name)]
    if others:
        reasons.append(f"No pictures by their names, to be removed before: {listed(others)}.")
    return _Found(classes, _some(source, pictures), {}, reasons)


def sorted_classes(names: Any) -> list[str]:
    """In the order of numbers where all are numbers, else of their letters."""
    known = {unicodedata.normalize("NFC", str(name)) for name in names}
    if all(name.isascii() and name.isdecimal() for name in known):
        return sorted(known, key=lambda name: (int(name), name))
    return sorted(known)


def _from_csv(source: "SourceFiles") -> _Found | None:
    names = source.names()
    files = [name for name in names if text_tables.CSV_FILE.search(name)]
    if not files or not any(map(is_picture, names)):
        return None
    known = {unicodedata.normalize("NFC", name): name for name in names}
    for file in files[:20]:
        for delimiter in text_tables.DELIMITERS:
            with suppress(DataError):  # it is written in another way
                if found := _read_csv(source, file, files, delimiter, known):
                    return found
    return None


def _read_csv(
    source: "SourceFiles", file: str, files: Sequence[str], delimiter: str, known: dict[str, str]
) -> _Found | None:
    """Of a CSV one of whose columns names files that are there, and another has labels."""
    dialect = text_tables.Dialect(delimiter=delimiter)
    columns = text_tables.column_names(source, file, dialect)
    unique = [column for column, count in Counter(columns).items() if count == 1 and _is_line(column)][:100]
    block = next(text_tables.read_columns(source, file, unique, dialect), None)
    first = {column: values.slice(0, ROWS).to_pylist() for column, values in zip(unique, block or [], strict=False)}
    image = next((column for column, texts in first.items() if all(_path(file, text) in known for text in texts)), None)
    others = [column for column in unique if column != image]
    label = _column_called(LABELS, others) or (others[0] if len(others) == 1 else None)
    if image is None or label is None:
        return None
    split = _column_called(SPLITS, [column for column in others if column != label])
    if split and not all(split_named(text) for text in first[split]):
        split = None
    pattern = _pattern_of([name for name in files if _has_columns(source, name, dialect, columns)], files, file)
    table = _table(files=pattern, image=image, label=label, delimiter=delimiter)
    if table is None:
        return None
    rows = tables.read_rows(source, tables.files_of_table(source, table), table, [split] if split else [])
    counts = Counter(rows.columns[label])
    if not 2 <= len(counts) <= MOST_CLASSES or "" in counts:
        return None
    classes = sorted_classes(counts)
    keys: dict[str, Any] = {"table": table.model_dump(exclude_defaults=True)}
    reasons = [
        f"{pattern} names {len(rows.columns[image]):,} pictures in the column {image!a}, and their classes in "
        f"{label!a}: {listed(classes)}."
    ]
    if split:
        keys["splits"] = {"column": split}
        reasons.append(f"The column {split!a} divides them.")
    elif rows.splits:
        reasons.append(f"The names of the files divide them: {_counted(rows.splits)}.")
    listed_files = [known[path] for text in rows.columns[image] if (path := _path(file, text)) in known]
    return _Found(classes, _some(source, listed_files), keys, reasons)


def _path(file: str, text: str | None) -> str:
    """Of a file as a CSV names it."""
    return unicodedata.normalize("NFC", str(PurePosixPath(file).parent / (text or "/")))


def _has_columns(source: "SourceFiles", file: str, dialect: text_tables.Dialect, columns: Sequence[str]) -> bool:
    with suppress(DataError):
        return text_tables.column_names(source, file, dialect) == columns
    return False


def _pattern_of(wanted: Sequence[str], files: Sequence[str], first: str) -> str:
    """What means just these files among all of their sort, whose names say different splits; else the first alone."""
    if len(wanted) > 1 and all(map(split_of_file, wanted)):
        endings = (f"/{wanted[0].rpartition('/')[2]}", f".{wanted[0].rpartition('.')[2]}")
        for pattern in (f"*{ending}" for ending in endings):
            if [name for name in files if fnmatchcase(name, pattern)] == list(wanted):
                return pattern
    return first


def _counted(splits: Sequence[str | None]) -> str:
    counts = Counter(splits)
    return ", ".join(f"{split} {counts[split]:,}" for split in get_args(Split) if counts[split])


def _column_called(words: Sequence[str], columns: Sequence[str]) -> str | None:
    by_name = {column.casefold(): column for column in columns}
    return next((by_name[word] for word in words if word in by_name), None)


def _table(**keys: str) -> PictureTable | None:
    """None where a column has a name that no dataset file can hold."""
    try:
        return PictureTable.model_validate(keys)
    except ValidationError:
        return None


def _from_parquet(source: "SourceFiles") -> _Found | None:
    files = [name for name in source.names() if tables.is_parquet(name)]
    images = [one for one in tables.image_columns(source, files[0]) if _is_line(one)] if files else []
    if not images:
        return None
    others = [one for one in text_tables.column_names(source, files[0], text_tables.Dialect()) if one not in images]
    label = _column_called(LABELS, others) or (others[0] if len(others) == 1 else None)
    if label is None or not _is_line(label):
        return None
    pattern = files[0] if len(files) == 1 else "*.parquet"
    table = _table(files=pattern, image=images[0], label=label)
    if table is None:
        return None
    rows = tables.read_rows(source, tables.files_of_table(source, table), table, [])
    there = {text for text in rows.columns[label] if text is not None}
    classes = rows.class_names or sorted_classes(there)
    if not 2 <= len(classes) <= MOST_CLASSES:
        return None
    keys: dict[str, Any] = {"table": table.model_dump()}
    if rows.numbers and not rows.class_names and classes != [str(number) for number in range(len(classes))]:
        keys["label_values"] = [int(name) for name in classes]
    keys["table"].pop("delimiter")
    reasons = [
        f"{len(rows.columns[label]):,} pictures in the column {images[0]!a} of {listed(files)}, and their classes in "
        f"{label!a}: {listed(classes)}."
    ]
    if rows.splits:
        reasons.append(f"The names of the files divide them: {_counted(rows.splits)}.")
    contents = tables.pictures_of_parquet(source, rows.files, rows.counts, images[0])
    return _Found(classes, islice(contents(0), MOST_PICTURES), keys, reasons)


def _some(source: "SourceFiles", names: Sequence[str]) -> Iterator[bytes]:
    """Of these files at most so many as are looked at, from the first to the last."""
    step = max(1, len(names) / MOST_PICTURES)
    return contents_of(source, [names[int(index * step)] for index in range(min(len(names), MOST_PICTURES))])(0)


def _look(pictures: Iterator[bytes]) -> tuple[tuple[int, int], Colour, list[str]]:
    """The size and the colours to be proposed, and why."""
    import numpy as np

    sizes: list[tuple[int, int]] = []
    coloured = 0
    for content in pictures:
        with suppress(ValueError):  # what is damaged is told when all are read
            small = prepare_picture(content, Preparation(64, 64, "stretch")).astype(np.int16)
            sizes.append(picture_size(content))
            coloured += bool(np.ptp(small, axis=2).max() > GREY)
    if not sizes:
        raise DataError(
            "none of the pictures that were looked at can be read. Expected: PNG, JPEG, BMP, WebP, TIFF or GIF."
        )
    size = sensible_size(sizes)
    low, high = np.min(sizes, axis=0), np.max(sizes, axis=0)
    if (low == high).all():
        seen = f"all of {len(sizes)} that were looked at are {low[0]} pixels high and {low[1]} wide"
    else:
        seen = f"{len(sizes)} that were looked at are {low[0]} to {high[0]} pixels high and {low[1]} to {high[1]} wide"
    told = f"{coloured} of them have colours" if coloured else "none of them has a colour"
    return size, "rgb" if coloured else "grey", [f"Pictures: {seen}, so size: {list(size)}.", f"Colours: {told}."]


def _is_line(text: str) -> bool:
    """Whether a dataset file takes it for a name."""
    return text.isprintable() and 0 < len(text) <= 1000


def sensible_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(height, width) that suits pictures of these: theirs where all have one, and it is small; else the medians, made
    square where they nearly are, no longer than LONGEST, and multiples of STEP."""
    height, width = (median(sides) for sides in zip(*sizes, strict=True))
    if len(set(sizes)) == 1 and max(height, width) <= LONGEST_KEPT:
        return sizes[0]
    if 0.8 <= height / width <= 1.25:
        height = width = min(height, width)
    scale = min(1, LONGEST / max(height, width))
    height, width = (max(2 * STEP, round(side * scale / STEP) * STEP) for side in (height, width))
    return height, width
