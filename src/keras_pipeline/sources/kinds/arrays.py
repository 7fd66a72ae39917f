"""Images in NumPy's files: a .npz of several arrays, or .npy files in a folder or an archive.

Nothing of a file is believed but what its header and its size say together; pickled objects are never read.
"""

import re
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, Self, cast

from pydantic import Field, model_validator

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.files.archives import BLOCK, MOST_UNPACKED, check_directory
from keras_pipeline.sources.kinds.kind import MOST_CLASSES, MOST_EXAMPLES, Examples, Recognized, Split
from keras_pipeline.sources.kinds.stored import Blocks, Pair, Part, Places, StoredImages, reading, splits_of
from keras_pipeline.sources.source_files import SourceFiles
from keras_pipeline.sources.tables.text_tables import place_of
from keras_pipeline.strict_yaml.faults import KeyedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST_LABEL = 1000
Value = Annotated[float, Field(ge=-3e38, le=3e38)]
WHOLE_RANGE = {"|b1": (0, 1), "|u1": (0, 255), "<u2": (0, 65_535), ">u2": (0, 65_535)}
"""Of a pixel, by types of NumPy; of any other the dataset file says it."""
OF_SPLIT: dict[Split, str] = {"train": r"train", "validation": r"val", "test": r"test|t10k"}
"""What the names of a split's arrays have in common."""


