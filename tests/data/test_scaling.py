"""Scalings of images and of the columns of a table."""

import json
import math

import numpy as np
import pytest

from keras_pipeline.data.scaling import Scaling, fit_columns, fit_scaling

NOISE = np.random.default_rng(0).integers(0, 256, (50, 5, 4, 1), np.uint8)


@pytest.mark.parametrize(
    ("name", "black", "white"), [("none", 0.0, 255.0), ("unit", 0.0, 1.0), ("symmetric", -1.0, 1.0)]
)
def test_fixed_scalings_have_their_ranges_whatever_the_images(name: str, black: float, white: float) -> None:
    scaling = fit_scaling(name, [NOISE])
    assert scaling == fit_scaling(name, [NOISE[:1]])
    images = np.array([[[[0], [255]]]], np.uint8)
    scaled = scaling.apply(images)
    assert scaled.dtype == np.float32
    assert scaled.shape == (1, 1, 2, 1)
    assert scaled.reshape(-1).tolist() == [black, white]
    assert images.tolist() == [[[[0], [255]]]]


def test_standard_scaling_is_numpy_s_mean_and_deviation() -> None:
    scaling = fit_scaling("standard", [NOISE[:7], NOISE[7:]])
    assert scaling.offset == pytest.approx(NOISE.mean(dtype=np.float64), rel=1e-14)
    assert scaling.divisor == pytest.approx(NOISE.std(dtype=np.float64), rel=1e-14)
    scaled = scaling.apply(NOISE)
    assert scaled.shape == (50, 5, 4, 1)
    assert scaled.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert scaled.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_images_of_one_grey_give_zero_and_no_nan(value: int) -> None:
    images = np.full((3, 2, 2), value, np.uint8)
    scaling = fit_scaling("standard", [images])
    assert scaling == Scaling("standard", value, 1.0)
    assert not scaling.apply(images).any()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", [[1, 10], [3, 10], [2, 10]]),
        ("unit", [[0, 0], [1, 0], [0.5, 0]]),
        ("symmetric", [[-1, 0], [1, 0], [0, 0]]),
        ("standard", [[-math.sqrt(1.5), 0], [math.sqrt(1.5), 0], [0, 0]]),
    ],
)
def test_each_column_has_constants_of_its_own(name: str, expected: list[list[float]]) -> None:
    rows = np.array([[1.0, 10.0], [3.0, 10.0], [2.0, 10.0]])
    scaling = fit_columns(name, rows)
    assert json.loads(json.dumps(vars(scaling))) == vars(scaling)
    scaled = scaling.apply(rows)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    np.testing.assert_allclose(scaling.undo(scaled), rows, rtol=1e-6)
    column = fit_columns(name, rows[:, 0])
    np.testing.assert_allclose(column.apply(rows[:, 0]), np.array(expected)[:, 0], rtol=1e-6)
