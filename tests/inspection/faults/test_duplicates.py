"""Copies are found, also after another compression; what only looks alike from afar is none."""

from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image

from keras_pipeline.inspection.faults.duplicates import correlations, equal_groups, near_groups
from keras_pipeline.inspection.survey import perceptual_hash, resized, survey_images
from made_images import InMemory, as_jpeg, brighter, clean_images


def surveyed(images: Any) -> Any:
    return survey_images(InMemory(images), len(images), images.shape[1:], lambda done: None)


def found(images: Any) -> list[list[int]]:
    seen = surveyed(images)
    groups, whole = near_groups(seen.hashes, seen.small, seen.read)
    assert whole
    return [group.tolist() for group in groups]


def test_groups_of_equal_rows_are_in_the_order_of_their_first_ones() -> None:
    keys = np.array([[3, 0], [1, 0], [3, 0], [2, 0], [1, 0], [3, 0]], np.uint8)
    assert [group.tolist() for group in equal_groups(keys, np.ones(6, bool))] == [[0, 2, 5], [1, 4]]
    assert [group.tolist() for group in equal_groups(keys, np.array([1, 1, 0, 1, 0, 1], bool))] == [[0, 5]]
    assert equal_groups(keys, np.zeros(6, bool)) == []


@pytest.mark.parametrize("changed", [as_jpeg, brighter, lambda image: resized(resized(image, (80, 80)), (64, 64))])
def test_a_changed_copy_is_nearly_the_same(changed: Any) -> None:
    images, _ = clean_images(side=64)
    images[100] = changed(images[3])
    assert found(images) == [[3, 100]]


def test_of_different_images_none_are() -> None:
    assert found(clean_images()[0]) == []


def test_another_colour_is_another_image() -> None:
    """Though both are the same as grey ones."""
    red, blue = np.zeros((2, 24, 24, 3), np.uint8)
    red[6:18, 6:18, 0], blue[6:18, 6:18, 2] = 200, 200
    assert found(np.stack([red, blue])) == []
    assert correlations(red[None], red[None])[0] == pytest.approx(1, abs=1e-4)


def test_images_of_one_colour_are_near_nobody() -> None:
    assert found(np.full((5, 24, 24, 3), [[[90, 100, 110]]], np.uint8)) == []


def test_digits_that_look_alike_from_afar_are_none() -> None:
    """The hash alone finds pairs."""
    from sklearn.datasets import load_digits

    digits = (load_digits().images[:600, :, :, None] * 15).astype(np.uint8)
    seen = surveyed(digits)
    alike = np.bitwise_count(seen.hashes[:, None] ^ seen.hashes[None]) <= 6
    assert np.triu(alike, 1).sum() > 20
    assert found(digits) == []


def test_many_hashes_are_compared_in_parts() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, 20_000, np.uint64)
    small = random.integers(0, 256, (20_000, 2, 4, 1), np.uint8)
    for one, other in ((0, 19_999), (70, 71), (5000, 18_000)):
        hashes[other], small[other] = hashes[one] ^ np.uint64(0b1011), small[one]
    groups, _ = near_groups(hashes, small, np.ones(20_000, bool))
    assert [group.tolist() for group in groups] == [[0, 19_999], [70, 71], [5000, 18_000]]


def test_too_many_that_look_alike_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras_pipeline.inspection.faults.duplicates.MOST_PAIRS", 50)
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (40, 4, 4, 1), np.uint8)
    assert near_groups(np.zeros(40, np.uint64), small, np.ones(40, bool)) == ([], False)


def test_the_hash_is_that_of_imagehash() -> None:
    for image in clean_images(3)[0]:
        assert f"{perceptual_hash(image):016x}" == str(imagehash.phash(Image.fromarray(image)))