class Arrays(StoredImages):
    """A dataset file of the kind `arrays`. An array is named as in the .npz, or as its file x_train.npy: `x_train`; or
    with its folder or file: `deep/x_train`, `train.npz/x`."""

    kind: Literal["arrays"]
    train: Pair
    validation: Pair | None = None
    test: Pair | None = None
    range: tuple[Value, Value] | None = None
    """least and greatest value of a pixel; needed but for 8 and 16 bits without a sign"""

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.range and self.range[0] >= self.range[1]:
            raise KeyedError(("range",), "the first is not smaller than the second. Write the least value first.")
        return self

    def read(self, source: SourceFiles) -> Examples:
        """See `Kind.read`."""
        import numpy as np

        found = list_arrays(source)
        parts, labels = [], []
        splits: dict[Split, Pair | None] = {"train": self.train, "validation": self.validation, "test": self.test}
        for split, pair in splits.items():
            if pair is None:
                continue
            images, answers = _find(found, pair.images, source.name), _find(found, pair.labels, source.name)
            parts.append(self._images(images, split))
            labels.append(self._labels(answers, parts[-1].count))
        kinds = {self._pixels(part) for part in parts}
        if len(kinds) > 1:
            said = ", ".join(f"{part.name}: {part.dtype}" for part in parts)
            raise DataError(f"{source.name}: got images of different types ({said}). Expected: one. Convert them.")
        ((dtype, low, high),) = kinds
        return Examples(
            inputs=Blocks(parts, self._arranged, dtype, low, high),
            labels=np.concatenate(labels),
            places=Places(parts),
            splits=splits_of(parts),
        )

    def _images(self, array: "Array", split: Split) -> Part:
        part = array.part(split)
        shape = (part.count, *part.shape)
        channels = 1 if len(shape) == 3 else shape[-1]
        if not 3 <= len(shape) <= 4 or (shape[1:3], channels) != (self.size, self.channels):
            (height, width), channels = self.size, self.channels
            also = f" or (n, {height}, {width})" if channels == 1 else ""
            raise DataError(
                f"{array.name}: got the shape {shape}. Expected: (n, {height}, {width}, {channels}){also}, by `size` "
                f"and `channels` of the dataset file. {_way_out(shape)}"
            )
        if part.count > MOST_EXAMPLES:
            raise DataError(f"{array.name}: got {part.count} images. Expected: {MOST_EXAMPLES} at most. Take fewer.")
        return part

    def _pixels(self, part: Part) -> tuple[str, float, float]:
        """Type and range of the pixels that are given for these."""
        limits = self.range or WHOLE_RANGE.get(part.dtype)
        if limits is None:
            raise DataError(
                f"{part.name}: got {_described(part.dtype)}. Expected: 8 or 16 bits without a sign, or the least and "
                "greatest value. Write them into the dataset file, such as `range: [0, 1]` or `range: [0, 255]`."
            )
        low, high = limits
        if part.dtype[1] == "f":
            return "<f4", low, high
        if not (low >= 0 and high <= 65_535 and low == int(low) and high == int(high)):
            raise DataError(
                f"{part.name}: got {_described(part.dtype)} and the range {low:.15g} to {high:.15g}. Expected: whole "
                "numbers from 0 to 65535, or an array of floats. Convert it, such as by `x.astype('float32')`."
            )
        return ("|u1" if high <= 255 and part.dtype not in ("<u2", ">u2") else "<u2"), low, high

    def _arranged(self, block: "NDArray[Any]") -> "NDArray[Any]":
        images = block.reshape(len(block), *self.input_shape)
        return images.astype("|u1") if images.dtype.kind == "b" else images

    def _labels(self, array: "Array", count: int) -> "NDArray[np.int64]":
        import numpy as np

        from keras_pipeline.sources.kinds.labels import ClassOf

        part = array.part()
        shape = (part.count, *part.shape)
        if shape not in ((count,), (count, 1)):
            several = len(shape) == 2 and shape[0] == count
            hint = " Are they one-hot? Then save `np.argmax(labels, axis=1)`." if several else ""
            raise DataError(
                f"{array.name}: got labels of the shape {shape} for {count} images. Expected: ({count},).{hint}"
            )
        class_of = ClassOf(self)
        found, start = np.empty(count, np.int64), 0
        for block in part.blocks():
            labels = block.reshape(-1)
            place = partial(_place, part, start)
            if labels.dtype.kind in "US":
                classes = class_of.texts_to_classes(_texts(labels, place(0)), place)
            else:
                classes = class_of.numbers_to_classes(labels, place)
            found[start : start + len(labels)] = classes
            start += len(labels)
        return found

    @classmethod
    def recognize(cls, source: SourceFiles) -> Recognized | None:
        """Pairs of arrays of one length, of which one has three or four dimensions; by split as their names say."""
        if not any(name.lower().endswith((".npy", ".npz")) for name in source.names()):
            return None
        found = [(one, one.part()) for one in list_arrays(source)]
        pairs: dict[str, dict[str, Array]] = {}
        for split in OF_SPLIT:
            of_split = [(one, part) for one, part in found if _split_of(one.key) == split]
            matching = [
                (images, labels)
                for images, part in of_split
                for labels, answers in of_split
                if len(part.shape) in (2, 3) and answers.count == part.count and answers.shape in ((), (1,))
            ]
            if len(matching) > 1:
                said = ", ".join(f"{one.name} with {other.name}" for one, other in matching[:5])
                raise DataError(
                    f"{source.name}: got several pairs of images and labels ({said}). Expected: one a split. "
                    "Write the dataset file by hand."
                )
            if matching:
                pairs[split] = dict(zip(("images", "labels"), matching[0], strict=True))
        if "train" not in pairs:
            return None
        ends = [one.key.rpartition("/")[2] for one, _ in found]
        return _recognized(pairs, short=len(set(ends)) == len(ends))


