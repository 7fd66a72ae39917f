"""The division into training and validation, and the arrays of a split on disk."""

import hashlib
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import files, process
from keras_pipeline.core.array_files import Expected, map_array, release_pages
from keras_pipeline.core.errors import DataError
from keras_pipeline.data.scaling import Pixels, Scaling
from keras_pipeline.data.statistics import DatasetDescription, Statistics, array_names, is_table

Labels = NDArray[Any]
"""Classes by their index, or zeros where there are none."""
Indices = NDArray[np.int64]
FINITE = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))
BLOCK, BLOCK_BYTES = 8192, 16 * 2**20
"""So many examples are read at a time, of large ones as many as take so many bytes."""
PREDICTION_BATCH, PREDICTION_BYTES = 1000, 16 * 2**20


def prediction_batch(shape: Sequence[int]) -> int:
    """How many inputs of this shape a network is asked of at a time, outside of its training steps: PREDICTION_BATCH,
    of large ones as many as take PREDICTION_BYTES in float32."""
    return max(1, min(PREDICTION_BATCH, PREDICTION_BYTES // (4 * math.prod(shape))))


def stratified_split(labels: Labels, validation_share: float, seed: int) -> tuple[Indices, Indices]:
    """Indices of the training and the validation images, each ascending, disjoint, together all.

    Drawn at random from each class, so that every class has the same share in both, to within one image;
    round(n × share) validation images in all. A function of its arguments only.
    """
    return _apart(len(labels), _drawn(labels, validation_share, np.random.default_rng([seed, 0])))


def grouped_split(labels: Labels, groups: Indices, validation_share: float, seed: int) -> tuple[Indices, Indices]:
    """The same with no group, such as all images of one person, in both; every class as near to its share as that
    allows. All are for training where there is but one group."""
    _, groups = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    missing, left = np.bincount(labels) * validation_share, len(labels) * validation_share
    taken: list[Indices] = []
    for number in np.random.default_rng([seed, 2]).permutation(len(members)).tolist():
        classes, counts = np.unique(labels[members[number]], return_counts=True)
        # Whether both distances become less, in all and, as the sum of squares, over the classes.
        nearer = counts.sum() < 2 * left and (counts * (counts - 2 * missing[classes])).sum() < 0
        if nearer and len(taken) + 1 < len(members):
            missing[classes] -= counts
            left -= counts.sum()
            taken.append(members[number])
    if not taken and len(members) > 1:  # all groups are larger than the share
        taken = [min(members, key=len)]
    return _apart(len(labels), np.sort(np.concatenate([np.empty(0, np.int64), *taken])))


def latest_split(times: NDArray[np.float64], validation_share: float) -> tuple[Indices, Indices]:
    """The same with the latest for validation, round(n × share) of them."""
    order = np.argsort(times, kind="stable")
    return _apart(len(times), np.sort(order[len(times) - round(len(times) * validation_share) :]))


def _apart(count: int, validation: Indices) -> tuple[Indices, Indices]:
    return np.setdiff1d(np.arange(count), validation), validation


def stratified_part(labels: Labels, count: int, seed: int) -> Indices:
    """Indices of `count` images, ascending, as `stratified_split` draws them. A smaller part lies within a larger
    one, but for at most one image of each class."""
    return _drawn(labels, count / len(labels), np.random.default_rng([seed, 1]))


def _drawn(labels: Labels, share: float, random: np.random.Generator) -> Indices:
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
    """The examples of a split: inputs and what is to be answered, labels int64 (n,) or scaled numbers float32 (n,).

    Images (n, height, width, channels) are as the dataset has them, mostly uint8, and may lie on disk; `scaling` makes
    of them what the network is given. Without it the inputs are that already, as the features of a table are: float32
    (n, features).
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    scaling: Scaling | None = None

    def scaled(self, chosen: Any = slice(None)) -> NDArray[np.float32]:
        """What the network is given of the chosen examples, indices or a slice: float32, in memory of its own."""
        made = self.scaling.apply(self.inputs[chosen]) if self.scaling else np.array(self.inputs[chosen])
        release_pages(self.inputs)
        return made

    @property
    def scaled_bytes(self) -> int:
        """How large all of them are when they are scaled."""
        return 4 * self.inputs.size

    def part(self, chosen: Any) -> "Split":
        """The chosen examples alone, indices or a slice: the first are copied."""
        return Split(self.inputs[chosen], self.targets[chosen], self.scaling)


def read_blocks(inputs: Pixels, chosen: Indices | None = None) -> Iterator[Pixels]:
    """The chosen inputs in their order, else all, not many at a time: `inputs` may lie on disk."""
    size = block_size(inputs)
    for start in range(0, len(inputs) if chosen is None else len(chosen), size):
        some = slice(start, start + size)
        yield inputs[some if chosen is None else chosen[some]]
        release_pages(inputs)


def block_size(inputs: NDArray[Any]) -> int:
    """How many of the inputs are read at a time."""
    return max(1, min(BLOCK, BLOCK_BYTES // max(1, inputs[:1].nbytes)))


def count_overlap(images: Pixels, others: Pixels) -> int:
    """How many of `others` are, byte for byte, among `images`; of both one block is in memory at a time, and of each of
    `others` a digest."""
    asked = [*_digests(others)]
    wanted = set(asked)
    found = {digest for digest in _digests(images) if digest in wanted}
    return sum(digest in found for digest in asked)


def _digests(images: Pixels) -> Iterator[bytes]:
    for block in read_blocks(images):
        for image in np.ascontiguousarray(block).reshape(len(block), -1).view(np.uint8):
            yield hashlib.blake2b(image.data, digest_size=16).digest()


def write_split(folder: Path, name: str, inputs: Iterable[NDArray[Any]], targets: NDArray[Any]) -> dict[str, str]:
    """Write {name}_images.npy, of a table, whose inputs are (n, features), {name}_features.npy, and {name}_labels.npy,
    of float32 {name}_targets.npy; the SHA-256 of each by file name.

    One block of inputs is in memory at a time; in all there are as many as targets.
    """
    blocks = iter(inputs)
    first = next(blocks)
    number = targets.dtype == np.float32
    paths = (folder / f"{name}_{kind}.npy" for kind in array_names(table=first.ndim == 2, number=number))
    parts = itertools.chain([first], blocks), iter([targets if number else targets.astype(np.int64)])
    return {path.name: _write(path, len(targets), arrays) for path, arrays in zip(paths, parts, strict=True)}


def split_files(statistics: DatasetDescription, name: str) -> tuple[str, str]:
    """The names of a split's two files, the inputs first."""
    inputs, answers = array_names(table=is_table(statistics), number=statistics["target"] is not None)
    return f"{name}_{inputs}.npy", f"{name}_{answers}.npy"


def _write(path: Path, count: int, arrays: Iterator[NDArray[Any]]) -> str:
    """As numpy.save, of arrays one after the other; the digest."""
    first = next(arrays)
    header = {"descr": first.dtype.str, "fortran_order": False, "shape": (count, *first.shape[1:])}
    digest = hashlib.sha256()
    with files.writing_atomically(path, first.nbytes // max(1, len(first)) * count) as file:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, header)
        contents = (np.ascontiguousarray(one).data for one in itertools.chain([first], arrays))
        for content in itertools.chain([buffer.getbuffer()], contents):
            digest.update(content)
            file.write(content)
    return digest.hexdigest()


def read_split(folder: Path, name: str, statistics: Statistics) -> Split:
    """A split as `write_split` left it, its inputs left on disk and mapped into memory, whose pages the system
    may share and take back.

    Raises DataError when a file is not the one that `statistics` names, or holds what its dataset does not have:
    another type, shape or order, a number that is not finite or out of range, a label of no class, other counts.
    """
    with process.time_part("data"):
        of_inputs, of_targets = (folder / file for file in split_files(statistics, name))
        count, classes, given = statistics["images"][name], len(statistics["class_names"]), statistics["input"]
        kind = given["dtype"] if given["kind"] == "images" else "<f4"
        inputs = _read(of_inputs, Expected(kind, (count, *statistics["shape"])), statistics)
        targets = np.array(_read(of_targets, Expected("<i8" if classes else "<f4", (count,)), statistics))
        _check_range(of_inputs, inputs, *((given["low"], given["high"]) if given["kind"] == "images" else FINITE))
        _check_range(of_targets, targets, *((0, classes - 1) if classes else FINITE))
        expected = np.array(statistics["class_counts"].get(name, []))
        for label in np.flatnonzero(np.bincount(targets, minlength=classes) != expected)[:1] if classes else ():
            raise DataError(
                f"{of_targets}: got {(targets == label).sum()} of the class {statistics['class_names'][label]!a}. "
                f"Expected: {expected[label]}, as statistics.json has it. {files.remedy('normalize')}"
            )
        return Split(inputs, targets, Scaling(**statistics["scaling"]) if given["kind"] == "images" else None)


def _read(path: Path, expected: Expected, statistics: DatasetDescription) -> NDArray[Any]:
    digest = statistics["sha256"][path.name]
    if not path.is_file() or files.file_sha256(path) != digest:
        raise DataError(
            f"{path}: not the file that the stage 'normalize' wrote (its SHA-256 should be {digest[:12]}…). "
            "Run `dvc repro normalize` to have it written again."
        )
    return map_array(path, expected, "normalize")


def _check_range(path: Path, array: NDArray[Any], low: float, high: float) -> None:
    """Raise DataError with the index of a value that is not finite, or not from `low` to `high`; nothing is read where
    the type says it."""
    if array.dtype.kind == "u" and low <= 0 and high >= np.iinfo(array.dtype).max:
        return
    if array.dtype.kind == "f":
        low, high = float(np.float32(low)), float(np.float32(high))
    start = 0
    for block in read_blocks(array):
        if not (low <= block.min() and block.max() <= high):  # not so with NaN either
            first = np.argwhere(~((low <= block) & (block <= high)))[0]
            index = [start + int(first[0]), *map(int, first[1:])]
            raise DataError(
                f"{path}{index}: got {block[tuple(first)]}. Expected: a number from {low:g} to {high:g}. "
                f"{files.remedy('normalize')}"
            )
        start += len(block)
