"""IDX files, the format of MNIST, plain or as .gz: images of unsigned bytes; labels of bytes or of 32-bit integers."""

import math
import struct
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

from pydantic import Field

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.kind import MOST_EXAMPLES, Examples, Recognized, Split
from keras_pipeline.sources.kinds.stored import Blocks, Pair, Part, Places, StoredImages, reading, splits_of
from keras_pipeline.sources.source_files import SourceFiles, open_unpacked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TYPES = {8: "|u1", 12: ">i4"}
_OTHER_TYPES = {9: "signed bytes", 11: "16-bit integers", 13: "32-bit floats", 14: "64-bit floats"}
_WORDS: dict[str, Split] = {"train": "train", "valid": "validation", "t10k": "test", "test": "test"}
"""For the splits, in the names of files."""


class Idx(StoredImages):
    """Images and labels as IDX files."""

    kind: Literal["idx"]
    train: Pair
    validation: Pair | None = None
    test: Pair | None = None
    transpose: bool = False
    """whether rows and columns are exchanged in the files, as in EMNIST's"""
    label_column: Annotated[int, Field(ge=0, lt=1000)] = 0
    """where a label is a row of numbers, as in QMNIST's: which of them is the class"""

    def read(self, source: SourceFiles) -> Examples:
        """All of one split, then all of the next."""
        import numpy as np

        from keras_pipeline.sources.kinds.labels import ClassOf

        class_of, labels, parts = ClassOf(self), [], []
        for split, pair in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if pair:
                part = self._images(source, pair.images, split)
                own = _labels(source, pair.labels, self.label_column)
                if len(own) != part.count:
                    received = f"{part.count:,} images and {len(own):,} labels in {pair.labels}"
                    raise _wrong(part.name, received, "as many labels as images")
                place = partial(_place_of_label, f"{source.name}/{pair.labels}")
                labels.append(class_of.numbers_to_classes(own, place))
                parts.append(part)
        images = Blocks(parts, self._arranged)
        return Examples(images, np.concatenate(labels), Places(parts), splits_of(parts))

    def _images(self, source: SourceFiles, name: str, split: Any) -> Part:
        place = f"{source.name}/{name}"
        height, width = self.size
        stored = (width, height) if self.transpose else (height, width)
        with reading(place), open_unpacked(source, name) as file:
            dtype, shape = _read_header(file, place)
        if dtype != "|u1" or len(shape) not in (3, 4):
            raise _wrong(place, f"{_times(shape)} numbers of the type {dtype}", "images of unsigned bytes")
        whole = shape if len(shape) == 4 else (*shape, 1)
        if whole[1:] != (*stored, self.channels):
            expected = _times((*stored, self.channels)[: len(shape) - 1])
            raise _wrong(place, f"images of {_times(shape[1:])}", f"{expected}, as the dataset file has it")
        start, opened = 4 + 4 * len(shape), partial(open_unpacked, source, name)
        return Part(place, "image", split, shape[0], start, dtype, whole[1:], opened, ends=True)

    def _arranged(self, block: "NDArray[Any]") -> "NDArray[Any]":
        return block.transpose(0, 2, 1, 3) if self.transpose else block

    @classmethod
    def recognize(cls, source: SourceFiles) -> Recognized | None:
        """By the first bytes, and `train`, `test` or `t10k` in the names."""
        found: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
        for name in source.names()[:1000]:
            if shape := _shape(source, name):
                split = next((split for word, split in _WORDS.items() if word in name.lower()), "train")
                found.setdefault(split, {}).setdefault("images" if len(shape) > 2 else "labels", (name, shape))
        whole = {split: found[split] for split in ("train", "validation", "test") if len(found.get(split, ())) == 2}
        if "train" not in whole:
            return None
        shape = whole["train"]["images"][1]
        labels = [_labels(source, pair["labels"][0], 0).tolist() for pair in whole.values()]
        values = sorted(set().union(*labels))
        keys: dict[str, Any] = {"kind": "idx", "size": list(shape[1:3])}
        keys |= {"channels": shape[3]} if len(shape) == 4 else {}
        keys |= {split: {what: name for what, (name, _) in sorted(pair.items())} for split, pair in whole.items()}
        keys["classes"] = [str(value) for value in values]
        if values != list(range(len(values))):
            keys["label_values"] = values
        counts = ", ".join(f"{pair['images'][1][0]:,} {split}" for split, pair in whole.items())
        return Recognized(
            keys,
            [
                f"the first bytes are those of IDX files: images of {_times(shape[1:])}, {counts}",
                f"{len(values)} different labels, from {values[0]} to {values[-1]}",
            ],
        )


def _place_of_label(name: str, index: int) -> str:
    return f"{name}: label {index}"


def _labels(source: SourceFiles, name: str, column: int) -> "NDArray[np.int64]":
    import numpy as np

    place = f"{source.name}/{name}"
    with reading(place), open_unpacked(source, name) as file:
        dtype, shape = _read_header(file, place)
    if len(shape) > 2 or shape[0] > MOST_EXAMPLES or math.prod(shape[1:]) > 1000:
        raise _wrong(place, f"the size {_times(shape)}", "labels: one dimension, or a row of numbers each")
    if len(shape) == 2 and column >= shape[1]:
        raise _wrong(place, f"rows of {shape[1]} numbers", f"more than `label_column`, {column}")
    start, opened = 4 + 4 * len(shape), partial(open_unpacked, source, name)
    part = Part(place, "label", "train", shape[0], start, dtype, shape[1:], opened, ends=True)
    # Blocks that were read: as many as the header tells of may be more than there are.
    columns = [block[:, column] if len(shape) == 2 else block for block in part.blocks()]
    return np.concatenate(columns).astype(np.int64)


def _read_header(file: BinaryIO, place: str) -> tuple[str, tuple[int, ...]]:
    """The type and the size. Of them nothing is believed but that there are as many bytes, which is seen later."""
    start = file.read(4)
    if len(start) < 4:
        raise _wrong(place, f"{len(start)} bytes", "an IDX file, which has 8 at least")
    zeros, kind, dimensions = struct.unpack(">HBB", start)
    if start[2:4] == b"\0\0" and start[1] in _TYPES:
        raise _wrong(place, f"a header in little-endian order, {start.hex(' ')}", "big-endian order")
    if zeros:
        raise _wrong(place, f"the first bytes {start.hex(' ')}", "00 00 08 and the number of dimensions")
    if kind not in _TYPES:
        received = f"the element type {kind} ({_OTHER_TYPES.get(kind, 'unknown')})"
        raise _wrong(place, received, "8, unsigned bytes, or 12, 32-bit integers")
    if not 1 <= dimensions <= 4:
        raise _wrong(place, f"{dimensions} dimensions", "1 (labels) to 4 (images with channels)")
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise _wrong(place, f"{4 + len(sizes)} bytes", f"{4 + 4 * dimensions} for the header alone")
    shape = struct.unpack(f">{dimensions}I", sizes)
    if 0 in shape:
        raise _wrong(place, f"the size {_times(shape)}", "no dimension of 0")
    return _TYPES[kind], shape


def _shape(source: SourceFiles, name: str) -> tuple[int, ...] | None:
    try:
        with open_unpacked(source, name) as file:
            return _read_header(file, name)[1]
    except (DataError, OSError):
        return None


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _wrong(place: str, received: str, expected: str) -> DataError:
    return DataError(f"{place}: got {received}. Expected: {expected}. Mend the dataset file, or use another source.")
