"""Binary records of one length, as in CIFAR-10's binary version: bytes of labels, then the bytes of the pixels."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.kind import MOST_EXAMPLES, Examples, Recognized, Split
from keras_pipeline.sources.kinds.stored import (
    Blocks,
    Files,
    Order,
    Part,
    Places,
    StoredImages,
    arranged,
    splits_of,
)
from keras_pipeline.sources.source_files import SourceFiles
from keras_pipeline.sources.tables.text_tables import place_of
from keras_pipeline.strict_yaml.faults import KeyedError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Records(StoredImages):
    """A dataset file of the kind `records`."""

    kind: Literal["records"]
    train: Files
    validation: Files | None = None
    test: Files | None = None
    label_bytes: Annotated[int, Field(ge=1, le=1000)] = 1
    """how many bytes of a record come before its pixels"""
    label_byte: Annotated[int, Field(ge=0, lt=1000)] = 0
    """which of them is the class, from 0"""
    order: Order = "planes"
    """of three channels: all red, then all green, then all blue; or the three of a pixel side by side"""

    @model_validator(mode="after")
    def _check_label(self) -> Self:
        if self.label_byte >= self.label_bytes:
            raise KeyedError(("label_byte",), f"a record has {self.label_bytes} bytes of labels. Use a smaller number.")
        return self

    def read(self, source: SourceFiles) -> Examples:
        """See `Kind.read`."""
        import numpy as np

        from keras_pipeline.sources.kinds.labels import ClassOf

        splits: dict[Split, Files | None] = {"train": self.train, "validation": self.validation, "test": self.test}
        parts = [self._part(source, name, split) for split, names in splits.items() for name in names or ()]
        if sum(part.count for part in parts) > MOST_EXAMPLES:
            raise DataError(f"{source.name}: got more than {MOST_EXAMPLES} records. Expected: that many at most.")
        class_of, labels = ClassOf(self), []
        for part in parts:
            start = 0
            for block in part.blocks():
                place = partial(_place, part, start)
                labels.append(class_of.numbers_to_classes(block[:, self.label_byte], place))
                start += len(block)
        return Examples(Blocks(parts, self._arranged), np.concatenate(labels), Places(parts), splits_of(parts))

    def _part(self, source: SourceFiles, name: str, split: Split) -> Part:
        height, width = self.size
        pixels = height * width * self.channels
        record, size, place = self.label_bytes + pixels, source.size(name), place_of(source, name)
        if not size or size % record:
            raise DataError(
                f"{place}: got {size} bytes, {size // record} records and {size % record} bytes. Expected: whole "
                f"records of {record} bytes, {self.label_bytes} of labels and {pixels} of pixels. Correct the dataset "
                "file, or fetch the file anew."
            )
        return Part(place, "record", split, size // record, 0, "|u1", (record,), partial(source.open, name), ends=True)

    def _arranged(self, block: "NDArray[Any]") -> "NDArray[Any]":
        return arranged(block[:, self.label_bytes :], self.input_shape, self.order)

    @classmethod
    def recognize(cls, source: SourceFiles) -> Recognized | None:
        """Only records of CIFAR-10's form, in files .bin; any bytes may be records of another."""
        import numpy as np

        from keras_pipeline.sources.kinds.labels import class_keys
        from keras_pipeline.sources.tables.divisions import split_of_file

        names = [name for name in source.names() if name.lower().endswith(".bin")]
        if not names or any(source.size(name) % _CIFAR or not source.size(name) for name in names):
            return None
        files: dict[Split, list[str]] = {"train": [], "validation": [], "test": []}
        for name in names:
            files[split_of_file(name) or "train"].append(name)
        if not files["train"]:
            return None
        keys: dict[str, Any] = {"kind": "records", "size": [32, 32], "channels": 3}
        keys |= {split: own for split, own in files.items() if own}
        parts = [cls._part(cls.model_construct(**keys, label_bytes=1), source, name, "train") for name in names]
        labels = {int(one) for part in parts for block in part.blocks() for one in np.unique(block[:, 0])}
        if len(labels) < 2:
            return None
        reason = (
            f"{len(names)} files of records of {_CIFAR} bytes, as CIFAR-10 has them: a label and 32 x 32 x 3 pixels"
        )
        return Recognized(keys | class_keys(labels), [reason, f"labels from {min(labels)} to {max(labels)}"])


_CIFAR = 1 + 32 * 32 * 3


def _place(part: Part, start: int, index: int) -> str:
    return part.place(start + index)
