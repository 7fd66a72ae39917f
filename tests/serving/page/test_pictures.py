"""A picture as the network's pixels: in Python and on the page the same bytes, in the form of the training images."""

import dataclasses
import hashlib
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from drawn_digits import DRAWN, png
from exported import DRAWINGS, image_input
from keras_pipeline.serving.page.pictures import network_input
from keras_pipeline.sources.pictures import Preparation, prepare_picture
from page_scripts import Scripts, layered, moved

FORMS: dict[str, Any] = {**DRAWINGS, "letters": None}
"""How images of a dataset were made, as export.json says; of letters nobody said it."""
DATASETS = [*FORMS]


@pytest.fixture(scope="module")
def scripts() -> Scripts:
    page = Scripts("preprocess.js")
    page.do(
        """
        const list = (made) => made && Array.from(made);
        globalThis.prepared = (picture, manifest) => {
          const layers = picture.layers.map((layer) => Uint8Array.from(layer));
          return list(preprocess.input({...picture, layers}, manifest));
        };
        globalThis.drawing = (strokes, form) => list(preprocess.drawing(strokes, form, 28, 28));
        """
    )
    return page


def on_page(scripts: Scripts, picture: NDArray[np.uint8], dataset: str, height: int = 28, width: int = 28) -> Any:
    manifest = {"input": image_input(height, width), "drawing": FORMS[dataset], "preparation": None}
    made = scripts.call("prepared", layered(picture[..., np.newaxis]), manifest)
    return made and np.array(made, np.uint8).reshape(height, width)


def drawn(scripts: Scripts, strokes: Any, dataset: str = "mnist") -> NDArray[np.uint8]:
    return np.array(scripts.call("drawing", strokes, FORMS[dataset]), np.uint8).reshape(28, 28)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(90, 60), (60, 90), (200, 201), (20, 33)])
def test_the_page_prepares_colours_as_the_training_did(scripts: Scripts, fit: Any, size: tuple[int, int]) -> None:
    """Up to the filter: the page takes means of areas, Pillow weighs them. The picture is smooth, so they are near."""
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    picture = np.stack([200 * x, 255 * y, 120 + 100 * np.sin(3 * x - 2 * y)], axis=-1).astype(np.uint8)
    preparation = Preparation(32, 40, fit, "rgb", "black")
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    expected = prepare_picture(content.getvalue(), preparation)
    manifest = {"input": image_input(32, 40, 3), "drawing": None, "preparation": dataclasses.asdict(preparation)}
    made = np.array(scripts.call("prepared", layered(picture), manifest)).reshape(32, 40, 3)
    apart = np.abs(made - expected.astype(int))
    assert np.median(apart) <= 2
    assert (apart > 12).mean() < (0.05 if fit == "pad" else 0.002)  # at the border of a pad


def test_colours_without_a_preparation_are_scaled_whole(scripts: Scripts) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (50, 37, 3), np.uint8)
    manifest = {"input": image_input(28, 28, 3), "drawing": None, "preparation": None}
    made = np.array(scripts.call("prepared", layered(picture), manifest)).reshape(28, 28, 3)
    for channel in range(3):
        assert np.array_equal(made[..., channel], network_input(picture[..., channel], None, 28, 28))


@pytest.mark.parametrize("dataset", DATASETS)
def test_page_and_service_give_the_same_bytes(scripts: Scripts, dataset: str) -> None:
    """Of noise, which has no form, of every size from one pixel on; of digits on paper with and without grain."""
    random = np.random.default_rng(3)
    pictures = [
        random.integers(0, 256, (int(height), int(width)), np.uint8)
        for height, width in random.integers(1, 70, (25, 2))
    ]
    pictures += [np.zeros((1, 1), np.uint8), np.full((40, 30), 200, np.uint8), np.eye(35, dtype=np.uint8) * 255]
    for one in DRAWN[::7]:
        paper = np.asarray(Image.open(io.BytesIO(png(one["strokes"], 90, 6))))
        grain = random.integers(0, 20, paper.shape)
        pictures += [paper, np.clip(paper.astype(np.int64) - grain, 0, 255).astype(np.uint8)]
    nothing = 0
    for picture in pictures:
        made, expected = on_page(scripts, picture, dataset), network_input(picture, FORMS[dataset], 28, 28)
        nothing += expected is None
        assert (made is None) == (expected is None)
        assert expected is None or np.array_equal(made, expected)
    assert nothing == (0 if dataset == "letters" else 2)


