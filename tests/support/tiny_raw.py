"""data/raw as fetch leaves it, of arrays given or of noise, written by what fetch writes it with."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.sources import dataset_file, raw_writer
from keras_pipeline.sources.kinds.kind import Examples, Split
from keras_pipeline.sources.raw import RawDescription


class Blocks:
    """`kind.Images` of an array, so many at a time; `damaged`: why some are left out, by index."""

    low, high = 0.0, 255.0

    def __init__(self, images: NDArray[Any], at_once: int = 7, damaged: dict[int, str] | None = None) -> None:
        self.images, self.at_once, self.damaged = images, at_once, damaged or {}
        self.dtype = images.dtype.str

    def blocks(self, done: int = 0) -> Iterator[tuple[NDArray[Any], list[str | None]]]:
        for start in range(done, len(self.images), self.at_once):
            own = self.images[start : start + self.at_once]
            yield own, [self.damaged.get(start + index) for index in range(len(own))]


def noise(count: int, shape: Sequence[int] = (28, 28, 1), seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def write_raw(
    folder: Path, name: str = "tiny", train: int = 6, test: int = 3, shape: Sequence[int] = (28, 28, 1)
) -> RawDescription:
    """Of noise, with ten classes."""
    count = train + test
    labels = np.random.default_rng(1).integers(0, 10, count).astype(np.int64)
    splits: list[Split] = [*["train"] * train, *["test"] * test]  # type: ignore[list-item]
    places = [f"image {index}" for index in range(count)]
    return write_examples(folder, Examples(Blocks(noise(count, shape)), labels, places, splits), name)


def write_examples(folder: Path, examples: Examples, name: str = "tiny", **changes: Any) -> RawDescription:
    """Any examples, as of a dataset with these keys."""
    inputs: Any = examples.inputs
    keys = {"kind": "idx", "path": "x", "train": {"images": "a", "labels": "b"}, "classes": tuple("0123456789")}
    if hasattr(inputs, "images"):
        keys |= {"size": inputs.images.shape[1:3], "channels": inputs.images.shape[3]}
    kind = dataset_file.KINDS[0].model_validate({**keys, **changes})
    return raw_writer.write_raw(folder, name, kind, examples, definition="0" * 64)
