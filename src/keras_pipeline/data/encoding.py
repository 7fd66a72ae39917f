"""The columns of a table as the numbers that a network is fed: fitted on the training rows, kept as JSON.

A number gives one feature, in its own unit; where it is missing, what the rule says. A category gives one feature for
each value that the training rows have, 0 or 1, one for a missing value where they have such, and one, `other`, for all
that they have not.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat
from typing_extensions import TypedDict

from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Line, refuse
from keras_pipeline.data.missing import Missing

Values = Mapping[str, NDArray[np.float64] | Sequence[str | None]]
"""Columns by name: numbers float64 (n,), NaN where one is missing; texts, None where one is missing."""
MOST_CATEGORIES = 1000
"""Of one column."""
MOST_FEATURES = 20_000


class NumberColumn(TypedDict):
    """`fill`: what stands for a missing value; None where none is accepted."""

    name: Line
    kind: Literal["number"]
    fill: FiniteFloat | None


class CategoryColumn(TypedDict):
    """`categories`: the values of the training rows, sorted; `missing`: "value" where some of them have none, "other"
    where none has, "refuse" where a missing one is not accepted."""

    name: Line
    kind: Literal["category"]
    categories: list[Line]
    missing: Literal["value", "other", "refuse"]


Column = Annotated[NumberColumn | CategoryColumn, Field(discriminator="kind")]


class TableInput(TypedDict):
    """What a network is fed from a table. `missing_values`: the texts that mean a missing value, beside an empty one;
    `features`: the names of the network's inputs, which follow from the columns."""

    kind: Literal["table"]
    columns: list[Column]
    target: Line
    missing: Missing
    missing_values: list[Line]
    features: list[Line]


def fit_encoding(values: Values, rows: NDArray[np.int64], missing: Missing) -> list[NumberColumn | CategoryColumn]:
    """How these columns become features, fitted on these of their rows: those of the training split only.

    Raises DataError, with the column, where those rows have no value of a number, a category has too many, or there are
    too many features.
    """
    columns = [
        _fit_numbers(name, column[rows], missing)
        if isinstance(column, np.ndarray)
        else _fit_categories(name, [column[row] for row in rows.tolist()], missing)
        for name, column in values.items()
    ]
    features = feature_names(columns)
    if len(features) > MOST_FEATURES:
        raise DataError(
            f"the columns give {len(features):,} features. Expected: {MOST_FEATURES:,} at most. Leave some out."
        )
    if len(set(features)) < len(features):
        twice = next(name for name in features if features.count(name) > 1)
        raise DataError(f"two columns give the feature {twice!a}. Expected: different names. Rename one of them.")
    return columns


def _fit_numbers(name: str, column: NDArray[np.float64], missing: Missing) -> NumberColumn:
    known = column[~np.isnan(column)]
    if not known.size:
        raise DataError(f"{name!a}: no training row has a value. Expected: one at least. Leave the column out.")
    number = 0.0
    with np.errstate(over="ignore"):
        if missing in ("median", "mean"):
            number = float(np.median(known) if missing == "median" else known.mean())
    if not np.isfinite(number):
        raise DataError(
            f"{name!a}: the {missing} of its numbers is {number}. Expected: a finite one. Use another rule."
        )
    return {"name": name, "kind": "number", "fill": None if missing == "refuse" else number}


def _fit_categories(name: str, column: Sequence[str | None], missing: Missing) -> CategoryColumn:
    categories = sorted({value for value in column if value is not None})
    if len(categories) > MOST_CATEGORIES:
        raise DataError(
            f"{name!a}: {len(categories):,} different values. Expected: {MOST_CATEGORIES:,} at most of a category. "
            "Leave the column out, or make fewer of them."
        )
    how: Literal["value", "other", "refuse"] = "value" if None in column else "other"
    if missing == "refuse":
        how = "refuse"
    return {"name": name, "kind": "category", "categories": categories, "missing": how}


def feature_names(columns: Sequence[NumberColumn | CategoryColumn]) -> list[str]:
    """Of the network's inputs, in order: `age`; `colour=red`, `colour (missing)`, `colour (other)`."""
    names: list[str] = []
    for column in columns:
        name = column["name"]
        if column["kind"] == "number":
            names.append(name)
            continue
        names += [f"{name}={category}" for category in column["categories"]]
        names += [f"{name} (missing)"] if column["missing"] == "value" else []
        names.append(f"{name} (other)")
    return names


def number_columns(names: Sequence[str], target: str) -> TableInput:
    """What a network is fed from a table of numbers alone, none of which may be missing."""
    columns: list[NumberColumn | CategoryColumn] = [{"name": name, "kind": "number", "fill": None} for name in names]
    return {
        "kind": "table", "columns": columns, "target": target, "missing": "refuse", "missing_values": [""],
        "features": list(names),
    }  # fmt: skip


