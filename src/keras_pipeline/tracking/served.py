"""What answers where MLflow serves a logged network: what is raw is checked, scaled as in training, and given to it.

MLflow keeps this file with the network and runs it where keras-pipeline is not installed: it imports nothing of it.
The model has no input signature of MLflow's. Of images its scoring server would make whole numbers of 0.5 and of "7"
before anybody could refuse them; of tables MLflow refuses whole numbers of 64 bits, as pandas reads them, where a
double is expected, and gaps where a whole number is.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from numpy.typing import NDArray

BATCH, BATCH_BYTES = 1000, 16 * 2**20
"""So many inputs does the network get at a time, of large ones as many as take so many bytes in float32."""
Input = Mapping[str, Any]
"""What an input is, as statistics.json has it: images, or the columns of a table."""


def described(given: Input) -> str:
    """What a network of this input takes, in words."""
    if given["kind"] == "images":
        height, width, channels = given["shape"]
        shape = f"(n, {height}, {width}{f', {channels}' if channels > 1 else ''})"
        kind = "numbers" if given["dtype"] == "<f4" else "whole numbers"
        return f"raw pixels, {kind} {given['low']:g} … {given['high']:g} of any type, shape {shape}"
    names = [f"{one['name']} ({'text' if one['kind'] == 'category' else 'number'})" for one in given["columns"]]
    array = f", or numbers of the shape (n, {len(names)})" if _only_numbers(given) else ""
    return f"a DataFrame with the columns {', '.join(names)}{array}"


def example(given: Input) -> "NDArray[Any] | pd.DataFrame":
    """One raw input."""
    if given["kind"] == "images":
        height, width, channels = given["shape"]
        return np.full((1, height, width, *((channels,) if channels > 1 else ())), given["low"], given["dtype"])
    return pd.DataFrame(
        {
            one["name"]: [(one["categories"] or ["text"])[0] if one["kind"] == "category" else one["fill"] or 0.0]
            for one in given["columns"]
        }
    )


def pixels(inputs: Any, given: Input) -> NDArray[Any]:
    """Images (n, height, width, channels) as the dataset has them, of an array or nested lists of numbers; of an empty
    list no image. Raises MlflowException where they are no raw pixels."""
    expected, (height, width, channels) = described(given), given["shape"]
    if isinstance(inputs, pd.DataFrame):
        raise _refused(f"a DataFrame {inputs.shape}", expected, "Give an array, such as frame.to_numpy().reshape(…).")
    array = _numbers(inputs, expected)
    if array.shape == (0,):
        array = array.reshape(0, height, width, channels)
    if channels == 1 and array.shape[1:] == (height, width):
        array = array[..., np.newaxis]
    if array.shape[1:] != (height, width, channels):
        one = (height, width, channels) if channels > 1 else (height, width)
        raise _refused(f"the shape {array.shape}", expected, _way_out(array.shape, one))
    right = (array >= given["low"]) & (array <= given["high"])
    if given["dtype"] != "<f4":
        right &= array == np.floor(array)
    if not right.all():
        number, row, column, channel = np.argwhere(~right)[0].tolist()
        small = given["high"] > 1 and (np.nanmax(array) <= 1 or np.nanmin(array) < 0)
        where = f", channel {channel}" if channels > 1 else ""
        raise _refused(
            f"{array[number, row, column, channel]} in image {number}, row {row}, column {column}{where}",
            expected,
            f"{'They seem to be scaled: g' if small else 'G'}ive the pixels as the dataset has them; the network scales"
            " them itself.",
        )
    return array.astype(given["dtype"])


def features(inputs: Any, given: Input) -> NDArray[np.float64]:
    """Rows (n, features), not scaled yet: gaps filled, categories as 0 and 1.

    `inputs`: a DataFrame, whose columns may stand in any order, others among them; or of numbers alone an array or
    nested lists, the columns in their order; of an empty list no row. Raises MlflowException where they are no raw
    rows.
    """
    expected, columns = described(given), given["columns"]
    names = [one["name"] for one in columns]
    if isinstance(inputs, pd.DataFrame):
        if list(inputs.columns) == list(range(len(names))) and _only_numbers(given):
            inputs = inputs.set_axis(names, axis=1)  # such as pandas makes of an array
        if lacking := [name for name in names if name not in inputs.columns]:
            there = ", ".join(map(str, inputs.columns))
            raise _refused(f"a DataFrame with the columns {there}; {lacking[0]} is missing", expected, "Rename them.")
        parts = [_feature(inputs[one["name"]], one, expected) for one in columns]
        return np.concatenate(parts, axis=1) if len(inputs) else np.zeros((0, len(given["features"])))
    if not _only_numbers(given):
        raise _refused(f"a {type(inputs).__name__}", expected, "Give a DataFrame: columns go by their names.")
    array = _numbers(inputs, expected)
    if array.shape == (0,):
        array = array.reshape(0, len(names))
    if array.shape[1:] != (len(names),):
        raise _refused(f"the shape {array.shape}", expected, _way_out(array.shape, (len(names),)))
    filled = [_filled(array[:, index].astype(np.float64), one, expected) for index, one in enumerate(columns)]
    return np.stack(filled, axis=1) if len(array) else np.zeros(array.shape)


def _only_numbers(given: Input) -> bool:
    return all(one["kind"] == "number" for one in given["columns"])


def _feature(column: Any, one: Mapping[str, Any], expected: str) -> NDArray[np.float64]:
    """The features (n, k) of a column of a DataFrame: data/encoding.py does the same in training."""
    if one["kind"] == "number":
        gaps = column.isna()
        kinds = {type(value) for value in column[~gaps]} if column.dtype == object else set()
        if kinds and all(issubclass(kind, int | float | np.number) and kind is not bool for kind in kinds):
            column = column.where(~gaps, np.nan).astype(np.float64)  # of numbers beside None
        if getattr(column.dtype, "kind", "O") not in "uifb" and not gaps.all():
            raise _refused(f"values in the column {one['name']} of the type {column.dtype}", expected, CONVERT)
        return _filled(column.to_numpy(np.float64, na_value=np.nan), one, expected)[:, np.newaxis]
    known = {category: code for code, category in enumerate(one["categories"])}
    texts = [None if gap else _text(value, known) for value, gap in zip(column, column.isna(), strict=True)]
    if one["missing"] == "value":
        known[None] = len(known)
    elif one["missing"] == "refuse" and None in texts:
        raise _refused(f"nothing in row {texts.index(None)}, column {one['name']}", expected, FILL)
    encoded = np.zeros((len(texts), len(known) + 1))
    for row, text in enumerate(texts):
        if text is Ellipsis:
            raise _refused(
                f"{column.iloc[row]} in row {row}, column {one['name']}", expected, "Give texts: column.astype(str)."
            )
        encoded[row, known.get(text, len(known))] = 1
    return encoded


CONVERT = "Convert them to numbers first."
FILL = "Leave out such rows, or fill them in."


def _text(value: Any, known: Mapping[Any, int]) -> Any:
    """A category as text; a whole number is one where its text is known, and all else is none (Ellipsis)."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | np.bool_):
        return str(value) if str(value) in known else ...
    if isinstance(value, int | float | np.number) and float(value).is_integer():
        return str(int(value)) if str(int(value)) in known else ...
    return ...


