"""What answers where MLflow serves a logged network: what is raw is checked, and given to the network.

MLflow keeps this file with the network and runs it where keras-pipeline is not installed: it imports nothing of it.
The model has no input signature of MLflow's, by which its scoring server would make whole numbers of 0.5 and of "7"
before anybody could refuse them.
"""

import os
from collections.abc import Sequence
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from numpy.typing import NDArray


def expected_pixels(height: int, width: int) -> str:
    """What the network of such images takes, in words."""
    return f"raw pixels, whole numbers 0 … 255 of any type, shape (n, {height}, {width})"


def expected_features(names: Sequence[str]) -> str:
    """What the network of a table with these features takes, in words."""
    return f"raw features, finite numbers, shape (n, {len(names)}), or a DataFrame with the columns {', '.join(names)}"


def pixels(inputs: Any, height: int, width: int) -> NDArray[np.uint8]:
    """Images as the network takes them, uint8 (n, height, width), of an array or nested lists of numbers; of an empty
    list no image. Raises MlflowException where they are no raw pixels."""
    expected = expected_pixels(height, width)
    if isinstance(inputs, pd.DataFrame):
        raise _refused(f"a DataFrame {inputs.shape}", expected, "Give an array, such as frame.to_numpy().reshape(…).")
    array = _numbers(inputs, expected)
    if array.shape == (0,):
        array = array.reshape(0, height, width)
    if array.shape[1:] != (height, width):
        raise _refused(f"the shape {array.shape}", expected, _way_out(array.shape, (height, width)))
    wrong = ~((array >= 0) & (array <= 255) & (array == np.floor(array)))
    if wrong.any():
        number, row, column = np.argwhere(wrong)[0].tolist()
        scaled = "They seem to be scaled: g" if np.nanmax(array) <= 1 or np.nanmin(array) < 0 else "G"
        raise _refused(
            f"{array[number, row, column]} in image {number}, row {row}, column {column}",
            expected,
            f"{scaled}ive the pixels as the dataset has them; the network scales them itself.",
        )
    return array.astype(np.uint8)


def features(inputs: Any, names: Sequence[str]) -> NDArray[np.float32]:
    """Rows as the network takes them, float32 (n, features), of an array, nested lists, or a DataFrame, whose columns
    may stand in any order; of an empty list no row. Raises MlflowException where they are no raw features."""
    expected = expected_features(names)
    if isinstance(inputs, pd.DataFrame):
        columns = list(inputs.columns)
        if columns != list(range(len(names))):  # such as pandas gives a DataFrame of an array
            lacking, unknown = (
                [one for one in names if one not in columns],
                [one for one in columns if one not in names],
            )
            if lacking or unknown or len(columns) != len(names):
                raise _refused(f"a DataFrame with the columns {', '.join(map(str, columns))}", expected, "Rename them.")
            inputs = inputs[list(names)]
        for name, kind in inputs.dtypes.items():
            _check_kind(kind, f"in the column {name} ", expected)
        inputs = inputs.to_numpy()
    array = _numbers(inputs, expected)
    if array.shape == (0,):
        array = array.reshape(0, len(names))
    if array.shape[1:] != (len(names),):
        raise _refused(f"the shape {array.shape}", expected, _way_out(array.shape, (len(names),)))
    with np.errstate(over="ignore"):
        rows = array.astype(np.float32)
    if len(wrong := np.argwhere(~np.isfinite(rows))):
        number, column = wrong[0].tolist()
        raise _refused(
            f"{array[number, column]} in row {number}, feature {names[column]}",
            expected,
            "Leave out such rows, or fill them in: numbers up to 3e38 are finite.",
        )
    return rows


def _numbers(inputs: Any, expected: str) -> NDArray[Any]:
    """As an array of whole or decimal numbers."""
    if not isinstance(inputs, np.ndarray | list | tuple):
        raise _refused(f"a {type(inputs).__name__}", expected, "Give an array, or nested lists.")
    try:
        array = np.asarray(inputs)
    except ValueError:
        raise _refused("lists of unequal lengths", expected, "Give lists of one length at each depth.") from None
    _check_kind(array.dtype, "", expected)
    return array


def _check_kind(kind: Any, where: str, expected: str) -> None:
    if getattr(kind, "kind", "O") not in "uif":
        raise _refused(f"values {where}of the type {kind}", expected, "Convert them to numbers first.")


def _way_out(shape: tuple[int, ...], one: tuple[int, ...]) -> str:
    """How data of this shape become a batch of such inputs."""
    size = int(np.prod(one))
    likely = {one, (*one, 1), (size,)}
    if shape in likely or shape[1:] in likely or (size == 1 and len(shape) == 1):
        return f"Give array.reshape(-1, {', '.join(map(str, one))})."
    return "Give inputs of the size that the network was trained on."


def _refused(received: str, expected: str, way_out: str) -> MlflowException:
    return MlflowException(f"Received: {received}. Expected: {expected}. {way_out}", INVALID_PARAMETER_VALUE)


class Served(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """The network of the artifact `network` behind these checks; `model_config` has the names of a table's features."""

    _skip_type_hint_validation = True  # else MLflow warns of whatever `predict` says, or not, of its types

    def load_context(self, context: Any) -> None:
        """Load the network."""
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        import keras

        self.network = keras.saving.load_model(context.artifacts["network"], compile=False)
        self.names = (context.model_config or {}).get("features")

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """The outputs, float32 (n, outputs), of `pixels` or `features`."""
        raw = features(model_input, self.names) if self.names else pixels(model_input, *self.network.input_shape[1:])
        if not len(raw):
            return np.empty((0, self.network.output_shape[-1]), np.float32)
        return self.network.predict(raw, verbose=0)


mlflow.models.set_model(Served())
