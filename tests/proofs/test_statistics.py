"""Statistics against many draws."""

import pytest

from drawn_settings import check_false_alarms
from keras_pipeline.comparison import statistics

pytestmark = pytest.mark.proof

NOISE = [(0.0, 0.0), (0.2, 0.0), (0.0, 0.5), (0.1, 0.3)]
"""What a seed draws, and what a setting makes of each image."""


@pytest.mark.parametrize(
    ("seeds", "of_seed", "of_image"), [(1, 0.0, 0.0), *((seeds, *noise) for seeds in (3, 5, 10) for noise in NOISE)]
)
def test_two_equal_settings_are_called_different_as_seldom_as_stated(
    seeds: int, of_seed: float, of_image: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal settings are called different once in twenty at most, of 600 draws each."""
    monkeypatch.setattr(statistics, "DRAWS", 2)
    check_false_alarms(seeds, of_seed, of_image, count=600)
