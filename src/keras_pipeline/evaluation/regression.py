"""A predicted number to numbers. scikit-learn computes what it has.

Everywhere: `predicted` and `true` float64 (n,), in the target's own units.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp
from sklearn import metrics as sklearn_metrics

from keras_pipeline.core.errors import DataError, DivergedError
from keras_pipeline.evaluation import multiclass

Numbers = NDArray[np.float64]
RESAMPLED = 1000


def regression_scores(predicted: Numbers, true: Numbers) -> dict[str, float]:
    """Every test metric but the loss, flat, in the order in which it is shown; all are finite.

    `r2`: the share of the true values' variance that the predictions explain, 0 for always predicting their mean, below
    0 for worse. `p_no_better_than_constant`: how often chance would make it as high, were it not above 0; 1 for a
    constant prediction: the one-sided paired t-test of the squared errors against those of that mean (Diebold and
    Mariano 1995). Raises DivergedError where a prediction is not a finite number, DataError where there are fewer than
    two rows, or all true values are the same.
    """
    if not np.isfinite(predicted).all():
        raise DivergedError(
            f"{np.count_nonzero(~np.isfinite(predicted))} of {len(predicted)} predictions are not finite numbers. "
            "The network has diverged: train it again with a lower learning rate."
        )
    if len(true) < 2 or np.ptp(true) == 0:
        raise DataError(
            f"the {len(true)} test targets do not differ; expected two different ones at least. Use more test rows."
        )
    values = {
        "r2": sklearn_metrics.r2_score(true, predicted),
        "mean_squared_error": sklearn_metrics.mean_squared_error(true, predicted),
        "root_mean_squared_error": sklearn_metrics.root_mean_squared_error(true, predicted),
        "mean_absolute_error": sklearn_metrics.mean_absolute_error(true, predicted),
        "p_no_better_than_constant": _p_no_better_than_constant(predicted, true),
    }
    return {f"test/{name}": float(value) for name, value in values.items()}


def _p_no_better_than_constant(predicted: Numbers, true: Numbers) -> float:
    gains = np.square(true - true.mean()) - np.square(true - predicted)
    if np.ptp(gains) == 0:  # of a constant prediction all are 0
        return float(gains[0] <= 0)
    return float(ttest_1samp(gains, 0, alternative="greater").pvalue)


def regression_intervals(predicted: Numbers, true: Numbers, seed: int) -> dict[str, tuple[float, float]]:
    """95 % intervals (low, high) under the names of `regression_scores`: of this network, over unlimited test rows.

    Both errors: mean ± 1.96 standard errors, not below 0, of the squares and its roots. R²: percentile bootstrap over
    the rows (Efron 1979).
    """
    errors = predicted - true
    squared = multiclass.normal_interval(np.square(errors))
    chosen = np.random.default_rng(seed).integers(len(true), size=(RESAMPLED, len(true)))
    drawn = true[chosen]
    spread = np.square(drawn - drawn.mean(axis=1, keepdims=True)).sum(axis=1)
    explained = 1 - np.square(errors[chosen]).sum(axis=1)[spread > 0] / spread[spread > 0]
    result = {
        "r2": multiclass.middle_95_percent(explained),
        "mean_squared_error": squared,
        "root_mean_squared_error": (math.sqrt(squared[0]), math.sqrt(squared[1])),
        "mean_absolute_error": multiclass.normal_interval(np.abs(errors)),
    }
    return {f"test/{name}": interval for name, interval in result.items()}
