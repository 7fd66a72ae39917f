"""The scaling of raw images and table columns: its constants, fitted on the training split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.data.encoding import CategoryColumn, NumberColumn, Values, feature_names, filled_numbers
from keras_pipeline.data.statistics import ScalingConstants

Pixels = NDArray[Any]
"""Raw images (n, height, width, channels) of 8 or 16 bits or float32."""


@dataclass(frozen=True)
class Scaling:
    """value = (raw - offset) / divisor: the same numbers for every pixel, or for every row of a table, a number for
    each of its columns."""

    name: str
    offset: Any
    divisor: Any

    def apply(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """As float32: images computed in float32, the rows or one column of a table in float64.

        Never in a compiled graph: compilers multiply by the reciprocal, which gives other last bits.
        """
        if raw.dtype == np.float64 or isinstance(self.offset, list):
            columns: NDArray[np.float32] = ((raw - self.offset) / np.asarray(self.divisor)).astype(np.float32)
            return columns
        scaled: NDArray[np.float32] = np.array(raw, np.float32)
        scaled -= np.float32(self.offset)
        scaled /= np.float32(self.divisor)
        return scaled

    def constants(self) -> ScalingConstants:
        """As they are recorded."""
        return {"name": self.name, "offset": self.offset, "divisor": self.divisor}

    def undo(self, scaled: NDArray[Any]) -> NDArray[np.float64]:
        """What was raw, of a table, as float64."""
        raw: NDArray[np.float64] = scaled.astype(np.float64) * self.divisor + np.asarray(self.offset)
        return raw


def fit_scaling(name: str, images: Iterable[Pixels], low: float = 0.0, high: float = 255.0) -> Scaling:
    """The scaling of that name, its constants fitted on `images`, block by block: those of the training split only.

    none: as they are; unit: `low` and `high`, the ends of the range of a pixel, to 0 and 1; symmetric: to -1 and 1;
    standard: mean 0 and standard deviation 1 over all pixels together (all-equal images: divided by 1).
    """
    if name == "standard":
        mean, deviation = _moments(images)
        return Scaling(name, mean, deviation or 1.0)
    middle, reach = (low + high) / 2, (high - low) / 2
    return Scaling(name, *{"none": (0.0, 1.0), "unit": (low, high - low), "symmetric": (middle, reach)}[name])


def _moments(images: Iterable[Pixels]) -> tuple[float, float]:
    """Mean and standard deviation of all pixels, from one pass, no large float array."""
    counts, parts = np.zeros(0, np.int64), []
    for block in images:
        pixels = block.reshape(-1)
        if pixels.dtype.kind == "f":
            parts.append((pixels.size, pixels.mean(dtype=np.float64), pixels.var(dtype=np.float64)))
        elif len(counts):
            counts += np.bincount(pixels, minlength=len(counts))
        else:
            counts = np.bincount(pixels, minlength=2 ** (8 * pixels.itemsize))
    if parts:
        sizes, means, variances = np.array(parts, np.float64).T
        mean = float(np.average(means, weights=sizes))
        return mean, float(np.sqrt(np.average(variances + (means - mean) ** 2, weights=sizes)))
    # From how often each value is there: exact in whole numbers.
    values = np.arange(len(counts))
    mean = float((counts * values).sum() / counts.sum())
    return mean, float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum()))


def fit_columns(name: str, columns: NDArray[np.float64]) -> Scaling:
    """The scaling of that name with constants for each column of a table (n, columns), or for one column (n,).

    none: as they are; unit: least and greatest value to 0 and 1; symmetric: to -1 and 1; standard: mean 0 and standard
    deviation 1 (where all are equal: divided by 1).
    """
    low, high = columns.min(axis=0), columns.max(axis=0)
    offset, divisor = {
        "none": (np.zeros_like(low), np.ones_like(low)),
        "unit": (low, high - low),
        "symmetric": ((low + high) / 2, (high - low) / 2),
        "standard": (columns.mean(axis=0), columns.std(axis=0)),
    }[name]
    return Scaling(name, offset.tolist(), np.where(divisor == 0, 1.0, divisor).tolist())


def fit_features(
    name: str, columns: Sequence[NumberColumn | CategoryColumn], values: Values, rows: NDArray[np.int64]
) -> Scaling:
    """The scaling of that name with constants for each feature of a table: those of numbers fitted on these rows, their
    missing values filled; what is 0 or 1 stays so."""
    numbers = [column for column in columns if column["kind"] == "number"]
    fitted = Scaling(name, [], [])
    if numbers:
        fitted = fit_columns(name, np.column_stack([filled_numbers(one, values[one["name"]])[rows] for one in numbers]))
    constants = iter(zip(fitted.offset, fitted.divisor, strict=True))
    pairs: list[tuple[float, float]] = []
    for column in columns:
        pairs += [next(constants)] if column["kind"] == "number" else [(0.0, 1.0)] * len(feature_names([column]))
    return Scaling(name, [offset for offset, _ in pairs], [divisor for _, divisor in pairs])
