"""Checkpoints with arrays of every type."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from keras_pipeline.training.checkpoints import Checkpoints

IDENTITY: dict[str, Any] = {
    "params": {"train.epochs": 10, "train.optimizer.name": "adam", "model.layers": [], "seed": 1},
    "data": "ab" * 32,
    "code": "cd" * 32,
    "versions": {"keras": "3.15.1"},
}
DTYPES = ["float32", "float16", "bfloat16", "float64", "int32", "int64", "uint32", "uint8", "bool"]
Arrays = dict[str, NDArray[Any]]


def like(generation: int, size: int = 5) -> Arrays:
    """Arrays that tell their generation."""
    return {name: np.full(size, generation, "float32") for name in ("trainable/dense/kernel", "slots/0", "best")}


def save(training: Checkpoints, *generations: int) -> None:
    for generation in generations:
        training.save(like(generation), {"epoch": generation})


def epoch(training: Checkpoints) -> int | None:
    """The epoch of the latest checkpoint, whose arrays are all of it too; None: there is no checkpoint."""
    found = training.latest()
    if found is None:
        return None
    arrays, progress = found
    assert list(arrays) == list(like(0))
    for array in arrays.values():
        np.testing.assert_array_equal(array, np.full(array.shape, progress["epoch"], "float32"))
    return int(progress["epoch"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@st.composite
def array(draw: st.DrawFn) -> NDArray[Any]:
    """Any bits, NaNs of every kind among them, in any shape and memory layout."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    octets = np.frombuffer(draw(st.binary(min_size=count, max_size=count)), np.uint8)
    made = (octets % 2 if dtype.kind == "b" else octets).view(dtype).reshape(shape)
    return draw(st.sampled_from([made, np.asarray(made, order="F"), made.T, made[..., ::2] if shape else made]))
