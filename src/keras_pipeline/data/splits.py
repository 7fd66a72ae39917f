"""The train/validation split, and the arrays of a split on disk."""

import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import files, process
from keras_pipeline.core.errors import DataError
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.statistics import DatasetDescription

Labels = NDArray[np.uint8]


def stratified_split(labels: Labels, validation_share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the training and the validation images, each ascending, disjoint, together all.

    Drawn at random from each class, so that every class has the same share in both, to within one image;
    round(n × share) validation images in all. A function of its arguments only.
    """
    validation = _drawn(labels, validation_share, np.random.default_rng([seed, 0]))
    return np.setdiff1d(np.arange(len(labels)), validation), validation


def stratified_part(labels: Labels, count: int, seed: int) -> NDArray[np.int64]:
    """Indices of `count` images, ascending, as `stratified_split` draws them. A smaller part lies within a larger
    one, but for at most one image of each class."""
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
    """Normalized images, float32 (n, height, width, 1), and their labels, int64 (n,); of a table the normalized
    features, float32 (n, features), and targets, float32 (n,)."""

    inputs: NDArray[np.float32]
    targets: NDArray[Any]


def count_overlap(images: NDArray[Any], others: NDArray[Any]) -> int:
    """How many of `others` are, byte for byte, among `images`; both (n, height, width), or rows (n, features)."""
    asked = [other.tobytes() for other in others]
    wanted = set(asked)
    found = {content for image in images if (content := image.tobytes()) in wanted}
    return sum(content in found for content in asked)


def write_split(
    folder: Path, name: str, pixels: Iterable[NDArray[Any]], labels: NDArray[Any], scaling: Scaling
) -> dict[str, str]:
    """Write {name}_images.npy, scaled, and {name}_labels.npy; the SHA-256 of each by file name. Where the labels are
    float32, the files are {name}_features.npy and {name}_targets.npy.

    One block of images (n, height, width), or of rows, is in memory at a time; in all there are as many as labels.
    """
    scaled = (scaling.apply(block) for block in pixels)
    numbers = labels.dtype == np.float32
    inputs, answers = ("features", "targets") if numbers else ("images", "labels")
    return {
        path.name: _write(path, len(labels), arrays)
        for path, arrays in (
            (folder / f"{name}_{inputs}.npy", scaled),
            (folder / f"{name}_{answers}.npy", iter([labels if numbers else labels.astype(np.int64)])),
        )
    }


def split_files(statistics: DatasetDescription, name: str) -> list[str]:
    """The names of a split's two files, the inputs first."""
    return [file for file in statistics["sha256"] if file.startswith(f"{name}_")]


def _write(path: Path, count: int, arrays: Iterator[NDArray[Any]]) -> str:
    """As numpy.save, of arrays one after the other; the digest."""
    first = next(arrays)
    header = {"descr": first.dtype.str, "fortran_order": False, "shape": (count, *first.shape[1:])}
    digest = hashlib.sha256()
    with files.writing_atomically(path, first.nbytes // max(1, len(first)) * count) as file:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, header)
        for content in itertools.chain([buffer.getbuffer()], (one.data for one in itertools.chain([first], arrays))):
            digest.update(content)
            file.write(content)
    return digest.hexdigest()


def read_split(folder: Path, name: str, statistics: DatasetDescription) -> Split:
    """A split as `write_split` left it, its images left on disk and mapped into memory, whose pages the system
    may share and take back; raises DataError when a file is not the one that `statistics` names."""
    with process.time_part("data"):
        images, labels = (_read(folder / file, statistics) for file in split_files(statistics, name))
        return Split(images, np.array(labels))


def _read(path: Path, statistics: DatasetDescription) -> NDArray[Any]:
    expected = statistics["sha256"][path.name]
    if not path.is_file() or files.file_sha256(path) != expected:
        raise DataError(
            f"{path}: not the file that the stage 'normalize' wrote (its SHA-256 should be {expected[:12]}…). "
            "Run `dvc repro normalize` to have it written again."
        )
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
