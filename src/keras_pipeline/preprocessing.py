"""From raw images to what a network is fed: the train/validation split, the scaling, and the arrays on disk."""

import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
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
    """Normalized images, float32 (n, height, width, 1), and their labels, int64 (n,); of a table the normalized
    features, float32 (n, features), and targets, float32 (n,)."""

    images: NDArray[np.float32]
    labels: NDArray[Any]


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

    def undo(self, scaled: NDArray[Any]) -> NDArray[np.float64]:
        """What was raw, of a table, as float64."""
        raw: NDArray[np.float64] = scaled.astype(np.float64) * self.divisor + np.asarray(self.offset)
        return raw


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


def overlap(images: NDArray[Any], others: NDArray[Any]) -> int:
    """How many of `others` are, byte for byte, among `images`; both (n, height, width), or rows (n, features)."""
    asked = [other.tobytes() for other in others]
    wanted = set(asked)
    found = {content for image in images if (content := image.tobytes()) in wanted}
    return sum(content in found for content in asked)


STATISTICS = ("dataset", "task", "shape", "class_names", "scaling", "target", "images", "sha256")
"""What the later stages read of statistics.json."""


@dataclass(frozen=True)
class Question:
    """What a network is to learn: the name of its task, the shape of an input, the number of classes (of a number to be
    predicted 1), and how the number is scaled."""

    task: str
    shape: tuple[int, ...]
    classes: int
    target: Scaling | None = None

    @property
    def outputs(self) -> int:
        """One for each class; of two classes, and of a number, one."""
        return self.classes if self.classes > 2 else 1


def question(dataset: Mapping[str, Any]) -> Question:
    """What statistics.json, or the record of a run, says of its dataset."""
    target = Scaling(**dataset["target"]) if dataset["target"] else None
    return Question(dataset["task"], tuple(dataset["shape"]), len(dataset["class_names"]) or 1, target)


def targets(labels: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """What the outputs should be, float32 (n, outputs): one-hot, or of two classes, and of numbers, the labels."""
    if classes > 2:
        one_hot: NDArray[np.float32] = np.eye(classes, dtype=np.float32)[labels]
        return one_hot
    return labels[:, np.newaxis].astype(np.float32)


def predicted(outputs: NDArray[Any]) -> NDArray[np.int64]:
    """The class that the outputs (n, outputs) mean: the largest one's, or whether the only one is above a half."""
    classes: NDArray[np.int64] = (
        outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0.5).astype(np.int64)
    )
    return classes


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


def split_files(statistics: Mapping[str, Any], name: str) -> list[str]:
    """The names of a split's two files, the inputs first."""
    return [file for file in statistics["sha256"] if file.startswith(f"{name}_")]


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
        images, labels = (_read(folder / file, statistics) for file in split_files(statistics, name))
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
