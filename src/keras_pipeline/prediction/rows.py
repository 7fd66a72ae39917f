"""The rows of a CSV or Parquet file as the features of the table that a network was trained on: columns go by their
names, others are left out."""

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from keras_pipeline.core.errors import DataError
from keras_pipeline.data.encoding import TableInput, count_unseen, encode
from keras_pipeline.prediction.inputs import Block, Inputs, listed
from keras_pipeline.sources.source_files import SourceFiles
from keras_pipeline.sources.tables.text_tables import (
    DELIMITERS,
    Dialect,
    column_names,
    is_table,
    place_of,
    read_columns,
    row_place,
    to_numbers,
    to_texts,
)


def open_rows(source: SourceFiles, table: TableInput) -> Inputs:
    """The rows of the one table. Raises DataError, with the row and the column, where one is not as `table` has it."""
    names = source.names()
    files = names if len(names) == 1 else [name for name in names if is_table(name)]
    if len(files) != 1:
        raise DataError(f"{source.name}: got {listed(files or names) or 'no file'}. Expected: one CSV or Parquet file.")
    wanted = [column["name"] for column in table["columns"]]
    dialect, there = _dialect(source, files[0], wanted)
    _require_columns(place_of(source, files[0]), wanted, there)
    inputs = Inputs("row", None, iter(()))
    if others := [name for name in there if name not in wanted]:
        target = f", of which {table['target']} is what is predicted" if table["target"] in others else ""
        inputs.notes.append(f"columns left out: {listed(others)}{target}")
    inputs.blocks = _blocks(inputs, source, files[0], table, dialect)
    return inputs


def _dialect(source: SourceFiles, file: str, wanted: Sequence[str]) -> tuple[Dialect, list[str]]:
    """The delimiter that gives most of the columns, and all columns."""
    found, fault = [], None
    for delimiter in DELIMITERS:
        try:
            names = column_names(source, file, Dialect(delimiter), least=1)
        except DataError as refused:
            fault = refused
            continue
        found.append((sum(name in wanted for name in names), len(names), Dialect(delimiter), names))
    if not found:
        raise fault or DataError(f"{place_of(source, file)}: no table. Expected: CSV or Parquet.")
    *_, dialect, names = max(found, key=lambda one: one[:2])
    return dialect, names


def _require_columns(place: str, wanted: Sequence[str], there: Sequence[str]) -> None:
    lacking = [name for name in wanted if name not in there]
    if not lacking:
        return
    others = [name for name in there if name not in wanted]
    alike = {name.casefold().strip(): name for name in others}
    near = [alike[lacking[0].casefold()]] if lacking[0].casefold() in alike else []
    near = near or difflib.get_close_matches(lacking[0], others, 1, 0.7)
    hint = f" Is it called {near[0]!a} here? Rename it in the file." if near else ""
    more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    raise DataError(
        f"{place}: got the columns {listed(there)}; {lacking[0]!a}{more} is missing. Expected: a header with "
        f"{listed(wanted)}.{hint}"
    )


def _blocks(inputs: Inputs, source: SourceFiles, file: str, table: TableInput, dialect: Dialect) -> Iterator[Block]:
    columns = table["columns"]
    names = [column["name"] for column in columns]
    unseen: Counter[str] = Counter()
    start, decimal = 0, "point"
    for block in read_columns(source, file, names, dialect):
        try:
            values = _values(source, file, table, dialect, block, start, decimal)
        except DataError as fault:
            if start or dialect.delimiter == ",":
                raise
            decimal = "comma"
            try:
                values = _values(source, file, table, dialect, block, start, decimal)
            except DataError:
                raise fault from None
        count = len(block[0])
        unseen.update(count_unseen(columns, values))
        yield list(map(str, range(start + 1, start + count + 1))), encode(columns, values)
        start += count
    for name, count in sorted(unseen.items()):
        rows = "1 row has" if count == 1 else f"{count:,} rows have"
        inputs.notes.append(f"{name}: {rows} a value that no training row has")


def _values(
    source: SourceFiles, file: str, table: TableInput, dialect: Dialect, block: Sequence[Any], start: int, decimal: str
) -> dict[str, Any]:
    """The columns of a block, checked for what may not be missing."""
    values: dict[str, Any] = {}
    missing_values = table["missing_values"]
    for column, array in zip(table["columns"], block, strict=True):
        name = column["name"]

        def place(index: int, name: str = name) -> str:
            return f"{row_place(source, file, start + index, dialect)}: {name!a}"

        if column["kind"] == "number":
            numbers = values[name] = to_numbers(array, missing_values, place, decimal)
            gaps = (numbers != numbers).nonzero()[0].tolist() if column["fill"] is None else []
        else:
            texts = values[name] = to_texts(array, missing_values, place)
            gaps = [texts.index(None)] if column["missing"] == "refuse" and None in texts else []
        if gaps:
            raise DataError(
                f"{place(gaps[0])}: nothing is there. Expected: a value, for the network was trained without gaps. "
                "Fill it in, or take the row out."
            )
    return values
