"""One class against the rest: the network's only output to numbers. scikit-learn computes what it has.

Everywhere: `outputs` float32 (n, 1), the share that the network gives to class 1; `labels` int (n,), 0 or 1. The
predicted class is 1 where the output is above a half. What is the same for several classes is computed in `multiclass`,
from `class_shares`.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from keras_pipeline.core.errors import DataError
from keras_pipeline.data import task_spec
from keras_pipeline.evaluation import multiclass
from keras_pipeline.evaluation.multiclass import Floats, Integers

MOST_POINTS = 2000
"""How many points of a curve are kept: more cannot be seen."""


def class_shares(outputs: Floats) -> NDArray[np.float64]:
    """The shares of both classes, float64 (n, 2)."""
    share = outputs.astype(np.float64)
    return np.column_stack([1 - share, share])


def binary_scores(outputs: Floats, labels: Integers, loss: float, calibration_bins: int) -> dict[str, float]:
    """Every test metric, flat, in the order in which it is shown; all are finite.

    `loss`, `accuracy` with its interval, `balanced_accuracy`, `log_loss`, `calibration_error` and
    `p_no_better_than_constant` as in `multiclass.class_scores`; precision, recall and F1 of class 1 (0 without a
    denominator); `roc_auc`: the chance that an image of class 1 has a larger output than one of class 0;
    `average_precision`: the mean precision over the recalls, without interpolation; `brier_score`: the mean squared
    difference between output and label, in [0, 1]. Raises DataError where not both classes occur, and as
    `multiclass.class_scores` does.
    """
    both = class_shares(outputs)
    multiclass.probabilities(both)
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"all {len(labels)} test images are of class {labels[0]}; expected both. Choose another positive_class."
        )
    predicted = task_spec.predicted_classes(outputs)
    low, high = multiclass.wilson_interval(int(np.count_nonzero(predicted == labels)), len(labels))
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, average="binary", zero_division=0
    )
    values = {
        "loss": loss,
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "accuracy_low": low,
        "accuracy_high": high,
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "roc_auc": sklearn_metrics.roc_auc_score(labels, outputs[:, 0]),
        "average_precision": sklearn_metrics.average_precision_score(labels, outputs[:, 0]),
        "log_loss": sklearn_metrics.log_loss(labels, both),
        "brier_score": sklearn_metrics.brier_score_loss(labels, both[:, 1]),
        "calibration_error": multiclass.calibration_error(multiclass.calibration_rows(both, labels, calibration_bins)),
        "p_no_better_than_constant": multiclass.p_no_better_than_constant(labels, predicted),
    }
    return {f"test/{name}": float(value) for name, value in values.items()}


def binary_intervals(outputs: Floats, labels: Integers) -> dict[str, tuple[float, float]]:
    """95 % intervals (low, high) under the names of `binary_scores`: of this network, over unlimited test images.

    Accuracy, precision and recall: Wilson. Log loss and Brier score: mean ± 1.96 standard errors, not below 0. ROC AUC:
    ± 1.96 standard errors (Hanley and McNeil 1982), within [0, 1].
    """
    share, predicted = outputs[:, 0].astype(np.float64), task_spec.predicted_classes(outputs)
    right = int(np.count_nonzero(predicted & labels))
    eps = np.finfo(np.float64).eps  # scikit-learn's clipping
    log_losses = -np.log(np.clip(np.where(labels, share, 1 - share), eps, 1.0))
    result = {
        "accuracy": multiclass.wilson_interval(int(np.count_nonzero(predicted == labels)), len(labels)),
        "precision": multiclass.wilson_interval(right, int(predicted.sum())),
        "recall": multiclass.wilson_interval(right, int(labels.sum())),
        "roc_auc": _auc_interval(float(sklearn_metrics.roc_auc_score(labels, share)), labels),
        "log_loss": multiclass.normal_interval(log_losses),
        "brier_score": multiclass.normal_interval(np.square(share - labels)),
    }
    return {f"test/{name}": interval for name, interval in result.items()}


def roc_curve(outputs: Floats, labels: Integers) -> list[dict[str, Any]]:
    """The ROC curve from (0, 0) to (1, 1), a row a point: threshold (None for none at all), false_positive_rate,
    true_positive_rate."""
    false, true, thresholds = sklearn_metrics.roc_curve(labels, outputs[:, 0])
    return [
        {
            "threshold": float(thresholds[point]) if point else None,
            "false_positive_rate": float(false[point]),
            "true_positive_rate": float(true[point]),
        }
        for point in _kept(len(thresholds))
    ]


def precision_recall_curve(outputs: Floats, labels: Integers) -> list[dict[str, Any]]:
    """The precision-recall curve from recall 1 down to 0, a row a point: threshold (None at the end), precision,
    recall."""
    precision, recall, thresholds = sklearn_metrics.precision_recall_curve(labels, outputs[:, 0])
    return [
        {
            "threshold": float(thresholds[point]) if point < len(thresholds) else None,
            "precision": float(precision[point]),
            "recall": float(recall[point]),
        }
        for point in _kept(len(precision))
    ]


def _kept(points: int) -> list[int]:
    """Which points of a curve are written: all, or so many spread evenly, both ends among them."""
    chosen: list[int] = np.unique(np.linspace(0, points - 1, min(points, MOST_POINTS)).round().astype(int)).tolist()
    return chosen


def _auc_interval(area: float, labels: Integers) -> tuple[float, float]:
    positives = int(labels.sum())
    negatives = len(labels) - positives
    two_positives, two_negatives = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area)
    variance += (positives - 1) * (two_positives - area**2) + (negatives - 1) * (two_negatives - area**2)
    half_width = multiclass.NORMAL_95 * math.sqrt(max(0.0, variance) / (positives * negatives))
    return max(0.0, area - half_width), min(1.0, area + half_width)
