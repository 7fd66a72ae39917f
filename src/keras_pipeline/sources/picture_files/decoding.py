"""Many picture files as images, in their order, on all cores.

One thread reads files, for an archive may allow no more; the others decode, for which Pillow lets go of Python's lock:
on two cores PNG comes 1.8 times as fast as on one, and no process is started. What waits is bounded in bytes.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_pipeline.core import limits
from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.pictures import Preparation, prepare_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK_BYTES = 2**20
"""Of files, and of images, that one thread is given at a time."""
WAITING_BYTES = 2**26
"""Of files and images together that are read, or decoded, and not yet asked for; one block at least."""


@dataclass
class DecodedPictures:
    """`Images` of picture files: see kinds/kind.py.

    `contents(start)` gives the bytes of each picture from number `start` on; `places`: what each is called in messages;
    `skip`: whether a damaged one is left out, or refused.
    """

    contents: Callable[[int], Iterator[bytes]]
    places: Sequence[str]
    preparation: Preparation
    skip: bool = False
    dtype: str = "|u1"
    low: float = 0
    high: float = 255

    def blocks(self, done: int = 0) -> "Iterator[tuple[NDArray[Any], list[str | None]]]":
        """See `kind.Images`. Raises DataError for the first picture that is damaged, if none is to be left out."""
        cores = limits.available_cores()
        waiting: deque[tuple[Future[tuple[NDArray[np.uint8], list[str | None]]], int]] = deque()
        with ThreadPoolExecutor(cores, "pictures") as threads:
            try:
                for start, block in self._read(done):
                    size = sum(map(len, block)) + len(block) * self._image_bytes
                    while len(waiting) > 2 * cores or (
                        waiting and sum(one for _, one in waiting) + size > WAITING_BYTES
                    ):
                        yield waiting.popleft()[0].result()
                    waiting.append((threads.submit(self._decode, start, block), size))
                    del block
                while waiting:
                    yield waiting.popleft()[0].result()
            finally:
                threads.shutdown(wait=True, cancel_futures=True)

    @property
    def _image_bytes(self) -> int:
        height, width, channels = self.preparation.shape
        return height * width * channels

    def _read(self, start: int) -> Iterator[tuple[int, list[bytes]]]:
        """The number of the first picture of a block, and the pictures' bytes."""
        block: list[bytes] = []
        size = 0
        for content in self.contents(start):
            block.append(content)
            size += len(content)
            if max(size, len(block) * self._image_bytes) >= BLOCK_BYTES:
                yield start, block
                start += len(block)
                block, size = [], 0
        if block:
            yield start, block

    def _decode(self, start: int, block: list[bytes]) -> "tuple[NDArray[np.uint8], list[str | None]]":
        import numpy as np

        images = np.zeros((len(block), *self.preparation.shape), np.uint8)
        reasons: list[str | None] = []
        for index, content in enumerate(block):
            try:
                images[index] = prepare_picture(content, self.preparation)
                reasons.append(None)
            except ValueError as fault:
                if not self.skip:
                    raise DataError(
                        f"{self.places[start + index]}: {fault}. Replace or remove it, or have damaged pictures left "
                        "out and counted: `damaged: skip` in the dataset file."
                    ) from None
                reasons.append(str(fault))
        return images, reasons
