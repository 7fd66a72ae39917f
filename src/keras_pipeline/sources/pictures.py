"""The bytes of one picture file as the pixels that a network takes: one function for datasets, `predict` and the
service, so that a picture is prepared everywhere as it was for the training.

Nothing of a file is believed before it is measured: the header's size is judged before pixels are made, and a picture
is decoded as a whole or refused. Pillow is imported where a picture is read, not with this module.
"""

import io
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

Fit = Literal["crop", "pad", "stretch"]
Colour = Literal["grey", "rgb"]
Background = Literal["white", "black"]
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
"""As Pillow calls them. No other of its readers is given a byte."""
ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".gif")
"""Of the names of such files, in small letters."""
MOST_BYTES = 2**28
MOST_PIXELS = 2**26
"""Of one file. The largest cameras make 61 million pixels; 2²⁶ in colour are 256 MB of memory."""
LARGE_PIXELS = 2**24
_one_large_picture = threading.Lock()
"""Of those with more pixels one is decoded at a time, however many threads there are: for the memory's sake."""
FINER = 2
"""A JPEG may be decoded at an eighth, a quarter or a half of its size, which is faster, where that is so many times
what is asked for."""


@dataclass(frozen=True)
class Preparation:
    """How a picture of any size becomes an image of the dataset.

    `fit`: what happens where the picture has another shape than the image. `crop`: it is made to cover the image, what
    is over at two sides is cut off, and its middle stays. `pad`: all of it is on the image, in the middle, with
    `background` at two sides. `stretch`: all of it is on the image, and its shape is not kept. A smaller picture is
    enlarged. `colour`: "grey" has one channel, "rgb" three. `background`: also what shows through where the picture is
    transparent. `dataclasses.asdict` gives the JSON of which `Preparation(**values)` makes the same again.
    """

    height: int
    width: int
    fit: Fit = "crop"
    colour: Colour = "rgb"
    background: Background = "white"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        return self.height, self.width, 1 if self.colour == "grey" else 3


def prepare_picture(content: bytes, preparation: Preparation) -> "NDArray[np.uint8]":
    """The picture as uint8 (height, width, channels), 0 black to 255 white.

    Of several frames or pages the first; turned as EXIF says, but for EXIF that cannot be read; the upper 8 of 16 bits;
    where it is scaled, each pixel is a mean weighted by a triangle over all that it covers (Pillow's BILINEAR). A
    picture that has the size and the colour is not changed by a bit. Colour profiles are not looked at. Raises
    ValueError with what is wrong and what is expected where it is no picture, damaged, cut off, or too large.
    """
    import numpy as np

    with _opened(content) as picture:
        longest = FINER * max(preparation.height, preparation.width)
        picture.draft(None, (longest, longest))
        width, height = picture.size
        with _one_large_picture if width * height > LARGE_PIXELS else nullcontext():
            picture.load()
            plain = _plain(picture, preparation)
            if (turned := _orientation(picture)) is not None:
                plain = plain.transpose(turned)
            pixels = np.asarray(_fitted(plain, preparation))
    return pixels.reshape(preparation.shape)


def picture_size(content: bytes) -> tuple[int, int]:
    """(height, width) of the picture as it is shown, by its header alone. Raises ValueError as `prepare_picture`."""
    with _opened(content) as picture:
        turned = _orientation(picture)
        width, height = picture.size
    return (width, height) if turned is not None and turned.name in _ON_ITS_SIDE else (height, width)


def decoders() -> dict[str, str]:
    """The libraries on whose versions pixels depend, those of JPEG most of all."""
    from PIL import __version__, features

    found = {name: features.version(name) for name in ("libjpeg_turbo", "webp", "libtiff")}
    return {"pillow": __version__, **{name: version for name, version in found.items() if version}}


@contextmanager
def _opened(content: bytes) -> "Iterator[Image.Image]":
    """The picture, of which the header is read. What Pillow makes of its bytes within is raised as ValueError."""
    from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes. Expected: so many at most")
    if _IGNORED not in warnings.filters:  # other threads read the list
        warnings.filterwarnings("ignore", module=_IGNORED[3].pattern)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
            if not 0 < width * height <= MOST_PIXELS:
                raise _RefusedError(f"{width} × {height} pixels. Expected: {MOST_PIXELS:,} at most")
            yield picture
    except _RefusedError as refused:
        raise ValueError(str(refused)) from None
    except MemoryError:
        raise
    except UnidentifiedImageError:
        begins = f"begins with {content[:12]!r}" if content else "0 bytes"
        raise ValueError(f"no picture ({begins}). Expected: PNG, JPEG, BMP, WebP, TIFF or GIF") from None
    except Image.DecompressionBombError:
        raise ValueError(f"too many pixels. Expected: {MOST_PIXELS:,} at most") from None
    except Exception as error:  # whatever Pillow and its libraries raise for bytes that are damaged
        reason = str(error).strip().split("\n")[0][:100] or type(error).__name__
        raise ValueError(f"damaged or cut off ({reason}). Expected: a whole picture") from None


