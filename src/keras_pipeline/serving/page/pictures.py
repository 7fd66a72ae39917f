"""A picture of any size as the pixels that a network takes, in the form of the images that it was trained on.

page/preprocess.js does the same on the page, in the same whole numbers: the same picture gives the same bytes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
INK = 51
"""A fifth of the whole: less is the paper's grain."""
LEAST_CONTRAST = 32
HALF = 127
"""A lighter border is paper."""


def network_input(grey: Grey, drawing: Mapping[str, Any] | None, height: int, width: int) -> Grey | None:
    """A picture (any, any) as uint8 (height, width); None where nothing is on it.

    `drawing`: how the training images were made, as export.json has it: light on black, `box`, the longer side of what
    is on them, `centre`, what is put in the middle, the mass or the box, and `dark_border`, whether none has a light
    border. So dark on light is turned over, what is on the picture is cut out and made as large as there, by area, and
    put where it is there. None: the whole picture is scaled, its sides in proportion. A picture that has the size
    already is taken as it is, unless it is dark on light and the training images are not.
    """
    dark_border = drawing is not None and drawing["dark_border"]
    if grey.shape == (height, width) and not (dark_border and _border_median(grey) > HALF):
        return grey.copy()
    if drawing is None:
        factor = min(width / grey.shape[1], height / grey.shape[0])
        rows, columns = (max(1, int(side * factor + 0.5)) for side in grey.shape)
        return _placed(_smaller(grey, rows, columns), "box", height, width, _border_median(grey))
    ink = _on_black(grey)
    if ink is None:
        return None
    box = _cut(ink)
    longer = max(box.shape)
    rows, columns = (max(1, (2 * side * drawing["box"] + longer) // (2 * longer)) for side in box.shape)
    return _placed(_smaller(box, rows, columns), drawing["centre"], height, width)


def _on_black(grey: Grey) -> Grey | None:
    """Light on black, from 0 to 255: the border tells what is paper. None where all is paper."""
    paper = _border_median(grey)
    values = grey if paper <= HALF else 255 - grey
    low = min(paper, 255 - paper)
    reach = int(values.max()) - low
    if reach < LEAST_CONTRAST:
        return None
    above = np.maximum(values.astype(np.int64) - low, 0)
    stretched: Grey = ((above * 510 + reach) // (2 * reach)).astype(np.uint8)
    return stretched


def _border_median(grey: Grey) -> int:
    border = np.ones(grey.shape, bool)
    border[1:-1, 1:-1] = False
    values = np.sort(grey[border])
    return int(values[(len(values) - 1) // 2])


def _cut(ink: Grey) -> Grey:
    """The part that has ink on it; there is some."""
    rows, columns = (np.flatnonzero((ink >= INK).any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _smaller(grey: Grey, rows: int, columns: int) -> Grey:
    """Another size by area: each new pixel is the mean of what it covers."""
    down, across = _overlaps(grey.shape[0], rows), _overlaps(grey.shape[1], columns)
    total = (down @ grey.astype(np.float64) @ across.T).astype(np.int64)  # whole numbers: exact in any order
    mean: Grey = ((2 * total + grey.size) // (2 * grey.size)).astype(np.uint8)
    return mean


def _overlaps(size: int, parts: int) -> NDArray[np.float64]:
    """(parts, size): how much of each pixel each of `parts` equal parts covers, in parts of a pixel."""
    part, pixel = np.arange(parts)[:, None] * size, np.arange(size)[None, :] * parts
    shares: NDArray[np.float64] = np.maximum(np.minimum(part + size, pixel + parts) - np.maximum(part, pixel), 0.0)
    return shares


def _placed(small: Grey, centre: str, height: int, width: int, background: int = 0) -> Grey:
    """On a field of its own: its centre of mass in the middle, or the middle of its box; nothing is cut off."""
    values = small.astype(np.int64)
    mass = int(values.sum())

    def shift(side: int, size: int, sums: NDArray[Any]) -> int:
        if centre == "box" or mass == 0:
            return (side - size) // 2
        moment = int((sums * (2 * np.arange(size) + 1)).sum())
        return min(max(((side + 2) * mass - moment) // (2 * mass), 0), side - size)

    (rows, columns) = small.shape
    top, left = shift(height, rows, values.sum(axis=1)), shift(width, columns, values.sum(axis=0))
    field = np.full((height, width), background, np.uint8)
    field[top : top + rows, left : left + columns] = small
    return field
