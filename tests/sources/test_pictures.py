"""One picture file to pixels: every format, what is transparent, turned, deep, damaged or too large."""

import io
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from keras_pipeline.sources import pictures
from keras_pipeline.sources.pictures import Preparation, picture_size, prepare_picture

RAMP = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10) * 2
COLOURS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
GREY, RGB = Preparation(12, 10, colour="grey"), Preparation(12, 10)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png(header: bytes, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of any bytes."""
    listed = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in listed
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_png(values: np.ndarray[Any, Any], *chunks: tuple[bytes, bytes]) -> bytes:
    """16 bits a value, grey or RGB."""
    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 0 if values.ndim == 2 else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(header, rows, *chunks)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_a_picture_of_the_right_size_and_colour_is_not_changed(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    if kind != "GIF":  # of which each has 256 colours
        found = prepare_picture(encoded(Image.fromarray(COLOURS), kind, **options), RGB)
        assert (found.dtype, found.tolist()) == (np.uint8, COLOURS.tolist())
    found = prepare_picture(encoded(Image.fromarray(RAMP), kind, **options), GREY)
    assert (found.shape, found[..., 0].tolist()) == ((12, 10, 1), RAMP.tolist())
    assert prepare_picture(encoded(Image.fromarray(RAMP), kind, **options), RGB)[..., 2].tolist() == RAMP.tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_stays_the_same_grey_in_every_mode(mode: str) -> None:
    content = encoded(Image.fromarray(RAMP).convert(mode))
    assert prepare_picture(content, GREY)[..., 0].tolist() == RAMP.tolist()


def test_a_jpeg_is_near_to_what_it_shows() -> None:
    smooth = np.repeat(np.linspace(0, 255, 100).astype(np.uint8)[None], 120, 0)
    for options in ({}, {"progressive": True}):
        found = prepare_picture(
            encoded(Image.fromarray(smooth), "JPEG", **options), Preparation(120, 100, colour="grey")
        )
        assert np.abs(found[..., 0].astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_large_jpeg_is_decoded_smaller_and_hardly_differs(mode: str) -> None:
    rows, columns = np.mgrid[0:1000, 0:1600]
    smooth = (127 + 60 * np.sin(rows / 150) + 60 * np.cos(columns / 190)).astype(np.uint8)
    picture = Image.fromarray(smooth).convert(mode)
    small = prepare_picture(encoded(picture, "JPEG", quality=95), Preparation(50, 80, colour="grey"))
    whole = prepare_picture(encoded(picture.convert("L")), Preparation(50, 80, colour="grey"))
    assert np.abs(small.astype(int) - whole).max() <= 4


def test_bits_become_black_and_white() -> None:
    bits = RAMP > 100
    for kind in ("PNG", "BMP", "TIFF"):
        assert prepare_picture(encoded(Image.fromarray(bits), kind), GREY)[..., 0].tolist() == (bits * 255).tolist()


def test_of_sixteen_bits_the_upper_eight_are_taken() -> None:
    deep = np.arange(120, dtype=np.uint16).reshape(12, 10) * 541
    assert prepare_picture(deep_png(deep), GREY)[..., 0].tolist() == (deep >> 8).tolist()
    tiff = encoded(Image.fromarray(deep), "TIFF")
    assert prepare_picture(tiff, RGB)[..., 1].tolist() == (deep >> 8).tolist()
    colours = COLOURS.astype(np.uint16) * 256 + 200
    assert prepare_picture(deep_png(colours), RGB).tolist() == COLOURS.tolist()


def test_a_grey_that_stands_for_nothing_shows_the_background() -> None:
    deep = np.full((12, 10), 40_000, np.uint16)
    deep[0] = 513
    found = prepare_picture(deep_png(deep, (b"tRNS", struct.pack(">H", 513))), GREY)[..., 0]
    assert (set(found[0].tolist()), set(found[1:].reshape(-1).tolist())) == ({255}, {40_000 >> 8})
    shallow = encoded(Image.fromarray(RAMP), transparency=0)
    assert prepare_picture(shallow, Preparation(12, 10, colour="grey", background="white"))[0, 0] == 255


@pytest.mark.parametrize(("background", "value"), [("white", 255), ("black", 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_what_is_transparent_shows_the_background(mode: str, background: Any, value: int) -> None:
    """Never the colour that is hidden below it, here a red or a grey."""
    alpha = Image.fromarray(np.where(RAMP < 100, 0, 255).astype(np.uint8))
    options: dict[str, Any] = {}
    if mode in ("RGBA", "LA"):
        picture = Image.new(mode, (10, 12), (200, 0, 0, 255) if mode == "RGBA" else (90, 255))
        picture.putalpha(alpha)
    elif mode == "RGB":
        picture, options = Image.new("RGB", (10, 12), (200, 0, 0)), {"transparency": (200, 0, 0)}
        picture.paste((10, 20, 30), mask=alpha)
    else:
        picture, options = Image.fromarray((np.asarray(alpha) > 0).astype(np.uint8)), {"transparency": 0}
        picture.putpalette([200, 0, 0, 10, 20, 30])
    found = prepare_picture(encoded(picture, **options), Preparation(12, 10, background=background))
    assert (found[RAMP < 100] == value).all()
    assert (found[RAMP >= 100] != value).any()


def test_half_transparent_is_half_of_each() -> None:
    content = encoded(Image.new("RGBA", (10, 12), (100, 0, 200, 128)))
    assert prepare_picture(content, Preparation(12, 10, background="black"))[0, 0].tolist() == [50, 0, 100]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_it_is_turned_as_exif_says(orientation: int, kind: str) -> None:
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
        6: np.rot90(upright), 7: upright.T[::-1, ::-1], 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif.tobytes(), **options)
    assert picture_size(content) == (16, 24)
    found = prepare_picture(content, Preparation(16, 24, colour="grey"))[..., 0]
    assert np.abs(found.astype(int) - upright).max() <= 8


@pytest.mark.parametrize(
    "broken", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_broken_exif_spoils_no_picture(kind: str, broken: bytes) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(COLOURS), kind, exif=broken, **options)
    assert prepare_picture(content, RGB).shape == (12, 10, 3)


def test_a_png_may_say_at_its_end_how_it_is_turned() -> None:
    exif = Image.Exif()
    exif[274] = 3
    content = encoded(Image.fromarray(RAMP))
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    at = content.index(b"IEND") - 4
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    found = prepare_picture(content[:at] + chunk + content[at:], GREY)
    assert found[..., 0].tolist() == RAMP[::-1, ::-1].tolist()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF"])
def test_the_size_is_read_without_the_pixels(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.fromarray(RAMP), kind)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("pixels were made"))
    assert picture_size(content) == (12, 10)


def test_cmyk_is_no_negative() -> None:
    """JPEGs of four inks are stored inverted, as Adobe's are; TIFFs are not."""
    white, red = Image.new("CMYK", (10, 12), (0, 0, 0, 0)), Image.new("CMYK", (10, 12), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        content = encoded(white, kind)
        assert (b"Adobe" in content) == (kind == "JPEG")
        assert prepare_picture(content, RGB).min() >= 253
        assert np.abs(prepare_picture(encoded(red, kind), RGB)[0, 0].astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind: str) -> None:
    frames = [Image.fromarray(np.full((12, 10), value, np.uint8)) for value in (30, 200, 90)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert set(prepare_picture(content, GREY).reshape(-1).tolist()) == {30}


def test_a_phones_picture_with_a_second_one_behind_it_is_a_jpeg() -> None:
    two = [Image.fromarray(np.full((12, 10), value, np.uint8)) for value in (30, 200)]
    content = encoded(two[0], "MPO", save_all=True, append_images=two[1:])
    assert np.abs(prepare_picture(content, GREY).astype(int) - 30).max() <= 2


# The size.


def halves(height: int, width: int, *, upright: bool = False) -> bytes:
    """Black, and white in the right or the lower half."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[(slice(height // 2, None),) if upright else (slice(None), slice(width // 2, None))] = 255
    return encoded(Image.fromarray(pixels))


def test_crop_keeps_the_middle() -> None:
    found = prepare_picture(halves(20, 60), Preparation(10, 10, "crop", "grey"))[..., 0]
    assert found[:, :5].max() < 50
    assert found[:, 5:].min() > 205
    tall = prepare_picture(halves(61, 20, upright=True), Preparation(10, 10, "crop", "grey"))[..., 0]
    assert tall[:4].max() == 0
    assert tall[6:].min() == 255


@pytest.mark.parametrize(("background", "value"), [("white", 255), ("black", 0)])
def test_pad_keeps_all_of_it(background: Any, value: int) -> None:
    grey = encoded(Image.new("L", (60, 20), 128))
    found = prepare_picture(grey, Preparation(12, 12, "pad", "grey", background))[..., 0]
    assert set(found[4:8].reshape(-1).tolist()) == {128}
    assert set(np.delete(found, range(4, 8), 0).reshape(-1).tolist()) == {value}
    thread = prepare_picture(encoded(Image.new("L", (3000, 1), 128)), Preparation(12, 12, "pad", "grey", background))
    assert (thread == 128).sum() == 12


def test_stretch_fills_the_image() -> None:
    found = prepare_picture(halves(20, 60), Preparation(10, 30, "stretch", "grey"))[..., 0]
    assert found[:, :14].max() == 0
    assert found[:, 16:].min() == 255


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_what_becomes_smaller_is_no_choice_of_pixels(fit: Any) -> None:
    """A fine pattern becomes its mean, not one of its colours."""
    board = encoded(Image.fromarray((np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)))
    found = prepare_picture(board, Preparation(16, 16, fit, "grey"))
    assert np.abs(found.astype(int) - 127).max() <= 4


def test_a_smaller_picture_is_enlarged() -> None:
    for fit in ("crop", "pad", "stretch"):
        assert set(prepare_picture(encoded(Image.new("L", (1, 1), 7)), Preparation(9, 9, fit, "grey")).flat) == {7}  # type: ignore[arg-type]


# What is refused.


def whole_pictures() -> dict[str, bytes]:
    rough = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 48, 3), np.uint8))
    return {
        **{kind: encoded(rough, kind) for kind in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")},
        "progressive": encoded(rough, "JPEG", progressive=True),
        "compressed TIFF": encoded(rough, "TIFF", compression="tiff_lzw"),
    }


@pytest.mark.parametrize("left", [0.95, 0.5, 0.1, 0.01])
@pytest.mark.parametrize("kind", whole_pictures())
def test_a_picture_that_is_cut_off_is_refused(kind: str, left: float) -> None:
    content = whole_pictures()[kind]
    assert prepare_picture(content, Preparation(8, 8)).shape == (8, 8, 3)
    with pytest.raises(ValueError, match=r"^(damaged or cut off|no picture) .* Expected: "):
        prepare_picture(content[: int(len(content) * left)], Preparation(8, 8))


def test_a_large_jpeg_that_is_cut_off_is_refused_though_it_is_decoded_smaller() -> None:
    content = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (640, 480, 3), np.uint8)), "JPEG")
    with pytest.raises(ValueError, match=r"^damaged or cut off .*truncated"):
        prepare_picture(content[:-2000], Preparation(8, 8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"^no picture \(0 bytes\)\. Expected: PNG, JPEG, BMP, WebP, TIFF or GIF$"),
        (b"Hello, I am a text.", r"^no picture \(begins with b'Hello, I am '\)"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "^no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "^no picture"),
        (b"P5 2 2 255\nabcd", "^no picture"),
        (b"\x89PNG\r\n\x1a\n", "^(no picture|damaged)"),
    ],
)  # fmt: skip
def test_what_is_no_picture_of_these_formats_is_refused(content: bytes, message: str) -> None:
    for function in (picture_size, lambda given: prepare_picture(given, RGB)):
        with pytest.raises(ValueError, match=message):
            function(content)


def bombs() -> dict[str, bytes]:
    side = 60_000
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    gif = bytearray(encoded(Image.fromarray(RAMP), "GIF"))
    gif[6:10] = struct.pack("<HH", side, side)
    bmp = bytearray(encoded(Image.fromarray(RAMP), "BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    webp = bytearray(encoded(Image.new("RGBA", (10, 12), (1, 2, 3, 4)), "WEBP"))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = struct.pack("<I", 16_000)[:3] * 2
    tiff = encoded(Image.new("1", (9000, 9000)), "TIFF", compression="tiff_ccitt")
    return {"PNG": png(header, b"\0" * 100), "GIF": bytes(gif), "BMP": bytes(bmp), "WEBP": bytes(webp), "TIFF": tiff}


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_bomb_is_refused_before_its_pixels_are_made(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bombs()[kind]
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("pixels were made"))
    for function in (picture_size, lambda given: prepare_picture(given, RGB)):
        with pytest.raises(ValueError, match=r"pixels. Expected: 67,108,864 at most$|^damaged"):
            function(content)


def test_descriptions_that_unpack_to_much_are_refused_or_left_packed() -> None:
    described = PngImagePlugin.PngInfo()
    described.add_text("Comment", "x" * 50_000_000, zip=True)
    with pytest.raises(ValueError, match=r"^damaged or cut off .*Decompressed data too large"):
        prepare_picture(encoded(Image.fromarray(COLOURS), pnginfo=described), RGB)


def test_values_that_no_picture_has_are_refused() -> None:
    for values in (np.zeros((12, 10), np.int32), np.zeros((12, 10), np.float32)):
        with pytest.raises(ValueError, match=r"^signed, 32-bit or floating-point values. Expected: 1, 8 or 16 bits"):
            prepare_picture(encoded(Image.fromarray(values), "TIFF"), GREY)
    inverted = encoded(Image.fromarray(np.zeros((12, 10), np.uint16)), "TIFF", tiffinfo={262: 0})
    with pytest.raises(ValueError, match=r"^16 bits a value, of which 0 is white"):
        prepare_picture(inverted, GREY)


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match=r"^more than 10 bytes"):
        prepare_picture(encoded(Image.fromarray(RAMP)), GREY)


@pytest.mark.parametrize("kind", whole_pictures())
def test_no_byte_that_is_changed_raises_anything_else(kind: str) -> None:
    """Most changes are not noticed; none is answered by another exception, a warning or a line."""
    content = whole_pictures()[kind]
    generator = np.random.default_rng(2)
    for _ in range(60):
        changed = bytearray(content)
        for at in generator.integers(0, min(len(content), 400 if generator.random() < 0.7 else len(content)), 3):
            changed[at] = generator.integers(256)
        with suppress(ValueError):
            assert prepare_picture(bytes(changed), Preparation(8, 8)).shape == (8, 8, 3)


def test_a_damaged_picture_writes_no_line_of_its_library(capfd: pytest.CaptureFixture[str]) -> None:
    for content in whole_pictures().values():
        for left in range(20, len(content), len(content) // 40):
            with suppress(ValueError):
                prepare_picture(content[:left], RGB)
    assert capfd.readouterr() == ("", "")


def test_the_versions_that_pixels_depend_on_are_told() -> None:
    found = pictures.decoders()
    assert set(found) == {"pillow", "libjpeg_turbo", "webp", "libtiff"}
    assert all(version[0].isdigit() for version in found.values())


def test_colour_profiles_are_not_looked_at() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert prepare_picture(encoded(Image.fromarray(COLOURS), icc_profile=profile), RGB).tolist() == COLOURS.tolist()
