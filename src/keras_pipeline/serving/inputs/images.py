"""A PNG or JPEG of a stranger's as the pixels that a network takes: decoded within limits, in a thread of its own."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_pipeline.serving.batching import busy
from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.inputs.pictures import EMPTY, image_of_picture
from keras_pipeline.serving.network import Network
from keras_pipeline.sources.pictures import picture_size

KINDS = {"image/png": "PNG", "image/jpeg": "JPEG"}
SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff"}
MOST_BYTES = 10 * 2**20
MOST_PIXELS = 2**24
"""Of a picture as it is sent; a camera's has twelve millions."""
MOST_TEXT = 2**18
"""So many bytes may a picture's descriptions unpack to."""
WAITING = 16
"""So many pictures may wait to be decoded."""


def takes_pictures(network: Network) -> bool:
    """Whether its pixels are those of pictures: 8 bits, all of them."""
    return network.of_images and network.kind == np.uint8 and (network.low, network.high) == (0, 255)


class Decoder:
    """Decodes one picture after the other."""

    def __init__(self) -> None:
        from PIL import Image, PngImagePlugin

        Image.MAX_IMAGE_PIXELS = MOST_PIXELS
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MOST_TEXT
        self._thread = ThreadPoolExecutor(1, "pictures")
        self._waiting = 0

    async def raw_input(self, network: Network, kind: str, body: bytes) -> bytes:
        """The picture as a raw input of the network. Raises Refused where it is none, too large, or nothing is on it,
        or too many wait."""
        if network.manifest["input"]["kind"] != "images":
            raise Refused(415, "A picture. Expected: the numbers of a table, as JSON or raw float32.")
        if not takes_pictures(network):
            raise Refused(415, "A picture, of 8 bits. Expected: the network's own pixels, as JSON or raw.")
        if self._waiting >= WAITING:
            raise busy()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._decode, network, kind, body)
        finally:
            self._waiting -= 1

    def _decode(self, network: Network, kind: str, body: bytes) -> bytes:
        manifest, name = network.manifest, KINDS[kind]
        given: Any = manifest["input"]
        if not body.startswith(SIGNATURES[name]):
            raise Refused(422, f"The body is no {name} that can be read. Expected: a whole, undamaged one.")
        try:
            height, width = picture_size(body)
            if width * height > MOST_PIXELS:
                raise Refused(422, f"A picture of {width} × {height} pixels. Expected: {MOST_PIXELS:,} at most.")
            shape = given["height"], given["width"], given["channels"]
            return image_of_picture(body, shape, manifest["preparation"], manifest["drawing"]).tobytes()
        except ValueError as fault:
            if str(fault) == EMPTY:
                raise Refused(422, "Nothing is on the picture: all of it is as bright as its border.") from None
            raise Refused(
                422, f"The body is no {name} that can be read: {ascii(str(fault))[1:-1]}. Expected: an undamaged one."
            ) from None
