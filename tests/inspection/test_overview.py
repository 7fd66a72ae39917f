"""What the page shows: the right counts, a few examples of each class, histograms."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_pipeline.inspection.overview import (
    choose_examples,
    count_classes,
    draw_columns,
    draw_strips,
    overview_of_raw,
    shown_classes,
)
from keras_pipeline.sources.kinds.kind import Columns
from made_images import CLASSES, clean_images
from raw_in_memory import raw_images, raw_table


def opened(uri: str) -> Any:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize(
    ("shape", "dtype", "mode", "shown"),
    [
        ((28, 28, 1), "|u1", "L", 13),
        ((96, 64, 3), "|u1", "RGB", 13),
        ((200, 200, 3), "|u1", "RGB", 13),
        ((16, 16, 1), "<u2", "L", 13),
        ((16, 16, 3), "<f4", "RGB", 13),
        ((8, 8, 4), "|u1", "L", 13),
    ],
)
def test_examples_of_any_image_are_drawn(shape: tuple[int, ...], dtype: str, mode: str, shown: int) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 200, (20, *shape)).astype(dtype)
    high = 65535.0 if dtype == "<u2" else 255.0
    chosen = choose_examples(np.zeros(20, np.int64), [0], shape)
    [strip] = draw_strips({"a": images[chosen[0]]}, 0, high)
    picture = opened(strip.uri)
    assert (picture.mode, strip.shown) == (mode, shown)
    assert picture.height <= 64
    assert strip.height >= 40
    assert (picture.width + 2) % shown == 0  # a gap between two


def test_examples_are_taken_evenly_from_a_class() -> None:
    labels = np.repeat([1, 0], [100, 5])
    chosen = choose_examples(labels, [0, 1, 2], (28, 28, 1))
    assert chosen[0].tolist() == [100, 101, 102, 103, 104]
    assert chosen[1][[0, -1]].tolist() == [0, 99]
    assert sorted(chosen) == [0, 1]


def test_the_page_of_a_thousand_classes_shows_the_extremes() -> None:
    labels = {"train": np.repeat(np.arange(1000), np.arange(1, 1001))}
    names = [f"class {index}" for index in range(1000)]
    shown = shown_classes(labels, names)
    assert shown == [*range(50), *range(950, 1000)]
    counts = count_classes(labels, names)
    assert counts.left_out == 900
    assert counts.rows[0] == ("class 0", [1], 0.001)
    assert counts.rows[-1] == ("class 999", [1000], 1.0)
    chosen = choose_examples(labels["train"], shown, (96, 96, 3))
    assert sum(map(len, chosen.values())) * 64 * 64 < 2_000_000


def test_columns_become_histograms() -> None:
    columns = Columns(
        {
            "n": np.array([0.0, 1, 1, np.nan]),
            "one": np.full(4, 7.0),
            "none": np.full(4, np.nan),
            "c": ["b", "a", "b", None],
        },
        target="t",
    )
    target, numbers, one, nothing, texts = draw_columns(columns, np.array([1.5, 2, 3, 4]), [])
    assert target.name == "t (to predict)"
    assert (numbers.text, [bar.count for bar in numbers.bars if bar.count]) == (
        "0 … 1, median 1, 25.0% missing",
        [1, 2],
    )
    assert [bar.count for bar in one.bars] == [4]
    assert (nothing.text, list(nothing.bars)) == ("no value", [])
    assert texts.text == "2 different values, 25.0% missing"
    assert [(bar.name, bar.count, bar.share) for bar in texts.bars] == [("b", 2, 1.0), ("a", 1, 0.5)]


def test_of_images() -> None:
    images, labels = clean_images(20)
    seen = overview_of_raw(raw_images(images, labels, CLASSES))
    assert [strip.name for strip in seen.strips] == list(CLASSES)
    assert dict(seen.facts)["images"] == "60 train, 30 test"
    assert dict(seen.facts)["one image"] == "24 × 24, colour, 0 … 255"
    assert seen.counts
    assert seen.counts.rows[0] == ("disc", [20, 10], 1.0)
    held_out = {"train": labels[10:], "validation": labels[:10], "test": labels[:30]}
    divided = overview_of_raw(raw_images(images, labels, CLASSES), held_out)
    assert dict(divided.facts)["images"] == "50 train, 10 validation, 30 test"


def test_of_a_table() -> None:
    seen = overview_of_raw(raw_table())
    assert dict(seen.facts)["one row"] == "2 columns, and answer to predict"
    assert [column.name for column in seen.columns] == ["x", "c"]
    assert seen.strips == []
