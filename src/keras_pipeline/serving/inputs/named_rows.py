"""Rows of a table as JSON objects, their columns by name, as the features that a network takes."""

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pipeline.data.encoding import CategoryColumn, NumberColumn, encode
from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.inputs.values import is_float32, refuse, require_few, shown
from keras_pipeline.serving.network import Network

Column = NumberColumn | CategoryColumn


def is_named(inputs: Any) -> bool:
    """Whether this is a row with its columns by name, or a list of such."""
    return type(inputs) is dict or (type(inputs) is list and bool(inputs) and type(inputs[0]) is dict)


def pack_rows(network: Network, inputs: Any, place: str) -> bytes:
    """A row {"age": 41, "city": null, …}, or a list of such, as raw inputs; other keys are left out. Raises Refused
    with the row and the column of the first value that is wrong or not there."""
    given: Any = network.manifest["input"]
    rows, one = ([inputs], True) if type(inputs) is dict else (inputs, False)
    require_few(len(rows))
    columns: Sequence[Column] = given["columns"]
    values: dict[str, Any] = {column["name"]: [] for column in columns}
    for index, row in enumerate(rows):
        where = place if one else f"{place}[{index}]"
        if type(row) is not dict:
            refuse(where, row, "an object, as the others are")
        for column in columns:
            values[column["name"]].append(_value(row, column, where))
    for column in columns:
        if column["kind"] == "number":
            values[column["name"]] = np.array(values[column["name"]], np.float64)
    features = encode(columns, values).astype("<f4")
    return features.tobytes()


def _value(row: dict[str, Any], column: Column, where: str) -> Any:
    """As `encode` takes it: a number, NaN where it is missing, or a text, None where it is missing."""
    name = column["name"]
    if name not in row:
        near = difflib.get_close_matches(name, [*row][:100], 1)
        hint = f" Is it called {shown(near[0])} there?" if near else ""
        raise Refused(422, f"{where}: the column {shown(name)} is missing. Expected: it, or null.{hint}")
    value, place = row[name], f"{where}[{shown(name)}]"
    if column["kind"] == "number":
        if value is None and column["fill"] is not None:
            return np.nan
        if type(value) not in (int, float) or not is_float32(value):
            refuse(place, value, "a number of 32 bits" + ("" if column["fill"] is None else ", or null"))
        return value
    if value is None and column["missing"] != "refuse":
        return None
    if type(value) is int and str(value) in column["categories"]:
        return str(value)
    if type(value) is not str:
        refuse(place, value, "text" + ("" if column["missing"] == "refuse" else ", or null"))
    return value.strip() or _value({name: None}, column, where)