def test_other_sizes_of_input_are_the_same_too(scripts: Scripts) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (50, 37), np.uint8)
    made, expected = on_page(scripts, picture, "letters", 32, 20), network_input(picture, None, 32, 20)
    assert np.array_equal(made, expected)
    assert expected is not None
    assert expected.shape == (32, 20)


def test_a_picture_has_the_form_of_mnist() -> None:
    """The longer side 20 pixels, the centre of mass in the middle of pixel 14, light on black, whatever came."""
    for one in DRAWN:
        for paper in (True, False):
            picture = np.asarray(Image.open(io.BytesIO(png(one["strokes"], dark_on_light=paper))))
            made = network_input(picture, FORMS["mnist"], 28, 28)
            assert made is not None
            rows, columns = (np.flatnonzero((made >= 26).any(axis=axis)) for axis in (1, 0))
            assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
            weights = made.astype(float)
            for axis in (0, 1):
                centre = (weights.sum(axis=1 - axis) * np.arange(28)).sum() / weights.sum()
                assert abs(centre - 14) <= 0.51


def test_a_picture_of_the_very_size_is_taken_as_it_is(scripts: Scripts) -> None:
    """One of the training images itself; a border may be light where what is on it can fill the image."""
    image = np.random.default_rng(2).integers(0, 256, (28, 28), np.uint8)
    for border, datasets in ((0, DATASETS), (255, ["fashion_mnist", "letters"])):
        image[0] = image[-1] = border
        for dataset in datasets:
            made = network_input(image, FORMS[dataset], 28, 28)
            assert made is not None
            assert np.array_equal(made, image)
            assert np.array_equal(on_page(scripts, image, dataset), image)


def test_a_small_picture_of_dark_lines_on_paper_is_turned_over(scripts: Scripts) -> None:
    image = np.full((28, 28), 255, np.uint8)
    image[2:12, 3:6] = 0
    made = network_input(image, FORMS["mnist"], 28, 28)
    assert made is not None
    assert (np.count_nonzero(made.any(axis=1)), np.count_nonzero(made.any(axis=0))) == (20, 6)
    assert np.array_equal(on_page(scripts, image, "mnist"), made)


def test_another_dataset_s_picture_is_scaled_whole_and_neither_turned_over_nor_cut(scripts: Scripts) -> None:
    picture = np.full((56, 28), 200, np.uint8)
    picture[20:40, 10:20] = 10
    made = network_input(picture, None, 28, 28)
    assert made is not None
    assert np.array_equal(made[:, 7:21], picture.reshape(28, 2, 14, 2).mean(axis=(1, 3)))
    assert (made[:, :7] == 200).all()


def test_a_drawing_is_the_same_wherever_and_however_large_it_is(scripts: Scripts) -> None:
    """To one step in 255 and for nearly all pixels: a dot at an edge falls on either side."""
    for one in DRAWN[::9]:
        whole = drawn(scripts, one["strokes"])
        for factor, x, y in ((0.3, 0.6, 0.02), (0.5, 0.0, 0.45)):
            other = drawn(scripts, moved(one["strokes"], factor, x, y))
            apart = abs(whole.astype(int) - other)
            assert apart.mean() < 0.5
            assert apart.max() <= 40


GOLDEN = "a7eb4ea7eef6d0b562bf40b715f1fff2b88f3265d8f26ca2be093653ab610c83"


def test_drawings_give_these_very_pixels(scripts: Scripts) -> None:
    """Whatever the engine: a change here is a change of what every network is given."""
    digest = hashlib.sha256()
    for one in DRAWN:
        digest.update(drawn(scripts, one["strokes"]).tobytes())
    assert digest.hexdigest() == GOLDEN


def test_a_dot_a_line_and_a_full_pad_are_drawings_and_nothing_is_none(scripts: Scripts) -> None:
    assert scripts.call("drawing", [], FORMS["mnist"]) is None
    dot = drawn(scripts, [[0.9, 0.1]])
    assert (np.flatnonzero(dot.any(axis=0)).tolist(), np.flatnonzero(dot.any(axis=1)).tolist()) == ([13, 14, 15],) * 2
    line = drawn(scripts, [[0.5, 0.0, 0.5, 1.0]])
    assert (np.count_nonzero(line.any(axis=1)), np.count_nonzero(line.any(axis=0))) == (20, 3)
    rows = [[value for x in (0.0, 1.0) for value in (x, y / 50)] for y in range(51)]
    full = drawn(scripts, rows)
    assert (full[5:25, 5:25] == 255).mean() > 0.95
    assert full.sum() == full[5:25, 5:25].sum()
