"""The numbers of a prediction, against scikit-learn's."""

import numpy as np
import pytest

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
        },
        rel=1e-12,
    )
    intervals = regression.regression_intervals(predicted, true, seed=1)
    assert set(intervals) == set(scores)
    for name, (low, high) in intervals.items():
        assert low < scores[name] < high, name
    assert intervals == regression.regression_intervals(predicted, true, seed=1)
    assert intervals["test/r2"][1] - intervals["test/r2"][0] < 0.1


def test_regression_without_numbers_or_spread_is_refused() -> None:
    from keras_pipeline.core.errors import DivergedError
    from keras_pipeline.evaluation import regression

    with pytest.raises(DivergedError, match="1 of 3 predictions are not finite"):
        regression.regression_scores(np.array([1, np.nan, 2]), np.arange(3.0))
    with pytest.raises(DataError, match="the 3 test targets do not differ"):
        regression.regression_scores(np.arange(3.0), np.ones(3))
