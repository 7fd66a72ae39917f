"""A folder of 300 pictures in three classes, as people have them: of odd sizes, in every format, grey and in colours,
turned by EXIF, transparent, with a palette, of 16 bits.

python tests/support/made_pictures.py FOLDER

`photograph`: parts of scikit-learn's two sample photographs; `digit`: its digits, enlarged; `shape`: drawn ones.
"""

import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("digit", "photograph", "shape")
ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif", "GIF": ".gif"}
FORMATS = tuple(ENDINGS)


def make_pictures(folder: Path, count: int = 100, seed: int = 0) -> Path:
    """Write `count` pictures of each class into a folder for each; the same ones every time."""
    from sklearn.datasets import load_digits, load_sample_images

    chance = random.Random(seed)
    photographs = [Image.fromarray(one) for one in load_sample_images().images]
    digits = load_digits().images
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            if name == "digit":
                picture = _digit(digits[chance.randrange(len(digits))], chance)
            elif name == "photograph":
                picture = _part(chance.choice(photographs), chance)
            else:
                picture = _shape(chance)
            _save(picture, folder / name, number, chance)
    return folder


def _digit(values: np.ndarray, chance: random.Random) -> Image.Image:  # type: ignore[type-arg]
    side = chance.randint(20, 120)
    picture = Image.fromarray((255 - values * 15.9).astype(np.uint8))
    return picture.resize((side, side + chance.randint(-5, 15)), Image.Resampling.BICUBIC)


def _part(photograph: Image.Image, chance: random.Random) -> Image.Image:
    width, height = chance.randint(60, 400), chance.randint(60, 300)
    left, top = chance.randint(0, photograph.width - width), chance.randint(0, photograph.height - height)
    return photograph.crop((left, top, left + width, top + height))


def _shape(chance: random.Random) -> Image.Image:
    width, height = chance.randint(40, 200), chance.randint(40, 200)
    picture = Image.new("RGBA", (width, height), (0, 0, 0, 0) if chance.random() < 0.3 else (250, 250, 245, 255))
    draw = ImageDraw.Draw(picture)
    colours = [(200, 30, 40, 255), (30, 90, 200, 255), (20, 150, 60, 255)]
    for _ in range(chance.randint(1, 3)):
        left, top = chance.uniform(0, width * 0.6), chance.uniform(0, height * 0.6)
        box = (left, top, left + width * 0.35, top + height * 0.35)
        getattr(draw, chance.choice(["ellipse", "rectangle"]))(box, fill=chance.choice(colours))
    return picture


def _save(picture: Image.Image, folder: Path, number: int, chance: random.Random) -> None:
    """In one of all formats and forms that hold it."""
    kind = FORMATS[number % len(FORMATS)]
    options: dict[str, object] = {}
    if kind in ("JPEG", "BMP", "GIF") and picture.mode == "RGBA":
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture.getchannel("A"))
        picture = white
    if kind == "GIF" and picture.mode == "RGB":
        picture = picture.quantize(200, Image.Quantize.FASTOCTREE)
    if kind == "JPEG" and number % 12 == 1:  # as a camera that was held upright
        picture, exif = picture.transpose(Image.Transpose.ROTATE_90), Image.Exif()
        exif[274] = 6
        options["exif"] = exif.tobytes()
    if kind == "PNG" and picture.mode == "L" and number % 12 == 0:
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    elif kind == "PNG" and picture.mode == "RGB" and number % 12 == 0:
        picture = picture.quantize(64, Image.Quantize.FASTOCTREE)
    name = f"{chance.choice(['IMG', 'picture', 'scan'])}_{number:03}{ENDINGS[kind]}"
    picture.save(folder / (name.upper() if chance.random() < 0.1 else name), kind, **options)


if __name__ == "__main__":
    make_pictures(Path(sys.argv[1]))
