"""Deformed images against SciPy's, the laws of what is drawn, and who gets what of it."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

import small
from keras_pipeline.data.splits import Split

pytestmark = pytest.mark.slow  # Keras is imported

NONE = {"shift": 0.0, "rotation": 0.0, "scale": 0.0, "elastic": 0.0, "smoothness": 4.0, "horizontal_flip": False}
ALL = {"shift": 2.0, "rotation": 15.0, "scale": 0.2, "elastic": 1.5, "smoothness": 4.0}


def deformation(background: float = 0.0, shape: tuple[int, ...] = (28, 28, 1), **knobs: float) -> Any:
    from keras_pipeline.training import augmentation

    chosen = small.params({"train.augmentation": {**NONE, **knobs}}).train.augmentation
    scaling: Any = {"name": "unit", "offset": -255 * background, "divisor": 255.0}
    return augmentation.deformation_for(chosen, 7, scaling, shape)


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(-1, 1, (40, 28, 28, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("background", "shape"), [(0.0, (28, 28, 1)), (-0.4, (28, 28, 1)), (-0.4, (20, 36, 3)), (0.0, (41, 30, 2))]
)
def test_pixels_are_those_that_scipy_interpolates(background: float, shape: tuple[int, int, int]) -> None:
    one = deformation(background, shape, **{**ALL, "shift": 10.0})  # far enough that much comes in from outside
    images = np.random.default_rng(1).uniform(-1, 1, (40, *shape)).astype(np.float32)
    factors = one.draw(3, 5, len(images))
    deformed = one.step(images, factors)
    height, width, channels = shape
    middle = np.array([height - 1, width - 1]).reshape(2, 1, 1) / 2
    places = (factors.astype(float) @ one.terms.astype(float)).reshape(-1, 2, height, width) + middle
    for image, place, ours in zip(images, places, deformed, strict=True):
        for channel in range(channels):
            theirs = ndimage.map_coordinates(image[..., channel], place, order=1, mode="grid-constant", cval=background)
            np.testing.assert_allclose(ours[..., channel], theirs, rtol=0, atol=2e-4)


def test_what_comes_in_from_outside_is_the_least_that_a_pixel_may_be() -> None:
    from keras_pipeline.training import augmentation

    chosen = small.params({"train.augmentation": {**NONE, "shift": 1.0}}).train.augmentation
    for scaling, black in (({"name": "none", "offset": 0.0, "divisor": 1.0}, -1.0),
                           ({"name": "unit", "offset": -1.0, "divisor": 2.0}, 0.0)):  # fmt: skip
        made = augmentation.deformation_for(chosen, 1, scaling, (4, 4, 1), -1.0)
        assert made is not None
        assert made.background == black


def test_half_of_the_images_are_mirrored_and_nothing_else_changes() -> None:
    shape = (20, 31, 3)
    images = np.random.default_rng(1).uniform(-1, 1, (400, *shape)).astype(np.float32)
    alone = deformation(shape=shape, horizontal_flip=True)
    seen = alone.step(images, alone.draw(0, 0, len(images)))
    mirrored = (seen == images[:, :, ::-1]).all((1, 2, 3))
    assert ((seen == images).all((1, 2, 3)) ^ mirrored).all()
    assert 160 < mirrored.sum() < 240
    others = [alone.draw(epoch, step, 400)[:, 1, 2] < 0 for epoch, step in ((0, 1), (1, 0))]
    assert all((drawn != mirrored).any() for drawn in others)

    without = deformation(shape=shape, **ALL).draw(2, 3, 400)
    with_it = deformation(shape=shape, **ALL, horizontal_flip=True).draw(2, 3, 400)
    np.testing.assert_array_equal(with_it[:, 0], without[:, 0])
    np.testing.assert_array_equal(np.abs(with_it[:, 1]), np.abs(without[:, 1]))
    assert {*np.unique(with_it[:, 1] / without[:, 1])} == {-1.0, 1.0}


def test_nothing_drawn_is_the_image_itself(images: NDArray[np.float32]) -> None:
    assert deformation() is None
    barely = deformation(shift=1e-9)
    np.testing.assert_allclose(barely.step(images, barely.draw(0, 0, len(images))), images, rtol=0, atol=1e-5)


def turned(degrees: float) -> NDArray[np.float32]:
    angle = np.radians(degrees)
    return np.array([[[0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]]], np.float32)


def test_known_deformations(images: NDArray[np.float32]) -> None:
    one, image = deformation(0.25, rotation=1.0), images[:1]
    moved = one.step(image, np.array([[[3, 1, 0], [-2, 0, 1]]], np.float32))[0, ..., 0]
    np.testing.assert_array_equal(moved[:25, 2:], image[0, 3:, :26, 0])
    assert (moved[25:] == 0.25).all()
    assert (moved[:, :2] == 0.25).all()
    quarter = one.step(image, turned(90))[0, ..., 0]
    assert min(np.abs(quarter - np.rot90(image[0, ..., 0], way)).max() for way in (1, 3)) < 1e-4
    half_as_large = one.step(image, np.array([[[0, 2, 0], [0, 0, 2]]], np.float32))[0, ..., 0]
    blocks = image[0, ..., 0].reshape(14, 2, 14, 2).mean((1, 3))
    np.testing.assert_allclose(half_as_large[7:21, 7:21], blocks, atol=1e-5)


def test_what_is_drawn_depends_on_seed_epoch_and_step_only() -> None:
    one, other = deformation(**ALL), deformation(**ALL)
    drawn = {(epoch, step): one.draw(epoch, step, 8) for epoch in (0, 1) for step in (0, 1)}
    assert len({array.tobytes() for array in drawn.values()}) == 4
    np.testing.assert_array_equal(other.draw(1, 0, 8), drawn[1, 0])
    assert len(np.unique(drawn[0, 0][:, 0, 0])) == 8


def test_shift_rotation_and_scale_are_uniform_up_to_their_knobs() -> None:
    drawn = deformation(shift=2.0, rotation=30.0, scale=0.25).draw(0, 0, 20_000)
    shift, matrix = drawn[..., 0], drawn[..., 1:]
    rows = 1 / np.linalg.norm(matrix, axis=2)  # (1 + scale) of y and x
    angle = np.degrees(np.arctan2(matrix[:, 0, 1], matrix[:, 0, 0]))
    for values, low, high in ((shift, -2, 2), (angle, -30, 30), (rows, 0.75, 1.25)):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high + 1e-5
        share = np.histogram(values, 10, (low, high + 1e-5))[0] / values.size
        np.testing.assert_allclose(share, 0.1, atol=0.01)
    for pair in (shift, rows):
        assert abs(np.corrcoef(pair.T)[0, 1]) < 0.03


@pytest.mark.parametrize("smoothness", [1.5, 4.0, 14.0])
def test_the_elastic_field_is_simards(smoothness: float) -> None:
    """Deviation and correlation as of uniform noise under a Gaussian filter, in the middle, where no edge counts."""
    one = deformation(elastic=2.0, smoothness=smoothness)
    bends = one.draw(0, 0, 4000)[:, :, 3:] @ one.terms[3:]
    field = bends.reshape(-1, 28, 28)
    assert field.std() == pytest.approx(2.0, rel=0.03)
    assert abs(np.corrcoef(bends[:, 0, 400], bends[:, 1, 400])[0, 1]) < 0.06  # y and x are drawn apart
    noise = np.random.default_rng(2).uniform(-1, 1, (60, 256, 256))
    filtered = ndimage.gaussian_filter(noise, smoothness, axes=(1, 2))[:, 60:-60, 60:-60]
    for distance in (1, 3, 6):
        ours = np.corrcoef(field[:, 14, 10], field[:, 14, 10 + distance])[0, 1]
        theirs = np.corrcoef(filtered[:, :, :-distance].ravel(), filtered[:, :, distance:].ravel())[0, 1]
        assert ours == pytest.approx(theirs, abs=0.04)


def test_batches_hold_deformed_images_and_workers_share_them(images: NDArray[np.float32]) -> None:
    from keras_pipeline.distribution import strategies
    from keras_pipeline.training import batches

    split = Split(images[:26], np.arange(26) % 3)
    one = deformation(**ALL)
    data = batches.Data(split, split, np.ones(3, np.float32), 7, 10, 10, one)
    alone = strategies.OpenedStrategy("none", ("/cpu:0",))
    whole = [batch[0] for batch in itertools.islice(data.batches(alone, 0, 0), 6)]
    order = batches.batch_order(26, 7, 1)
    np.testing.assert_array_equal(whole[4], one.step(split.inputs[order[10:20]], one.draw(1, 1, 10)))
    assert np.abs(whole[0] - split.inputs[batches.batch_order(26, 7, 0)[:10]]).max() > 0.5
    np.testing.assert_array_equal(next(data.batches(alone, 1, 1))[0], whole[4])  # from there on, the same
    np.testing.assert_array_equal(data.validation_batches(alone).arrays()[0][:26], split.inputs)  # never deformed
    places = [strategies.OpenedStrategy("x", ("/cpu:0",), rank=rank, workers=2, loss_parts=2) for rank in (0, 1)]
    shares = [list(itertools.islice(data.batches(place, 0, 0), 3)) for place in places]
    for step in range(3):
        together = np.concatenate([share[step][0] for share in shares])
        np.testing.assert_allclose(together, whole[step], rtol=0, atol=1e-5)
