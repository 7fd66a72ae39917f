"""Two settings compared: false alarms as seldom as stated, and the true difference within the interval."""

import numpy as np
import pytest

from drawn_settings import check_false_alarms, drawn
from keras_pipeline.comparison import statistics

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("seeds", "of_seed", "of_image"), [(1, 0.0, 0.0), (3, 0.1, 0.3), (5, 0.2, 0.0), (10, 0.0, 0.5)]
)
def test_two_equal_settings_are_called_different_as_seldom_as_stated(
    seeds: int, of_seed: float, of_image: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more settings and draws see tests/proofs."""
    monkeypatch.setattr(statistics, "DRAWS", 2)
    check_false_alarms(seeds, of_seed, of_image, count=200)


def test_the_interval_holds_the_true_difference_as_often_as_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "DRAWS", 2)
    random = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        first, second = drawn(random, 5, 300, 0.1, 0.3)
        found = statistics.compare_settings(first, second)
        missed += not found.low <= 0 <= found.high
    assert missed <= 10 + 4 * 3.1  # binomial, four standard deviations