@dataclass(frozen=True)
class Array:
    """A .npy file, or a member of a .npz."""

    name: str
    """in messages"""
    key: str
    """path in the source, without .npy"""
    bytes: int
    packed: int
    """bytes in the .npz"""
    open: Callable[[], AbstractContextManager[BinaryIO]]

    def part(self, split: Split = "train") -> Part:
        """Its items. Raises DataError where the file is not, to its last byte, an array of numbers or texts in rows."""
        from keras_pipeline.core.array_files import read_header

        with reading(self.name), self.open() as file:
            try:
                shape, in_columns, dtype = read_header(file)
            except ValueError as fault:
                raise DataError(f"{self.name}: got {ascii(str(fault))[1:-1]}. Expected: a .npy file.") from None
            offset = file.tell()
        self._check(dtype, shape, in_columns)
        expected = offset + dtype.itemsize
        for length in shape:
            expected = (expected - offset) * length + offset  # whole numbers of Python do not overflow
        if expected != self.bytes:
            raise DataError(
                f"{self.name}: got {self.bytes} bytes. Expected: {expected} for {_described(dtype.str)} of the shape "
                f"{_shown(shape)}, as its header says. Save it anew."
            )
        if self.bytes > MOST_UNPACKED * self.packed + BLOCK:
            raise DataError(
                f"{self.name}: unpacks to more than {MOST_UNPACKED} times its size. Expected: less. Save it by "
                "`np.savez`, which does not pack, if that is meant."
            )
        return Part(self.name, "index", split, shape[0], offset, dtype.str, shape[1:], self.open)

    def _check(self, dtype: "np.dtype[Any]", shape: tuple[int, ...], in_columns: bool) -> None:
        if dtype.hasobject:
            raise DataError(
                f"{self.name}: got pickled Python objects, which may run any program when they are read. Expected: "
                "numbers, or texts. Save them with a type, such as `np.asarray(x, dtype='uint8')`."
            )
        longest = LONGEST_LABEL * (4 if dtype.kind == "U" else 1)
        if dtype.fields or dtype.subdtype or dtype.kind not in "buifUS" or not 0 < dtype.itemsize <= longest:
            raise DataError(
                f"{self.name}: got {_described(dtype.str)}. Expected: whole numbers, floats, or texts of "
                f"{LONGEST_LABEL} characters at most. Convert it."
            )
        if dtype.kind == "f" and dtype.itemsize > 8:
            raise DataError(f"{self.name}: got {_described(dtype.str)}. Expected: float64 at most. Convert it.")
        if not all(type(length) is int and length > 0 for length in shape) or not 1 <= len(shape) <= 8:
            raise DataError(f"{self.name}: got the shape {_shown(shape)}. Expected: one item at least.")
        if in_columns and len(shape) > 1:
            raise DataError(
                f"{self.name}: got an array in the order of columns (Fortran's). Expected: in that of rows. Save "
                "`np.ascontiguousarray(x)`."
            )


def list_arrays(source: SourceFiles) -> list[Array]:
    """The .npy files of a source, and the members of its .npz files."""
    found = []
    for name in source.names():
        said = place_of(source, name)
        if name.lower().endswith(".npy"):
            size = source.size(name)
            found.append(Array(said, name[:-4], size, size, partial(source.open, name)))
        elif name.lower().endswith(".npz"):
            with reading(said), _archive(source, name) as archive:
                for member in archive.infolist():
                    key = member.filename.removesuffix(".npy")
                    opened = partial(_member, source, name, member.filename)
                    called, sizes = f"{said}/{ascii(key)[1:-1]}", (member.file_size, member.compress_size)
                    found.append(Array(called, f"{name}/{key}", *sizes, opened))
    for key, count in Counter(one.key for one in found).items():
        if count > 1:
            raise DataError(f"{source.name}: got the array {key!a} twice. Expected: each name once.")
    return found


@contextmanager
def _archive(source: SourceFiles, name: str) -> Iterator[zipfile.ZipFile]:
    with source.open(name) as file:
        check_directory(file, source.size(name))
        with zipfile.ZipFile(file) as archive:
            yield archive


@contextmanager
def _member(source: SourceFiles, name: str, member: str) -> Iterator[BinaryIO]:
    with _archive(source, name) as archive, archive.open(member) as file:
        yield cast(BinaryIO, file)


def _find(found: list[Array], wanted: str, source: str) -> Array:
    key = wanted.removesuffix(".npy")
    matching = [one for one in found if one.key == key] or [one for one in found if one.key.endswith(f"/{key}")]
    if len(matching) != 1:
        what = f"several arrays {wanted!a}" if matching else f"no array {wanted!a}"
        listed = ", ".join(ascii(one.key)[1:-1] for one in (matching or found)[:10]) or "none"
        raise DataError(f"{source}: got {what}. Expected: one of {listed}. Correct the dataset file.")
    return matching[0]


