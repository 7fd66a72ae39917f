"""Fifty digits drawn for these tests, five hands of ten, as strokes on the pad from 0 to 1; and as pictures."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

DRAWN: list[dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text())
"""Each with its `digit`, the `style` of the hand, and `strokes`, lists of x, y, x, y, …"""


def png(strokes: Sequence[Sequence[float]], side: int = 280, pen: int = 18, dark_on_light: bool = True) -> bytes:
    """The strokes as a program for painting would save them, `side` pixels wide."""
    paper, ink = (255, 0) if dark_on_light else (0, 255)
    picture = Image.new("L", (side, side), paper)
    draw = ImageDraw.Draw(picture)
    for stroke in strokes:
        points = [(x * side, y * side) for x, y in zip(stroke[::2], stroke[1::2], strict=True)]
        draw.line(points, fill=ink, width=pen, joint="curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=ink)
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
