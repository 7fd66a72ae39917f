"""Images that are numbers already, one behind the other in files: what arrays, IDX files and binary records share.

They are read a block at a time, also where a file claims more than there is memory for.
"""

import errno
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, Protocol, Self, overload

from pydantic import Field, model_validator

from keras_pipeline.core.errors import DataError, PipelineError
from keras_pipeline.sources.kinds.kind import LONGEST_SIDE, Kind, Line, Split
from keras_pipeline.strict_yaml.faults import Block, KeyedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_BYTES = 2**22
"""Of a file, that are read at a time."""
Order = Literal["interleaved", "planes"]
"""Of the values of an image of several channels: those of one pixel side by side, or a whole channel, then the next."""
Files = Annotated[tuple[Line, ...], Field(min_length=1, max_length=10_000)]
"""Of a split."""
Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]


class Pair(Block):
    """What the images and the labels of a split are called."""

    images: Line
    labels: Line


class StoredImages(Kind):
    """The keys of a dataset file whose images are all of one size already."""

    size: tuple[Side, Side]
    """height and width of every image, in pixels"""
    channels: Literal[1, 3] = 1
    """1: grey, 3: red, green, blue"""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return (*self.size, self.channels)

    @model_validator(mode="after")
    def _check_images(self) -> Self:
        """Raise KeyedError where there are not two classes, or a column is named."""
        if len(self.classes) < 2:
            raise KeyedError(("classes",), "two at least are needed. Name them in the order of their labels.")
        for key in ("column", "group", "time"):
            if getattr(self.splits, key) is not None and not self._columns():
                raise KeyedError(
                    ("splits", key), f"a dataset of the kind '{self.kind}' has no columns. Remove the line."
                )
        return self

    def _columns(self) -> bool:
        """Whether the files have columns with names."""
        return False


@dataclass(frozen=True)
class Part:
    """`count` items of one file, from byte `offset` on: each `shape` numbers of the type `dtype` of NumPy."""

    name: str
    """that begins messages, such as `mnist.npz/x_train`"""
    thing: str
    """what an item is called in messages: `index` gives "index 17" """
    split: Split
    count: int
    offset: int
    dtype: str
    shape: tuple[int, ...]
    open: Callable[[], AbstractContextManager[BinaryIO]]
    ends: bool = False
    """whether nothing may stand behind the last item"""

    def place(self, index: int) -> str:
        """What an item is called in messages."""
        return f"{self.name}: {self.thing} {index}"

    def blocks(self, start: int = 0) -> "Iterator[NDArray[Any]]":
        """Arrays (k, *shape), from item `start` on. Raises DataError where the file ends early or is damaged."""
        import numpy as np

        kind = np.dtype(self.dtype)
        item = kind.itemsize
        for length in self.shape:
            item *= length
        most = max(1, BLOCK_BYTES // item)
        with reading(self.name, lambda: self.place(start)), self.open() as file:
            file.seek(self.offset + start * item)
            while start < self.count:
                block = np.empty((min(most, self.count - start), *self.shape), kind)
                fill(file, block.reshape(-1).view(np.uint8).data)
                yield block
                start += len(block)
            if self.ends and file.read(1):
                raise EOFError(f"more than the {self.count} items that its header tells of")


def fill(file: BinaryIO, buffer: memoryview) -> None:
    """Read exactly so many bytes. Raises EOFError where there are fewer."""
    done = 0
    while done < len(buffer):
        part = file.read(min(len(buffer) - done, BLOCK_BYTES))
        if not part:
            raise EOFError(f"it ends {len(buffer) - done} bytes early")
        buffer[done : done + len(part)] = part
        done += len(part)


@contextmanager
def reading(name: str, place: Callable[[], str] | None = None) -> Iterator[None]:
    """Within, whatever zipfile, zlib, bz2, lzma and others raise for bytes that are not theirs is a DataError."""
    try:
        yield
    except (PipelineError, MemoryError, GeneratorExit):
        raise
    except Exception as fault:
        if isinstance(fault, OSError) and fault.errno not in (None, errno.EINVAL):  # a place before the start
            raise
        reason = str(fault).strip().split("\n")[0][:200] or type(fault).__name__
        raise DataError(
            f"{place() if place else name}: got damaged data ({ascii(reason)[1:-1]}). Expected: a whole file. Fetch it "
            "anew, or use another source."
        ) from None


class Blocks:
    """`Images` of parts: see kind.py.

    `arrange` makes images (k, height, width, channels) of a block of a part; `dtype`, `low` and `high` are of the
    pixels that are given, and every pixel of a block is held against `low` and `high`.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        arrange: "Callable[[NDArray[Any]], NDArray[Any]]",
        dtype: str = "|u1",
        low: float = 0,
        high: float = 255,
    ) -> None:
        self.parts, self.arrange, self.dtype, self.low, self.high = parts, arrange, dtype, low, high

    def blocks(self, done: int = 0) -> "Iterator[tuple[NDArray[Any], list[str | None]]]":
        """See `kind.Images`. Raises DataError, with file and index, for a pixel out of range."""
        import numpy as np

        for part in self.parts:
            start = min(done, part.count)
            done -= start
            for block in part.blocks(start) if start < part.count else ():
                images = self.arrange(block)
                self._check(images, part, start)
                start += len(images)
                yield np.ascontiguousarray(images, dtype=self.dtype), [None] * len(images)

    def _check(self, images: "NDArray[Any]", part: Part, start: int) -> None:
        import numpy as np

        if images.dtype.str == self.dtype and images.dtype.kind == "u":
            limits = np.iinfo(images.dtype)
            if (self.low, self.high) == (limits.min, limits.max):
                return
        right = (images >= self.low) & (images <= self.high)  # of NaN neither
        if right.all():
            return
        index, row, column, channel = (int(one[0]) for one in np.nonzero(~right))
        raise DataError(
            f"{part.place(start + index)}, row {row}, column {column}, channel {channel}: got the value "
            f"{images[index, row, column, channel]}. Expected: {self.low:.15g} to {self.high:.15g}. Correct the data, "
            "or `range` of the dataset file."
        )


def arranged(rows: "NDArray[Any]", shape: tuple[int, ...], order: Order) -> "NDArray[Any]":
    """Images (k, height, width, channels) of rows of all values of one each."""
    import numpy as np

    height, width, channels = shape
    if order == "planes":
        rows = rows.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(rows.reshape(-1, height, width, channels))


class Items(Protocol):
    """Consecutive examples of one split."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    @property
    def split(self) -> Split:
        """All of one."""
        ...

    def place(self, index: int) -> str:
        """What one is called in messages."""
        ...


class Places(Sequence[str]):
    """What the items of parts are called, without a text of each in memory."""

    def __init__(self, parts: Sequence[Items]) -> None:
        self.parts = parts
        self.ends = list(accumulate(part.count for part in parts))

    def __len__(self) -> int:
        """Of all parts."""
        return self.ends[-1] if self.ends else 0

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        """Of one item, or of several."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        part = bisect_right(self.ends, index)
        return self.parts[part].place(index - (self.ends[part] - self.parts[part].count))


def splits_of(parts: Sequence[Items]) -> list[Split] | None:
    """The split of each item; none where all are of one, which the dataset file divides."""
    if {part.split for part in parts} == {"train"}:
        return None
    return [part.split for part in parts for _ in range(part.count)]