def _filled(numbers: NDArray[np.float64], one: Mapping[str, Any], expected: str) -> NDArray[np.float64]:
    gaps = np.isnan(numbers)
    with np.errstate(over="ignore"):
        wrong = ~np.isfinite(numbers.astype(np.float32)) & (~gaps if one["fill"] is not None else True)
    if wrong.any():
        row = int(wrong.argmax())
        raise _refused(
            f"{numbers[row]} in row {row}, feature {one['name']}", expected, f"{FILL} Numbers up to 3e38 are finite."
        )
    return np.where(gaps, one["fill"] or 0.0, numbers)


def _numbers(inputs: Any, expected: str) -> NDArray[Any]:
    """As an array of whole or decimal numbers."""
    if not isinstance(inputs, np.ndarray | list | tuple):
        raise _refused(f"a {type(inputs).__name__}", expected, "Give an array, or nested lists.")
    try:
        array = np.asarray(inputs)
    except ValueError:
        raise _refused("lists of unequal lengths", expected, "Give lists of one length at each depth.") from None
    if array.dtype.kind not in "uif":
        raise _refused(f"values of the type {array.dtype}", expected, CONVERT)
    return array


def _way_out(shape: tuple[int, ...], one: tuple[int, ...]) -> str:
    """How data of this shape become a batch of such inputs."""
    size = int(np.prod(one))
    likely = {one, (*one, 1), (size,)}
    if shape in likely or shape[1:] in likely or (size == 1 and len(shape) == 1):
        return f"Give array.reshape(-1, {', '.join(map(str, one))})."
    return "Give inputs of the size that the network was trained on."


