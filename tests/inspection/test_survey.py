"""One reading: digests, small copies, and what was left out."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from keras_pipeline.inspection import survey
from keras_pipeline.inspection.survey import as_bytes, resized, survey_images
from made_images import InMemory, clean_images


def test_what_cannot_be_read_is_left_out_with_its_reason() -> None:
    images, _ = clean_images(20, side=40)
    told: list[int] = []
    seen = survey_images(InMemory(images, {7: "truncated"}), 60, (40, 40, 3), told.append)
    assert seen.left_out == {7: "truncated"}
    assert seen.read.tolist() == [index != 7 for index in range(60)]
    assert not seen.digests[7].any()
    assert seen.digests[8].tobytes() == hashlib.sha256(images[8].tobytes()).digest()[:16]
    assert seen.small.shape == (60, 32, 32, 3)
    assert np.array_equal(seen.small[8], resized(images[8], (32, 32)))
    assert told == [50, 60]


@pytest.mark.parametrize(("dtype", "low", "high"), [("<u2", 0, 65535), ("<f4", -1, 1), ("|u1", 0, 255), ("|u1", 0, 16)])
def test_pixels_of_any_range_become_bytes(dtype: str, low: float, high: float) -> None:
    image = np.array([low, (low + high) / 2, high]).astype(dtype).reshape(1, 3, 1)
    assert as_bytes(image, low, high).ravel().tolist()[::2] == [0, 255]
    assert 126 <= as_bytes(image, low, high)[0, 1, 0] <= 128


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels_is_made_smaller(channels: int) -> None:
    image = np.repeat(np.arange(channels, dtype=np.uint8), 64 * 64).reshape(channels, 64, 64).transpose(1, 2, 0)
    small = resized(np.ascontiguousarray(image), (32, 16))
    assert small.shape == (32, 16, channels)
    assert np.array_equal(small[3, 4], np.arange(channels))


def test_small_images_are_kept_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 50, 1), np.uint8)
    seen = survey_images(InMemory(images), 4, (8, 50, 1), lambda done: None)
    assert seen.small.shape == (4, 8, 32, 1)


def test_an_interrupted_reading_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with what one reading gives; one of another key begins anew."""
    monkeypatch.setattr(survey, "SECONDS_BETWEEN", -1.0)
    images, _ = clean_images(20, side=40)
    damaged = {7: "truncated", 55: "no picture"}
    whole = survey_images(InMemory(images, damaged, block=10), 60, (40, 40, 3), lambda done: None)

    def interrupted(done: int) -> None:
        if done == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        survey_images(InMemory(images, damaged, block=10), 60, (40, 40, 3), interrupted, tmp_path / "kept", "a")
    told: list[int] = []
    again = survey_images(InMemory(images, damaged, block=10), 60, (40, 40, 3), told.append, tmp_path / "kept", "a")
    assert (again.known, told, again.left_out) == (30, [40, 50, 60], damaged)
    for name in ("digests", "hashes", "small", "read"):
        assert np.array_equal(getattr(again, name), getattr(whole, name)), name
    other = survey_images(InMemory(images, {}, block=10), 60, (40, 40, 3), lambda done: None, tmp_path / "kept", "b")
    assert (other.known, other.left_out, other.read.all()) == (0, {}, True)
