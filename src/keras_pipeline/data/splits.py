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
from keras_pipeline.core.array_files import Expected, map_array
from keras_pipeline.core.errors import DataError
from keras_pipeline.data.scaling import BLOCK, Scaling
from keras_pipeline.data.statistics import DatasetDescription, Statistics

Labels = NDArray[np.uint8]
FINITE = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))


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
    return sorted(file for file in statistics["sha256"] if file.startswith(f"{name}_"))


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


def read_split(folder: Path, name: str, statistics: Statistics) -> Split:
    """A split as `write_split` left it, its images left on disk and mapped into memory, whose pages the system
    may share and take back.

    Raises DataError when a file is not the one that `statistics` names, or holds what no scaling of its dataset gives:
    another kind, shape or order, a number that is not finite or out of range, a label of no class, other counts.
    """
    with process.time_part("data"):
        of_inputs, of_targets = split_files(statistics, name)
        count, classes = statistics["images"][name], len(statistics["class_names"])
        inputs = _read(folder / of_inputs, Expected("<f4", (count, *statistics["shape"])), statistics)
        targets = np.array(_read(folder / of_targets, Expected("<i8" if classes else "<f4", (count,)), statistics))
        _check_range(folder / of_inputs, inputs, *(Scaling(**statistics["scaling"]).range() if classes else FINITE))
        _check_range(folder / of_targets, targets, *((0, classes - 1) if classes else FINITE))
        if classes and (counts := np.bincount(targets, minlength=classes).tolist()) != statistics["class_counts"][name]:
            raise DataError(
                f"{folder / of_targets}: got {counts} of the classes. Expected: {statistics['class_counts'][name]}, as "
                f"statistics.json has it. {files.remedy('normalize')}"
            )
        return Split(inputs, targets)


def _read(path: Path, expected: Expected, statistics: DatasetDescription) -> NDArray[Any]:
    digest = statistics["sha256"][path.name]
    if not path.is_file() or files.file_sha256(path) != digest:
        raise DataError(
            f"{path}: not the file that the stage 'normalize' wrote (its SHA-256 should be {digest[:12]}…). "
            "Run `dvc repro normalize` to have it written again."
        )
    return map_array(path, expected, "normalize")


def _check_range(path: Path, array: NDArray[Any], low: float, high: float) -> None:
    """Raise DataError with the index of a value that is not finite, or not from `low` to `high`."""
    for start in range(0, len(array), BLOCK):
        block = array[start : start + BLOCK]
        if not (low <= block.min() and block.max() <= high):  # not so with NaN either
            first = np.argwhere(~((low <= block) & (block <= high)))[0]
            index = [start + int(first[0]), *map(int, first[1:])]
            raise DataError(
                f"{path}{index}: got {block[tuple(first)]}. Expected: a number from {low:g} to {high:g}. "
                f"{files.remedy('normalize')}"
            )
