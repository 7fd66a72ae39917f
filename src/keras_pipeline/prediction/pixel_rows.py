"""A picture a row of a CSV or Parquet file, as well-known exports of digits are: with a header or none, with a label or
none."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from keras_pipeline.core.errors import DataError
from keras_pipeline.data.statistics import DatasetDescription
from keras_pipeline.prediction.inputs import Block, Inputs, listed
from keras_pipeline.sources.kinds.pixels import ORDER, Table
from keras_pipeline.sources.kinds.stored import Order, arranged
from keras_pipeline.sources.source_files import SourceFiles
from keras_pipeline.sources.tables.recognized_pixels import LABEL_NAMES
from keras_pipeline.sources.tables.text_tables import DELIMITERS, PARQUET_FILE, Dialect, column_names, place_of

PIXEL = re.compile(r"[a-z_ ]*\d+([x_]\d+)?(_?[rgb])?", re.IGNORECASE | re.ASCII)
"""The name of a column of pixels, such as pixel17, 3x12 or px_17_r."""


def open_pixel_rows(source: SourceFiles, file: str, dataset: DatasetDescription) -> Inputs:
    """The rows of a table of pixels. Raises DataError, with the row and the column, where they are not those of the
    dataset's images."""
    shape = tuple(dataset["shape"])
    dialect, names = _dialect(source, file)
    pixels = _pixels(place_of(source, file), names, shape, header=not dialect.names)
    inputs = Inputs("row", None, iter(()))
    if others := [name for name in names if name not in pixels]:
        inputs.notes.append(f"columns left out: {listed(others)}")
    order: Order = "planes" if dataset["facts"].get(ORDER) == "planes" else "interleaved"
    inputs.blocks = _blocks(Table(source, file, "test", dialect, "", tuple(pixels)), shape, order)
    return inputs


def _dialect(source: SourceFiles, file: str) -> tuple[Dialect, list[str]]:
    """That which gives most columns; without a header where the first row is of numbers alone."""
    delimiters = [","] if PARQUET_FILE.search(file) else DELIMITERS
    found = [(column_names(source, file, Dialect(one), least=1), one) for one in delimiters]
    names, delimiter = max(found, key=lambda one: len(one[0]))
    if not PARQUET_FILE.search(file) and all(name.isascii() and name.isdecimal() for name in names):
        names = [str(index) for index in range(len(names))]
        return Dialect(delimiter, names=tuple(names)), names
    return Dialect(delimiter), names


def _pixels(place: str, names: Sequence[str], shape: tuple[int, ...], *, header: bool) -> Sequence[str]:
    """The columns of pixels, in order."""
    height, width, channels = shape
    count = height * width * channels
    labels = [name for name in names if name.casefold() in LABEL_NAMES]
    for some in (
        names,
        [name for name in names if PIXEL.fullmatch(name)] if header else [],
        [name for name in names if name not in labels],
    ):
        if len(some) == count:
            return some
    hint = " Without a header nobody knows which of them is a label: add one." if len(names) == count + 1 else ""
    raise DataError(
        f"{place}: got {len(names)} columns. Expected: {count}, one for each of {height} x {width} x {channels} pixels,"
        f" and a label at most.{hint}"
    )


def _blocks(table: Table, shape: tuple[int, ...], order: Order) -> Iterator[Block]:
    start = 0
    for block in table.rows():
        images = np.ascontiguousarray(arranged(block, shape, order))
        yield list(map(str, range(start + 1, start + len(images) + 1))), images
        start += len(images)
