"""Images of three classes that a quick network tells apart, in memory, as a kind gives them; and faults in them."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("disc", "square", "stripes")


def clean_images(each: int = 40, side: int = 24, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, side, side, 3) on a noisy ground, class after class; no two of them alike."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    made = []
    for number, name in enumerate(CLASSES):
        for _ in range(each):
            ground, colour = random.uniform(20, 90, 3), random.uniform(100, 170, 3)
            colour[number] += 80
            cy, cx = random.uniform(0.35, 0.65, 2) * side
            size = random.uniform(0.2, 0.3) * side
            shape = {
                "disc": (y - cy) ** 2 + (x - cx) ** 2 < size**2,
                "square": np.maximum(abs(y - cy), abs(x - cx)) < size,
                "stripes": (x // random.integers(2, 4) + random.integers(2)) % 2 == 0,
            }[name]
            image = np.where(shape[..., None], colour, ground) + random.normal(0, 5, (side, side, 3))
            made.append(np.clip(image, 0, 255).astype(np.uint8))
    return np.stack(made), np.repeat(np.arange(len(CLASSES)), each).astype(np.int64)


def as_jpeg(image: NDArray[np.uint8], quality: int = 80) -> NDArray[np.uint8]:
    """The image after a compression."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(content))


def brighter(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.clip(image.astype(np.int64) * 1.1 + 12, 0, 255).astype(np.uint8)


@dataclass
class InMemory:
    """Images as a kind gives them, some at a time; `damaged`: by index, why one cannot be read."""

    images: NDArray[Any]
    damaged: dict[int, str] = field(default_factory=dict)
    low: float = 0
    high: float = 255
    block: int = 50

    @property
    def dtype(self) -> str:
        return self.images.dtype.str

    def blocks(self, done: int = 0) -> Iterator[tuple[NDArray[Any], list[str | None]]]:
        for start in range(done, len(self.images), self.block):
            some = self.images[start : start + self.block].copy()
            reasons = [self.damaged.get(start + index) for index in range(len(some))]
            for index, reason in enumerate(reasons):
                if reason:
                    some[index] = 0
            yield some, reasons


def write_pictures(images: Any, labels: Any, folder: str | Path = "photos") -> list[Path]:
    """A folder a class; the names are in the order of the images."""
    paths = [Path(folder, CLASSES[label], f"{index:03}.png") for index, label in enumerate(labels)]
    for path, image in zip(paths, images, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return paths
