"""What the service of a checkout can do more: tell the nearest training images, and keep what somebody drew.

Drawings are kept on consent alone, as IDX files that a dataset file can name; so many and no more.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import files
from keras_pipeline.core.errors import PipelineError
from keras_pipeline.data.splits import Split, read_blocks, read_split
from keras_pipeline.data.statistics import Statistics, read_statistics
from keras_pipeline.serving.batching import busy
from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.inputs import numbers
from keras_pipeline.serving.network import Network
from keras_pipeline.sources.files.formats import read_idx, write_idx

NEAREST = 8
"""So many of the nearest are told."""
MOST_DRAWN = 10_000
MOST_DRAWN_BYTES = 50 * 2**20
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
WAITING = 8


class Checkout:
    """The folders `normalized` and `drawn` of a checkout, read and written in a thread of its own."""

    def __init__(self, normalized: Path, drawn: Path) -> None:
        self._normalized, self._drawn = normalized, drawn
        self._thread = ThreadPoolExecutor(1, "the checkout")
        self._waiting = 0
        self._training: tuple[Split, NDArray[np.float32]] | None = None
        try:
            self._statistics: Statistics | None = read_statistics(normalized)
        except PipelineError:  # nothing was normalized here
            self._statistics = None

    def has_neighbours(self, network: Network) -> bool:
        """Whether the training images here are of the network's dataset, scaled as it scales its inputs."""
        manifest, given, here = network.manifest, network.manifest["input"], self._statistics
        return (
            network.kind == np.uint8
            and given["kind"] == "images"
            and here is not None
            and [given["height"], given["width"], given["channels"]] == here["shape"]
            and (here["dataset"], here["scaling"], here["class_names"])
            == (manifest["dataset"], manifest["scaling"], manifest["class_names"])
        )

    async def neighbours(self, network: Network, raw: bytes) -> list[dict[str, Any]]:
        """The training images nearest to a raw input, the nearest first: {"label", "distance", "pixels"}; the distance
        is the Euclidean one of pixels from 0 to 255."""
        found: list[dict[str, Any]] = await self._in_thread(self._nearest, network, raw)
        return found

    async def keep(self, network: Network, asked: dict[str, Any], doubtful: bool) -> dict[str, int]:
        """Add {"pixels", "label", "consent": true} to what was drawn; {"drawn": how many there are}. Raises Refused."""
        if set(asked) != {"pixels", "label", "consent"}:
            raise Refused(422, 'Expected: "pixels", "label" and "consent", no more and no less.')
        if asked["consent"] is not True:
            raise Refused(422, "consent: it is not given. Expected: true. Nothing was kept.")
        names = network.manifest["class_names"]
        if type(asked["label"]) is not str or asked["label"] not in names:
            raise Refused(422, "label: another one. Expected: one of the class names.")
        raw = numbers.pack(network, [asked["pixels"]], "pixels", doubtful, one=True)
        return {"drawn": await self._in_thread(self._keep, network, raw, names.index(asked["label"]))}

    async def _in_thread(self, work: Any, *arguments: Any) -> Any:
        if self._waiting >= WAITING:
            raise busy()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        finally:
            self._waiting -= 1

    def _nearest(self, network: Network, raw: bytes) -> list[dict[str, Any]]:
        if self._training is None:
            split = read_split(self._normalized, "train", self._statistics)  # type: ignore[arg-type]
            self._training = split, np.concatenate([_squares(block) for block in read_blocks(split.inputs)])
        split, squares = self._training
        asked = np.frombuffer(raw, np.uint8).astype(np.float32)
        products = [block.reshape(len(block), -1).astype(np.float32) @ asked for block in read_blocks(split.inputs)]
        nearest = np.argsort(squares - 2 * np.concatenate(products))[:NEAREST]
        names = network.manifest["class_names"]
        found = []
        for index in nearest.tolist():
            pixels = split.inputs[index].reshape(-1)
            apart = pixels.astype(np.int64) - np.frombuffer(raw, np.uint8)
            found.append(
                {
                    "label": names[int(split.targets[index])],
                    "distance": float(np.sqrt((apart * apart).sum())),
                    "pixels": pixels.reshape(network.shape).tolist(),
                }
            )
        return found

    def _keep(self, network: Network, raw: bytes, label: int) -> int:
        image = np.frombuffer(raw, np.uint8).reshape(1, *network.shape)
        with files.lock_folder(self._drawn):
            images, labels = self._kept(image.shape[1:])
            if len(labels) >= MOST_DRAWN or (images.nbytes + image.nbytes) > MOST_DRAWN_BYTES:
                raise Refused(507, f"{len(labels)} drawings are kept. Expected: fewer. Move data/drawn away.")
            files.write_atomically(self._drawn / IMAGES, write_idx(np.concatenate([images, image])))
            files.write_atomically(self._drawn / LABELS, write_idx(np.append(labels, np.uint8(label))))
        return len(labels) + 1

    def _kept(self, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """What was kept so far; an image whose label was not written any more is none."""
        if not (self._drawn / LABELS).exists():
            return np.empty((0, *shape), np.uint8), np.empty(0, np.uint8)
        images, labels = (
            read_idx(files.read_content(self._drawn / name, "serve"), str(self._drawn / name))
            for name in (IMAGES, LABELS)
        )
        return images[: len(labels)], labels


def _squares(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of each image the sum of its squared pixels."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    squares: NDArray[np.float32] = np.einsum("ij,ij->i", flat, flat)
    return squares
