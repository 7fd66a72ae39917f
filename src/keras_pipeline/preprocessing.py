"""From raw images to what a network is fed: the train/validation split, the scaling, and the arrays on disk."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline import files, spent
from keras_pipeline.errors import DataError

Labels = NDArray[np.uint8]
Pixels = NDArray[np.uint8]


def stratified_split(labels: Labels, validation_share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the training and the validation images, each ascending, disjoint, together all.

    Drawn at random from each class, so that every class has the same share in both, to within one image;
    round(n × share) validation images in all. A function of its arguments only.
    """
    random = np.random.default_rng([seed, 0])
    classes, counts = np.unique(labels, return_counts=True)
    quota = counts * validation_share
    takes = np.floor(quota).astype(int)
    # Largest remainders: the images still missing from the rounded total go to the classes that lost most.
    missing = round(len(labels) * validation_share) - takes.sum()
    takes[np.argsort(takes - quota, kind="stable")[:missing]] += 1
    validation = np.sort(
        np.concatenate(
            [random.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, takes, strict=True)]
        )
    )
    return np.setdiff1d(np.arange(len(labels)), validation), validation


@dataclass(frozen=True)
class Split:
    """Normalized images, float32 (n, height, width, 1), and their labels, int64 (n,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Scaling:
    """value = (pixel - offset) / divisor, the same for every pixel; pixels are 0 … 255."""

    name: str
    offset: float
    divisor: float

    def apply(self, images: Pixels) -> NDArray[np.float32]:
        """Images (n, height, width) as float32 (n, height, width, 1)."""
        scaled = images[..., np.newaxis].astype(np.float32)
        scaled -= np.float32(self.offset)
        scaled /= np.float32(self.divisor)
        return scaled


def fit_scaling(name: str, images: Pixels) -> Scaling:
    """The scaling of that name, its constants fitted on `images`, which must be the training split only.

    none: 0 … 255; unit: 0 … 1; symmetric: -1 … 1; standard: mean 0 and standard deviation 1 over all
    pixels together (all-equal images: divided by 1).
    """
    if name == "standard":
        # Moments from the histogram of the 256 values: exact in whole numbers, no large float array.
        counts = np.bincount(images.reshape(-1), minlength=256)
        values = np.arange(256)
        mean = float((counts * values).sum() / counts.sum())
        deviation = float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum()))
        return Scaling(name, mean, deviation or 1.0)
    return Scaling(name, *{"none": (0.0, 1.0), "unit": (0.0, 255.0), "symmetric": (127.5, 127.5)}[name])


def overlap(images: Pixels, others: Pixels) -> int:
    """How many of `others` are, pixel for pixel, among `images`; both (n, height, width)."""
    known = {image.tobytes() for image in images}
    return sum(image.tobytes() in known for image in others)


STATISTICS = ("dataset", "class_names", "scaling", "images", "sha256")
"""What the later stages read of statistics.json."""


def write_split(folder: Path, name: str, split: Split) -> dict[str, str]:
    """Write {name}_images.npy and {name}_labels.npy; the SHA-256 of each by file name."""
    digests = {}
    for kind, array in (("images", split.images), ("labels", split.labels)):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        path = folder / f"{name}_{kind}.npy"
        files.write_atomically(path, buffer.getbuffer())
        digests[path.name] = hashlib.sha256(buffer.getbuffer()).hexdigest()
    return digests


def read_split(folder: Path, name: str, statistics: dict[str, Any]) -> Split:
    """A split as `write_split` left it; raises DataError when a file is not the one that `statistics` names."""
    with spent.on("data"):
        return Split(*(_read(folder / f"{name}_{kind}.npy", statistics) for kind in ("images", "labels")))


def _read(path: Path, statistics: dict[str, Any]) -> NDArray[Any]:
    expected = statistics["sha256"][path.name]
    if not path.is_file() or files.sha256(path) != expected:
        raise DataError(
            f"{path}: not the file that the stage 'normalize' wrote (its SHA-256 should be {expected[:12]}…). "
            "Run `dvc repro normalize` to have it written again."
        )
    array: NDArray[Any] = np.load(path, allow_pickle=False)
    return array
