"""One reading of all images of a dataset: of each a digest, a perceptual hash, and a small copy to compare and to show.

A million images of 96 × 96 take a few gigabytes of temporary files, and little memory: the small copies are mapped.
"""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline.sources.kinds.kind import Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL_SIDE = 32
"""Of a small copy, at most, in pixels."""


@dataclass(frozen=True)
class Survey:
    """What one reading found, in the order of the examples; of one that was left out all zeros.

    `digests`: uint8 (n, 16), of the pixels; `hashes`: uint64 (n,), where a bit says whether a part of the coarse
    structure is above the median (pHash); `small`: uint8 (n, height, width, channels); `read`: bool (n,), whether it
    could be read; `left_out`: by index, why not.
    """

    digests: "NDArray[np.uint8]"
    hashes: "NDArray[np.uint64]"
    small: "NDArray[np.uint8]"
    read: "NDArray[np.bool_]"
    left_out: dict[int, str] = field(default_factory=dict)


def survey_images(images: Images, count: int, shape: Sequence[int], advance: Callable[[int], None]) -> Survey:
    """Read all `count` images of this shape (height, width, channels) once; `advance` is told how many are done."""
    height, width, channels = shape
    side = (min(height, SMALL_SIDE), min(width, SMALL_SIDE))
    digests, hashes = np.zeros((count, 16), np.uint8), np.zeros(count, np.uint64)
    read = np.zeros(count, np.bool_)
    left_out: dict[int, str] = {}
    with tempfile.TemporaryFile() as file:  # whose pages are there as long as they are mapped
        file.truncate(count * side[0] * side[1] * channels)
        small = np.memmap(file, np.uint8, "r+", shape=(count, *side, channels))
    done = 0
    for block, reasons in images.blocks():
        for index, (image, reason) in enumerate(zip(block, reasons, strict=True), done):
            if reason is not None:
                left_out[index] = reason
                continue
            read[index] = True
            digests[index] = np.frombuffer(hashlib.sha256(image.tobytes()).digest()[:16], np.uint8)
            bytes_ = as_bytes(image, images.low, images.high)
            hashes[index] = perceptual_hash(bytes_)
            small[index] = resized(bytes_, side)
        done += len(block)
        advance(done)
    return Survey(digests, hashes, small, read, left_out)


def as_bytes(image: "NDArray[Any]", low: float, high: float) -> "NDArray[np.uint8]":
    """An image of any type as uint8, its range from `low` to `high` spread over 0 to 255."""
    if image.dtype == np.uint8 and (low, high) == (0, 255):
        return image
    scaled = (image.astype(np.float64) - low) * (255 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def perceptual_hash(image: "NDArray[np.uint8]") -> np.uint64:
    """The 64 bits of pHash of an image (height, width, channels)."""
    import imagehash
    from PIL import Image

    grey = image if image.shape[2] == 3 else np.rint(image.mean(axis=2)).astype(np.uint8)
    bits = imagehash.phash(Image.fromarray(grey)).hash
    return np.uint64(int.from_bytes(np.packbits(bits).tobytes()))


def resized(image: "NDArray[np.uint8]", side: tuple[int, int]) -> "NDArray[np.uint8]":
    """An image (height, width, channels) in another size, (height, width); each new pixel is a mean of old ones."""
    from PIL import Image

    if image.shape[:2] == side:
        return image
    parts = [image] if image.shape[2] == 3 else [image[:, :, channel] for channel in range(image.shape[2])]
    made = [Image.fromarray(part).resize(side[::-1], Image.Resampling.BOX) for part in parts]
    return np.concatenate([np.asarray(one).reshape(*side, -1) for one in made], axis=2)
