"""The scaling of raw images and table columns: its constants, fitted on the training split."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.data.encoding import CategoryColumn, NumberColumn, Values, feature_names, filled_numbers
from keras_pipeline.data.statistics import ScalingConstants

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Scaling:
    """value = (raw - offset) / divisor: the same numbers for every pixel, which are 0 … 255, or for every row of a
    table, a number for each of its columns."""

    name: str
    offset: Any
    divisor: Any

    def apply(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Images uint8 (n, height, width) as float32 (n, height, width, 1); rows or one column, as float32."""
        if raw.dtype != np.uint8:
            columns: NDArray[np.float32] = ((raw - self.offset) / np.asarray(self.divisor)).astype(np.float32)
            return columns
        scaled = raw[..., np.newaxis].astype(np.float32)
        scaled -= np.float32(self.offset)
        scaled /= np.float32(self.divisor)
        return scaled

    def constants(self) -> ScalingConstants:
        """As they are recorded."""
        return {"name": self.name, "offset": self.offset, "divisor": self.divisor}

    def range(self) -> tuple[float, float]:
        """The least and the greatest value that a pixel is scaled to."""
        ends = self.apply(np.array([[[0, 255]]], np.uint8))
        return float(ends.min()), float(ends.max())

    def undo(self, scaled: NDArray[Any]) -> NDArray[np.float64]:
        """What was raw, of a table, as float64."""
        raw: NDArray[np.float64] = scaled.astype(np.float64) * self.divisor + np.asarray(self.offset)
        return raw


BLOCK = 8192


def read_blocks(images: Pixels, chosen: NDArray[np.int64]) -> Iterator[Pixels]:
    """The chosen images in their order, not many at a time: `images` may lie on disk."""
    for start in range(0, len(chosen), BLOCK):
        yield images[chosen[start : start + BLOCK]]


def fit_scaling(name: str, images: Iterable[Pixels]) -> Scaling:
    """The scaling of that name, its constants fitted on `images`, block by block: those of the training split only.

    none: 0 … 255; unit: 0 … 1; symmetric: -1 … 1; standard: mean 0 and standard deviation 1 over all
    pixels together (all-equal images: divided by 1).
    """
    if name == "standard":
        # Moments from the histogram of the 256 values: exact in whole numbers, no large float array.
        counts = np.sum([np.bincount(block.reshape(-1), minlength=256) for block in images], axis=0)
        values = np.arange(256)
        mean = float((counts * values).sum() / counts.sum())
        deviation = float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum()))
        return Scaling(name, mean, deviation or 1.0)
    return Scaling(name, *{"none": (0.0, 1.0), "unit": (0.0, 255.0), "symmetric": (127.5, 127.5)}[name])


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
