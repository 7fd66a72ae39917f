"""A PNG or JPEG of a stranger's as the pixels that a network takes: decoded within limits, in a thread of its own."""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_pipeline.serving.batching import busy
from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.network import Network
from keras_pipeline.serving.page.pictures import network_input

KINDS = {"image/png": "PNG", "image/jpeg": "JPEG"}
MOST_BYTES = 10 * 2**20
MOST_PIXELS = 2**24
"""Of a picture as it is sent; a camera's has twelve millions."""
MOST_TEXT = 2**18
"""So many bytes may a picture's descriptions unpack to."""
WAITING = 16
"""So many pictures may wait to be decoded."""


class Decoder:
    """Decodes one picture after the other."""

    def __init__(self) -> None:
        from PIL import Image, ImageOps, PngImagePlugin

        self._image, self._operations = Image, ImageOps
        Image.MAX_IMAGE_PIXELS = MOST_PIXELS
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MOST_TEXT
        self._thread = ThreadPoolExecutor(1, "pictures")
        self._waiting = 0

    async def raw_input(self, network: Network, kind: str, body: bytes) -> bytes:
        """The picture as a raw input of the network. Raises Refused where it is none, too large, or nothing is on it,
        or too many wait."""
        if network.manifest["input"]["kind"] != "images":
            raise Refused(415, "A picture. Expected: the numbers of a table, as JSON or raw float32.")
        if self._waiting >= WAITING:
            raise busy()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._decode, network, kind, body)
        finally:
            self._waiting -= 1

    def _decode(self, network: Network, kind: str, body: bytes) -> bytes:
        given: Any = network.manifest["input"]
        name = KINDS[kind]
        try:
            with self._image.open(io.BytesIO(body), formats=[name]) as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    raise Refused(422, f"A picture of {width} × {height} pixels. Expected: {MOST_PIXELS:,} at most.")
                upright = self._operations.exif_transpose(picture)
                pixels = np.asarray(self._plain(upright, "L" if given["channels"] == 1 else "RGB"))
        except self._image.DecompressionBombError:
            raise Refused(422, f"A picture of too many pixels. Expected: {MOST_PIXELS:,} at most.") from None
        except Refused:
            raise
        except Exception:  # whatever Pillow makes of damaged bytes
            raise Refused(422, f"The body is no {name} that can be read. Expected: a whole, undamaged one.") from None
        layers = [
            network_input(layer, network.manifest["drawing"], given["height"], given["width"])
            for layer in (pixels[..., None] if pixels.ndim == 2 else pixels).transpose(2, 0, 1)
        ]
        found = [layer for layer in layers if layer is not None]
        if len(found) < len(layers):
            raise Refused(422, "Nothing is on the picture: all of it is as bright as its border.")
        return np.stack(found, axis=-1).tobytes()

    def _plain(self, picture: Any, mode: str) -> Any:
        """8 bits for each grey or colour; what is transparent is paper."""
        if picture.mode.startswith("I"):
            wide = np.asarray(picture).astype(np.int64)
            picture = self._image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8))
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            paper = self._image.new("RGBA", picture.size, "white")
            paper.alpha_composite(picture)
            picture = paper.convert("RGB")
        return picture.convert(mode)