_IGNORED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
"""As Python keeps it. Pillow warns of sizes, for which there is a limit here, and of broken EXIF."""
_ON_ITS_SIDE = {"ROTATE_90", "ROTATE_270", "TRANSPOSE", "TRANSVERSE"}


class _RefusedError(Exception):
    """Of our own words, which stand as they are."""


def _orientation(picture: "Image.Image") -> "Image.Transpose | None":
    """What is to be done to show it upright. Broken EXIF says nothing: the pixels are judged by themselves. Of a TIFF
    Pillow itself does it."""
    from PIL import ExifTags, Image

    with suppress(Exception):
        if picture.format == "TIFF":
            return None
        way = Image.Transpose
        ways = {
            2: way.FLIP_LEFT_RIGHT, 3: way.ROTATE_180, 4: way.FLIP_TOP_BOTTOM,
            5: way.TRANSPOSE, 6: way.ROTATE_270, 7: way.TRANSVERSE, 8: way.ROTATE_90,
        }  # fmt: skip
        exif = Image.Image.getexif(picture)  # what is known: that of PNG's own class decodes the picture
        return ways.get(exif.get(ExifTags.Base.Orientation, 1))
    return None


def _plain(picture: "Image.Image", preparation: Preparation) -> "Image.Image":
    """8 bits for a grey, or for each of red, green and blue; nothing is transparent any more."""
    from PIL import Image

    mode = "L" if preparation.colour == "grey" else "RGB"
    if picture.mode.startswith("I;16"):
        picture = _upper_bits(picture)
    if picture.mode in ("I", "F"):
        raise _RefusedError("signed, 32-bit or floating-point values. Expected: 1, 8 or 16 bits, or the kind `arrays`")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        shown = Image.new("RGB", picture.size, preparation.background)
        shown.paste(picture, mask=picture.getchannel("A"))
        picture = shown
    return picture if picture.mode == mode else picture.convert(mode)


def _upper_bits(picture: "Image.Image") -> "Image.Image":
    """Of a grey picture of 16 bits; Pillow would make everything above 255 white."""
    import numpy as np
    from PIL import Image

    tags: Any = getattr(picture, "tag_v2", {})
    bits = tags.get(258, (16,))[0]
    if tags.get(262) == 0:
        raise _RefusedError(f"{bits} bits a value, of which 0 is white. Expected: 0 is black")
    wide = np.asarray(picture).astype(np.uint16)
    upper = Image.fromarray((wide >> (bits - 8)).astype(np.uint8))
    hidden = picture.info.get("transparency")
    if isinstance(hidden, int):
        upper = upper.convert("LA")
        upper.putalpha(Image.fromarray(np.where(wide == hidden, 0, 255).astype(np.uint8)))
    return upper


def _fitted(picture: "Image.Image", preparation: Preparation) -> "Image.Image":
    """In the size that is asked for."""
    from PIL import Image

    wanted = preparation.width, preparation.height
    width, height = picture.size
    if (width, height) == wanted:
        return picture
    filtered = Image.Resampling.BILINEAR
    if preparation.fit == "stretch":
        return picture.resize(wanted, filtered)
    scales = wanted[0] / width, wanted[1] / height
    if preparation.fit == "crop":
        kept = [min(length, one / max(scales)) for length, one in zip((width, height), wanted, strict=True)]
        left, top = (width - kept[0]) / 2, (height - kept[1]) / 2
        return picture.resize(wanted, filtered, (left, top, left + kept[0], top + kept[1]))
    width, height = (
        min(one, max(1, round(length * min(scales)))) for length, one in zip((width, height), wanted, strict=True)
    )
    image = Image.new(picture.mode, wanted, preparation.background)
    image.paste(picture.resize((width, height), filtered), ((wanted[0] - width) // 2, (wanted[1] - height) // 2))
    return image