def _place(part: Part, start: int, index: int) -> str:
    return part.place(start + index)


def _texts(labels: "NDArray[Any]", place: str) -> list[str]:
    try:
        if (
            labels.dtype.kind == "U"
            and (labels.astype(labels.dtype.newbyteorder("=")).view("u4") > sys.maxunicode).any()
        ):
            raise ValueError("a number that is no character")
        return [one if isinstance(one, str) else one.decode() for one in labels.tolist()]
    except ValueError as fault:
        raise DataError(f"{place} and on: got no text ({fault}). Expected: names of classes.") from None


def _split_of(key: str) -> str | None:
    """By the array's own name, else by its file's or folder's; train where neither says."""
    for text in (key.rpartition("/")[2].lower(), key.lower()):
        hits = [split for split, pattern in OF_SPLIT.items() if re.search(pattern, text)]
        if hits:
            return hits[0] if len(hits) == 1 else None
    return "train"


def _recognized(pairs: dict[str, dict[str, Array]], *, short: bool) -> Recognized:
    from keras_pipeline.sources.kinds.labels import class_keys

    train = pairs["train"]["images"]
    part = train.part()
    channels = 1 if len(part.shape) == 2 else part.shape[2]
    if channels not in (1, 3):
        shape = (part.count, *part.shape)
        raise DataError(f"{train.name}: got the shape {shape}. Expected: 1 or 3 channels. {_way_out(shape)}")
    keys: dict[str, Any] = {"kind": "arrays", "size": list(part.shape[:2]), "channels": channels}
    reasons = []
    for split, pair in pairs.items():
        keys[split] = {role: array.key.rpartition("/")[2] if short else array.key for role, array in pair.items()}
        images = pair["images"].part()
        shape = (images.count, *images.shape)
        reasons.append(f"{images.name} has the shape {shape}, {pair['labels'].name} as many labels.")
    if part.dtype not in WHOLE_RANGE:
        keys["range"], reason = _range_of(part)
        reasons.append(reason)
    keys |= class_keys({label for pair in pairs.values() for label in _distinct(pair["labels"].part())})
    return Recognized(keys, reasons)


def _range_of(part: Part) -> tuple[list[float], str]:
    first = next(part.blocks())
    low, high = float(first.min()), float(first.max())
    usual = [(0, 1), (-1, 1), (0, 255), (0, 65_535)] if part.dtype[1] == "f" else [(0, 255), (0, 65_535)]
    chosen = list(next(((a, b) for a, b in usual if a <= low and high <= b), (low, high)))
    return chosen, (
        f"{part.name} holds {_described(part.dtype)}, of the first {len(first)} images from {low:.15g} to {high:.15g}: "
        f"range {chosen}."
    )


def _distinct(part: Part) -> set[Any]:
    import numpy as np

    found: set[Any] = set()
    for block in part.blocks():
        labels = block.reshape(-1)
        values = set(_texts(labels, part.name)) if labels.dtype.kind in "US" else set(np.unique(labels + 0).tolist())
        if any(isinstance(value, float) and not value.is_integer() for value in values):
            raise DataError(f"{part.name}: got {_described(part.dtype)}. Expected: labels, which are whole numbers.")
        found |= {int(value) if isinstance(value, float) else value for value in values}
        if len(found) > MOST_CLASSES:
            raise DataError(f"{part.name}: got more than {MOST_CLASSES} different labels. Expected: names of classes.")
    return found


def _way_out(shape: tuple[int, ...]) -> str:
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        return "The channels come first here: save `np.moveaxis(x, 1, -1)`."
    return "Correct the dataset file, or the array."


def _described(dtype: str) -> str:
    import numpy as np

    kind = np.dtype(dtype)
    return f"texts of {kind.itemsize // 4} characters" if kind.kind == "U" else kind.name[:40]


def _shown(shape: tuple[int, ...]) -> str:
    text = str(shape)
    return text if len(text) <= 100 else f"{text[:99]}…"
