"""PNG and JPEG of strangers as raw inputs: in every form that pictures come in, within limits of memory and time."""

import asyncio
import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from exported import image_input
from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.inputs import images
from keras_pipeline.serving.inputs.images import Decoder
from keras_pipeline.serving.network import Network, load_network
from keras_pipeline.sources.pictures import Preparation, prepare_picture
from served_network import CLASSES, TABLE, write_network

NETWORKS: dict[str, Network] = {}


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_network(tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Network:
    shape = image_input(32, 32, 3)
    return load_network(write_network(tmp_path_factory.mktemp("colours"), input=shape, dataset="own", drawing=None))


def encoded(picture: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **more)
    return content.getvalue()


def decoded(decoder: Decoder, network: Network, content: bytes, kind: str = "image/png") -> Any:
    raw = asyncio.run(decoder.raw_input(network, kind, content))
    return np.frombuffer(raw, np.uint8).reshape(network.shape)


def refusal(decoder: Decoder, network: Network, content: bytes, kind: str = "image/png") -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        decoded(decoder, network, content, kind)
    return refused.value.status, refused.value.message


def drawing(size: int = 280) -> Any:
    """A thick stroke from above to below, light on black, left of the middle."""
    pixels = np.zeros((size, size), np.uint8)
    pixels[size // 5 : -size // 5, size // 4 : size // 4 + size // 10] = 255
    return pixels


def test_a_picture_of_the_network_s_size_is_taken_as_it_is(decoder: Decoder, digits: Network) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8) // 3  # on dark paper: else it is turned over
    assert np.array_equal(decoded(decoder, digits, encoded(Image.fromarray(pixels))), pixels)


FORMS: dict[str, Callable[[Any], Image.Image]] = {
    "grey": lambda ink: Image.fromarray(ink),
    "dark on light": lambda ink: Image.fromarray(255 - ink),
    "colour": lambda ink: Image.fromarray(np.stack([ink] * 3, axis=-1)),
    "palette": lambda ink: Image.fromarray(ink).convert("P"),
    "one bit": lambda ink: Image.fromarray(ink).convert("1"),
    "16 bits": lambda ink: Image.fromarray(ink.astype(np.uint16) * 257),
    "black on transparent": lambda ink: Image.fromarray(np.stack([0 * ink, ink], axis=-1)),
    "grey with alpha": lambda ink: Image.fromarray(np.stack([ink, np.full_like(ink, 255)], axis=-1)),
    "colour with alpha": lambda ink: Image.fromarray(np.stack([255 - ink] * 3 + [np.full_like(ink, 255)], axis=-1)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_drawing_in_every_form_is_one(decoder: Decoder, digits: Network, form: str) -> None:
    """The stroke fills the box of 20 pixels from above to below, its mass in the middle."""
    expected = decoded(decoder, digits, encoded(Image.fromarray(drawing())))
    found = decoded(decoder, digits, encoded(FORMS[form](drawing())))
    assert np.abs(found.astype(int) - expected).max() <= 1
    rows = np.flatnonzero(expected.any(axis=1))
    assert (len(rows), rows[0] in (4, 5)) == (20, True)
    assert abs(float((expected.sum(axis=0) * np.arange(28)).sum() / expected.sum()) - 13.5) <= 0.5


def test_a_photograph_is_turned_upright(decoder: Decoder, digits: Network) -> None:
    picture = Image.fromarray(drawing())
    upright = decoded(decoder, digits, encoded(picture, "JPEG", quality=95), "image/jpeg")
    lying = picture.transpose(Image.Transpose.ROTATE_90)  # as a camera keeps it that was held on its side
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decoded(decoder, digits, encoded(lying, "JPEG", quality=95, exif=exif), "image/jpeg")
    assert np.abs(turned.astype(int) - upright).max() < 40


def test_colours_stay_and_sides_keep_their_proportion(decoder: Decoder, colours: Network) -> None:
    picture = np.zeros((100, 50, 3), np.uint8)
    picture[..., 0], picture[..., 2] = 200, 100
    found = decoded(decoder, colours, encoded(Image.fromarray(picture)))
    assert found.shape == (32, 32, 3)
    assert found[16, 16].tolist() == [200, 0, 100]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, data: bytes, *more: bytes, bits: int = 8, colour: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    zeros = zlib.compress(bytes(50 * 10**6), 9)
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "b" * 10**7, zip=True)
    whole = encoded(Image.fromarray(drawing()))
    return {
        "a billion pixels": png(31_622, 31_622, zeros),
        "2 ** 31 pixels wide": png(2**31 - 1, 1, zeros),
        "no pixels": png(0, 0, zeros),
        "more pixels than it says": png(100, 100, zeros),
        "fewer pixels than it says": png(4000, 4000, zlib.compress(bytes(10))),
        "text that unpacks to 10 MB": encoded(Image.fromarray(drawing()), pnginfo=info),
        "profile that unpacks to 50 MB": png(28, 28, zlib.compress(bytes(29 * 28)), chunk(b"iCCP", b"a\0\0" + zeros)),
        "half of it": whole[: len(whole) // 2],
        "another byte": whole[:60] + bytes([whole[60] ^ 1]) + whole[61:],
        "empty": b"",
        "a JPEG": encoded(Image.fromarray(drawing()), "JPEG"),
        "a GIF": encoded(Image.fromarray(drawing()), "GIF"),
        "text": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_and_a_damaged_picture_cost_little(decoder: Decoder, digits: Network, name: str) -> None:
    content = bombs()[name]
    tracemalloc.start()
    began = time.monotonic()
    given = asyncio.run(tried(decoder, digits, content))
    seconds, memory = time.monotonic() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 2
    assert memory < 80e6
    assert isinstance(given, Refused)
    assert given.status == 422


async def tried(decoder: Decoder, network: Network, content: bytes) -> bytes | Refused:
    try:
        return await decoder.raw_input(network, "image/png", content)
    except Refused as refused:
        return refused


def test_the_largest_picture_is_answered_in_time(decoder: Decoder, digits: Network) -> None:
    pixels = np.zeros((4096, 4096), np.uint8)
    pixels[1000:3000, 1900:2200] = 255
    began = time.monotonic()
    assert decoded(decoder, digits, encoded(Image.fromarray(pixels))).any()
    assert time.monotonic() - began < 3
    assert refusal(decoder, digits, encoded(Image.fromarray(np.zeros((4096, 4097), np.uint8))))[0] == 422


@pytest.mark.parametrize("value", [0, 255, 128])
def test_a_picture_with_nothing_on_it_says_so(decoder: Decoder, digits: Network, value: int) -> None:
    empty = encoded(Image.fromarray(np.full((100, 100), value, np.uint8)))
    assert refusal(decoder, digits, empty) == (422, "Nothing is on the picture: all of it is as bright as its border.")


def test_a_table_takes_no_picture(decoder: Decoder, tmp_path: Path) -> None:
    network = load_network(write_network(tmp_path, TABLE))
    assert refusal(decoder, network, encoded(Image.fromarray(drawing())))[0] == 415


def test_so_many_wait_and_no_more(digits: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "WAITING", 2)
    decoder, content = Decoder(), encoded(Image.fromarray(drawing()))

    async def several() -> list[Any]:
        asked = (decoder.raw_input(digits, "image/png", content) for _ in range(3))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = asyncio.run(several())
    assert first == second
    assert (third.status, CLASSES["dataset"]) == (503, "mnist")


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_picture_is_prepared_as_the_training_s_were(decoder: Decoder, tmp_path: Path, fit: str) -> None:
    """By the same function; nothing is turned over or cut out then."""
    preparation = {"height": 20, "width": 30, "fit": fit, "colour": "rgb", "background": "black"}
    shape = image_input(20, 30, 3)
    network = load_network(write_network(tmp_path, input=shape, dataset="own", preparation=preparation))
    picture = np.random.default_rng(0).integers(0, 256, (64, 50, 4), np.uint8)
    content = encoded(Image.fromarray(picture))
    expected = prepare_picture(content, Preparation(**preparation))
    assert np.array_equal(decoded(decoder, network, content), expected)


def test_pixels_of_another_range_are_no_pictures(decoder: Decoder, tmp_path: Path) -> None:
    network = load_network(write_network(tmp_path, input=image_input(28, 28, dtype="<u2", high=4095.0)))
    status, message = refusal(decoder, network, encoded(Image.fromarray(drawing())))
    assert (status, message) == (415, "A picture, of 8 bits. Expected: the network's own pixels, as JSON or raw.")
