"""The numbers of a prediction, against scikit-learn's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_pipeline.config.tasks import is_no_better_than_constant
from keras_pipeline.core.errors import DataError

pytestmark = pytest.mark.slow


def test_regression_scores_are_scikit_learn_s() -> None:
    from sklearn import metrics as reference

    from keras_pipeline.evaluation import regression

    random = np.random.default_rng(0)
    true = random.normal(5, 3, 500)
    predicted = true + random.normal(0, 1, 500)
    scores = regression.regression_scores(predicted, true)
    assert scores == pytest.approx(
        {
            "test/r2": reference.r2_score(true, predicted),
            "test/mean_squared_error": reference.mean_squared_error(true, predicted),
            "test/root_mean_squared_error": reference.mean_squared_error(true, predicted) ** 0.5,
            "test/mean_absolute_error": reference.mean_absolute_error(true, predicted),
            "test/p_no_better_than_constant": 0.0,
        },
        rel=1e-12,
        abs=1e-12,
    )
    intervals = regression.regression_intervals(predicted, true, seed=1)
    assert set(intervals) == set(scores) - {"test/p_no_better_than_constant"}
    for name, (low, high) in intervals.items():
        assert low < scores[name] < high, name
    assert intervals == regression.regression_intervals(predicted, true, seed=1)
    assert intervals["test/r2"][1] - intervals["test/r2"][0] < 0.1


@pytest.mark.parametrize(
    ("predicted", "useless"),
    [
        (lambda true, noise: np.full_like(true, true.mean()), True),
        (lambda true, noise: np.full_like(true, 7.0), True),
        (lambda true, noise: noise, True),
        (lambda true, noise: 1e8 * noise, True),
        (lambda true, noise: true + noise, False),
        (lambda true, noise: true, False),
    ],
)
def test_better_than_the_mean(predicted: Callable[..., Any], useless: bool) -> None:
    from keras_pipeline.evaluation import regression

    random = np.random.default_rng(0)
    true, noise = random.normal(5, 3, 89), random.normal(0, 1, 89)
    scores = regression.regression_scores(predicted(true, noise), true)
    assert is_no_better_than_constant(scores) is useless
    assert np.isfinite(list(scores.values())).all()


def test_regression_without_numbers_or_spread_is_refused() -> None:
    from keras_pipeline.core.errors import DivergedError
    from keras_pipeline.evaluation import regression

    with pytest.raises(DivergedError, match="1 of 3 predictions are not finite"):
        regression.regression_scores(np.array([1, np.nan, 2]), np.arange(3.0))
    with pytest.raises(DataError, match="the 3 test targets do not differ"):
        regression.regression_scores(np.arange(3.0), np.ones(3))
