"""From raw images to what a network is fed: the train/validation split, the scaling, and the arrays on disk."""

import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator
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
    validation = _drawn(labels, validation_share, np.random.default_rng([seed, 0]))
    return np.setdiff1d(np.arange(len(labels)), validation), validation


def stratified_part(labels: Labels, count: int, seed: int) -> NDArray[np.int64]:
    """Indices of `count` images, ascending, as `stratified_split` draws them; fewer are, but for one a class, among
    more."""
    return _drawn(labels, count / len(labels), np.random.default_rng([seed, 1]))


def _drawn(labels: Labels, share: float, random: np.random.Generator) -> NDArray[np.int64]:
    classes, counts = np.unique(labels, return_counts=True)
    quota = counts * share
    takes = np.floor(quota).astype(int)
    # Largest remainders: the images still missing from the rounded total go to the classes that lost most.
    missing = round(len(labels) * share) - takes.sum()
    takes[np.argsort(takes - quota, kind="stable")[:missing]] += 1
    drawn = [random.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, takes, strict=True)]
    return np.sort(np.concatenate(drawn))


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


BLOCK = 8192


def blocks(images: Pixels, chosen: NDArray[np.int64]) -> Iterator[Pixels]:
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


def overlap(images: Pixels, others: Pixels) -> int:
    """How many of `others` are, pixel for pixel, among `images`; both (n, height, width)."""
    asked = [other.tobytes() for other in others]
    wanted = set(asked)
    found = {content for image in images if (content := image.tobytes()) in wanted}
    return sum(content in found for content in asked)


STATISTICS = ("dataset", "class_names", "scaling", "images", "sha256")
"""What the later stages read of statistics.json."""


def write_split(folder: Path, name: str, pixels: Iterable[Pixels], labels: Labels, scaling: Scaling) -> dict[str, str]:
    """Write {name}_images.npy, scaled, and {name}_labels.npy; the SHA-256 of each by file name.

    One block of images (n, height, width) is in memory at a time; in all there are as many as labels.
    """
    scaled = (scaling.apply(block) for block in pixels)
    return {
        path.name: _write(path, len(labels), arrays)
        for path, arrays in (
            (folder / f"{name}_images.npy", scaled),
            (folder / f"{name}_labels.npy", iter([labels.astype(np.int64)])),
        )
    }


def _write(path: Path, count: int, arrays: Iterator[NDArray[Any]]) -> str:
    """As numpy.save, of arrays one after the other; the digest."""
    first = next(arrays)
    header = {"descr": first.dtype.str, "fortran_order": False, "shape": (count, *first.shape[1:])}
    digest = hashlib.sha256()
    with files.writing_atomically(path) as file:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, header)
        for content in itertools.chain([buffer.getbuffer()], (one.data for one in itertools.chain([first], arrays))):
            digest.update(content)
            file.write(content)
    return digest.hexdigest()


def read_split(folder: Path, name: str, statistics: dict[str, Any]) -> Split:
    """A split as `write_split` left it, its images left on disk and mapped into memory, where they take none that
    another process could not have; raises DataError when a file is not the one that `statistics` names."""
    with spent.on("data"):
        images, labels = (_read(folder / f"{name}_{kind}.npy", statistics) for kind in ("images", "labels"))
        return Split(images, np.array(labels))


def _read(path: Path, statistics: dict[str, Any]) -> NDArray[Any]:
    expected = statistics["sha256"][path.name]
    if not path.is_file() or files.sha256(path) != expected:
        raise DataError(
            f"{path}: not the file that the stage 'normalize' wrote (its SHA-256 should be {expected[:12]}…). "
            "Run `dvc repro normalize` to have it written again."
        )
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