def encode(columns: Sequence[NumberColumn | CategoryColumn], values: Values, before: int = 0) -> NDArray[np.float64]:
    """The features (n, features) of rows: numbers in their own units, categories as 0 and 1; float64, not scaled yet.

    `values` may have other columns as well; they are the rows after so many, `before`.

    Raises DataError, with row and column, where a column is not there or a value is neither accepted nor filled.
    """
    lacking = [column["name"] for column in columns if column["name"] not in values]
    if lacking:
        others = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        known = ", ".join(column["name"] for column in columns[:20]) + (", …" if len(columns) > 20 else "")
        raise DataError(f"the column {lacking[0]!a}{others} is missing. Expected: the columns {known}.")
    count = len(values[columns[0]["name"]])
    encoded = np.zeros((count, len(feature_names(columns))))
    at = 0
    for column in columns:
        if column["kind"] == "number":
            encoded[:, at] = filled_numbers(column, values[column["name"]], before)
            at += 1
        else:
            width, codes = _codes(column, values[column["name"]], before)
            encoded[np.arange(count), at + codes] = 1
            at += width
    return encoded


def filled_numbers(column: NumberColumn, values: Any, before: int = 0) -> NDArray[np.float64]:
    """The numbers of a column, its missing values filled. Raises DataError, with the row, as `encode` does."""
    numbers = np.asarray(values, np.float64)
    for row in np.flatnonzero(np.isinf(numbers))[:1]:
        raise DataError(f"row {before + row + 1}: {column['name']!a}: got {numbers[row]}. Expected: a finite number.")
    missing = np.isnan(numbers)
    if column["fill"] is None and missing.any():
        raise _not_accepted(before + int(missing.argmax()), column["name"])
    return np.where(missing, column["fill"] or 0.0, numbers)


def _codes(column: CategoryColumn, values: Any, before: int = 0) -> tuple[int, NDArray[np.int64]]:
    """How many features the column has, and which of them is 1 in each row."""
    known: dict[str | None, int] = {category: code for code, category in enumerate(column["categories"])}
    if column["missing"] == "value":
        known[None] = len(known)
    elif column["missing"] == "refuse" and None in values:
        raise _not_accepted(before + list(values).index(None), column["name"])
    other = len(known)
    return other + 1, np.fromiter((known.get(value, other) for value in values), np.int64, len(values))


def _not_accepted(row: int, name: str) -> DataError:
    return DataError(f"row {row + 1}: {name!a}: the value is missing. Expected: one, by the rule `missing: refuse`.")


def decode(columns: Sequence[NumberColumn | CategoryColumn], features: NDArray[Any]) -> dict[str, list[Any]]:
    """What the features (n, features), numbers in their own units, were made of, by column: numbers, and texts;
    `(missing)` and `(other)` of a category that is none of the training rows'."""
    decoded: dict[str, list[Any]] = {}
    at = 0
    for column in columns:
        if column["kind"] == "number":
            decoded[column["name"]] = features[:, at].tolist()
            at += 1
            continue
        words = [*column["categories"], *(["(missing)"] if column["missing"] == "value" else []), "(other)"]
        codes = features[:, at : at + len(words)].argmax(axis=1)
        decoded[column["name"]] = [words[code] for code in codes.tolist()]
        at += len(words)
    return decoded


def count_unseen(columns: Sequence[NumberColumn | CategoryColumn], values: Values) -> dict[str, int]:
    """Of each category how many rows have a value that no training row has; only of those that have such rows."""
    found = {}
    for column in columns:
        if column["kind"] == "category":
            width, codes = _codes(column, values[column["name"]])
            found[column["name"]] = int((codes == width - 1).sum())
    return {name: count for name, count in found.items() if count}


def check_table(table: TableInput, place: str) -> None:
    """Raise ValueError where a description of a table contradicts itself; `place` is where it stands in its file."""
    names = [column["name"] for column in table["columns"]]
    if not names or len(set(names)) < len(names) or table["target"] in names:
        refuse(f"{place}.columns", names, "different names, one at least, and not that of the target")
    for index, column in enumerate(table["columns"]):
        if column["kind"] == "number":
            if (column["fill"] is None) != (table["missing"] == "refuse"):
                refuse(f"{place}.columns[{index}].fill", column["fill"], f"what goes with missing: {table['missing']}")
        else:
            if column["categories"] != sorted(set(column["categories"])):
                refuse(f"{place}.columns[{index}].categories", column["categories"], "different ones, sorted")
            if (column["missing"] == "refuse") != (table["missing"] == "refuse"):
                refuse(f"{place}.columns[{index}].missing", column["missing"], f"what goes with {table['missing']}")
    features = feature_names(table["columns"])
    if table["features"] != features or len(set(features)) < len(features):
        refuse(f"{place}.features", table["features"], f"the {len(features)} different ones that the columns give")