def _refused(received: str, expected: str, way_out: str) -> MlflowException:
    return MlflowException(f"Received: {received}. Expected: {expected}. {way_out}", INVALID_PARAMETER_VALUE)


def scaled(raw: NDArray[Any], scaling: Mapping[str, Any]) -> NDArray[np.float32]:
    """As data/scaling.py does it in training, by NumPy: a compiled graph would give other last bits."""
    if raw.dtype == np.float64:
        columns: NDArray[np.float32] = ((raw - np.asarray(scaling["offset"])) / np.asarray(scaling["divisor"])).astype(
            np.float32
        )
        return columns
    numbers: NDArray[np.float32] = np.array(raw, np.float32)
    numbers -= np.float32(scaling["offset"])
    numbers /= np.float32(scaling["divisor"])
    return numbers


def answer(network: Any, inputs: Any, dataset: Mapping[str, Any]) -> NDArray[np.float32]:
    """The outputs of a Keras network, float32 (n, outputs), a number in its own units, for raw inputs of the dataset
    with this description. Raises MlflowException where they are none."""
    given = dataset["input"]
    raw = pixels(inputs, given) if given["kind"] == "images" else features(inputs, given)
    size = max(1, min(BATCH, BATCH_BYTES // (4 * int(np.prod(network.input_shape[1:])))))
    parts = [np.empty((0, network.output_shape[-1]), np.float32)]
    for start in range(0, len(raw), 20 * size):
        some = scaled(raw[start : start + 20 * size], dataset["scaling"])
        parts.append(network.predict(some, batch_size=size, verbose=0))
    outputs = np.concatenate(parts)
    if target := dataset["target"]:
        outputs = (outputs.astype(np.float64) * target["divisor"] + target["offset"]).astype(np.float32)
    return outputs


def answer_table(outputs: NDArray[np.float32], class_names: Sequence[str], target: str) -> pd.DataFrame:
    """Outputs with names: label and probability of each class, or the number."""
    if not class_names:
        return pd.DataFrame({f"predicted {target}": outputs[:, 0]})
    shares = np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs
    labels = outputs[:, 0] > 0.5 if outputs.shape[1] == 1 else shares.argmax(axis=1)
    named = {f"probability of {name}": shares[:, index] for index, name in enumerate(class_names)}
    return pd.DataFrame({"label": [class_names[int(label)] for label in labels], **named})


class Served(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """The network of the artifact `network` behind these checks; the artifact `description` says of its dataset what
    statistics.json does."""

    _skip_type_hint_validation = True  # else MLflow warns of whatever `predict` says, or not, of its types

    def load_context(self, context: Any) -> None:
        """Load the network."""
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        import keras

        self.dataset = json.loads(Path(context.artifacts["description"]).read_text(encoding="utf-8"))
        self.network = keras.saving.load_model(context.artifacts["network"], compile=False)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """The outputs of `pixels` or `features`, float32 (n, outputs), a number in its own units; to a DataFrame one
        with the columns of `answer_table`."""
        outputs = answer(self.network, model_input, self.dataset)
        if isinstance(model_input, pd.DataFrame):
            return answer_table(outputs, self.dataset["class_names"], self.dataset["input"]["target"])
        return outputs


mlflow.models.set_model(Served())
