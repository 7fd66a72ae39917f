"""One reading of all images of a dataset: of each a digest, a perceptual hash, and a small copy to compare and to show.

A million images of 96 × 96 take a few gigabytes of temporary files, and little memory: the small copies are mapped.
"""

import hashlib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline.core import files, limits
from keras_pipeline.sources.kinds.kind import Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL_SIDE = 32
"""Of a small copy, at most, in pixels."""
JOURNAL = "journal.json"
SECONDS_BETWEEN = 2.0
"""How often it is written down how far the reading is."""


@dataclass(frozen=True)
class Survey:
    """What one reading found, in the order of the examples; of one that was left out all zeros.

    `digests`: uint8 (n, 16), of the pixels; `hashes`: uint64 (n,), where a bit says whether a part of the coarse
    structure is above the median (pHash); `small`: uint8 (n, height, width, channels); `read`: bool (n,), whether it
    could be read; `left_out`: by index, why not; `known`: how many an interrupted reading had read.
    """

    digests: "NDArray[np.uint8]"
    hashes: "NDArray[np.uint64]"
    small: "NDArray[np.uint8]"
    read: "NDArray[np.bool_]"
    left_out: dict[int, str] = field(default_factory=dict)
    known: int = 0


def survey_images(
    images: Images,
    count: int,
    shape: Sequence[int],
    advance: Callable[[int], None],
    kept: Path | None = None,
    key: str = "",
) -> Survey:
    """Read all `count` images of this shape (height, width, channels) once, on all cores; `advance` is told how many
    are done. In the folder `kept` stays what was read: where it is of the same `key`, it is gone on with."""
    height, width, channels = shape
    side = (min(height, SMALL_SIDE), min(width, SMALL_SIDE))
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "digests": (np.uint8, (count, 16)),
        "hashes": (np.uint64, (count,)),
        "small": (np.uint8, (count, *side, channels)),
        "read": (np.bool_, (count,)),
    }
    with tempfile.TemporaryDirectory() as own, ThreadPoolExecutor(limits.available_cores()) as threads:
        folder = kept or Path(own)  # its files are there as long as they are mapped
        known, left_out = _known(folder, key, shapes) if kept else (0, dict[int, str]())
        arrays: dict[str, Any] = {
            name: np.memmap(folder / name, kind, "r+" if known else "w+", shape=size)
            for name, (kind, size) in shapes.items()
        }
        survey = Survey(**arrays, left_out=left_out, known=known)

        def look(image: "NDArray[Any]") -> tuple[bytes, np.uint64, "NDArray[np.uint8]"]:
            bytes_ = as_bytes(image, images.low, images.high)
            return hashlib.sha256(image.tobytes()).digest()[:16], perceptual_hash(bytes_), resized(bytes_, side)

        done = known
        saved = time.monotonic()
        for block, reasons in images.blocks(done):
            whole = [index for index, reason in enumerate(reasons) if reason is None]
            left_out |= {done + index: reason for index, reason in enumerate(reasons) if reason is not None}
            for index, (digest, code, small) in zip(whole, threads.map(look, block[whole]), strict=True):
                survey.digests[done + index] = np.frombuffer(digest, np.uint8)
                survey.hashes[done + index], survey.small[done + index], survey.read[done + index] = code, small, True
            done += len(block)
            advance(done)
            if kept and time.monotonic() - saved > SECONDS_BETWEEN:
                for array in arrays.values():
                    array.flush()
                files.write_json(folder / JOURNAL, {"key": key, "done": done, "left_out": left_out})
                saved = time.monotonic()
        return survey


def _known(folder: Path, key: str, shapes: Mapping[str, tuple[Any, tuple[int, ...]]]) -> tuple[int, dict[int, str]]:
    """How many images were read by a survey of this key that was interrupted, and which were left out; the folder is
    emptied where there was none."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # whatever a damaged one holds
        journal = json.loads((folder / JOURNAL).read_bytes())
        sizes = {name: np.dtype(kind).itemsize * math.prod(size) for name, (kind, size) in shapes.items()}
        if journal["key"] == key and all((folder / name).stat().st_size == size for name, size in sizes.items()):
            return int(journal["done"]), {int(index): str(why) for index, why in journal["left_out"].items()}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return 0, {}


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
