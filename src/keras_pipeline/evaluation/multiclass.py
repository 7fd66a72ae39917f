"""Predictions to numbers. scikit-learn computes every metric that it has; the others name their source.

Everywhere: `outputs` float32 (n, classes), the test outputs as the network gave them (softmax rows, or
independent sigmoid values); `labels` int (n,) in [0, classes). The predicted class is the largest output, the
first of equals. Every function that takes `outputs` raises DataError when there is no image, when the shapes
or labels do not fit or a value lies outside [0, 1], and DivergedError when a value is not a finite number.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics

from keras_pipeline.core.errors import DataError, DivergedError

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Draws = NDArray[np.int64]
BOOTSTRAP_DRAWS = 1000
MOST_NUMBERS = 2**23
"""How many numbers of one kind are in memory at a time, whatever the numbers of images and classes."""
MOST_PAIRS = 1000
"""How many confused pairs of classes are listed."""
EPSILON = float(np.finfo(np.float64).eps)
"""No probability is taken for smaller: its logarithm counts. scikit-learn's."""
NORMAL_95 = 1.959963984540054  # standard deviations of a normal distribution that hold 95 %


def probabilities(outputs: Floats) -> NDArray[np.float64]:
    """`outputs` as float64 (n, classes) rows that sum to 1: divided by their sum, uniform where all are 0."""
    check_outputs(outputs)
    rows = outputs.astype(np.float64)
    rows[~rows.any(axis=1)] = 1.0
    rows /= rows.sum(axis=1, keepdims=True)
    return rows


def check_outputs(outputs: Floats) -> None:
    """Raise DataError or DivergedError where outputs are no shares of at least one image and two classes."""
    if outputs.ndim != 2 or outputs.shape[0] < 1 or outputs.shape[1] < 2:
        raise DataError(
            f"outputs have the shape {outputs.shape}; expected (images, classes) with at least one image and "
            "two classes. Evaluate on a test split that is not empty."
        )
    if not np.isfinite(outputs).all():
        raise DivergedError(
            f"{np.count_nonzero(~np.isfinite(outputs))} of {outputs.size} outputs are not finite numbers; "
            "expected values in [0, 1]. The network has diverged: train it again with a lower learning rate."
        )
    if outputs.min() < 0 or outputs.max() > 1.0001:  # float32 softmax may round to a little over 1
        raise DataError(
            f"outputs lie in [{outputs.min():g}, {outputs.max():g}]; expected [0, 1]. "
            "End the network in a softmax or sigmoid activation."
        )


class OfEach(NamedTuple):
    """Of each image, float64 (n,): the probability of the predicted class, that of the true class, and the Brier score.

    They are computed some images at a time, so that many images of many classes do not fill the memory.
    """

    confidence: NDArray[np.float64]
    true: NDArray[np.float64]
    brier: NDArray[np.float64]


def of_each_image(outputs: Floats, labels: Integers) -> OfEach:
    """See `OfEach`."""
    check_outputs(outputs)
    images, classes = outputs.shape
    if labels.shape != (images,):
        raise DataError(
            f"labels have the shape {labels.shape} for {images} images; expected one label per image. "
            "Predictions and labels are of different runs: run `dvc repro evaluate`."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"labels lie in [{labels.min()}, {labels.max()}]; expected [0, {classes - 1}], "
            "one class per output. Train and evaluate with the same dataset."
        )
    found = OfEach(*(np.empty(images) for _ in range(3)))
    together = max(1, MOST_NUMBERS // classes)
    for start in range(0, images, together):
        some = slice(start, start + together)
        rows, own = probabilities(outputs[some]), labels[some]
        places = np.arange(len(own)), own
        found.confidence[some] = rows.max(axis=1)
        found.true[some] = rows[places]
        rows[places] -= 1
        found.brier[some] = np.square(rows).sum(axis=1)
    return found


def class_scores(outputs: Floats, labels: Integers, loss: float, calibration_bins: int) -> dict[str, float]:
    """Every test metric, flat, in the order in which it is shown; all are finite.

    `test/loss`: `loss`, the training loss as Keras reports it, so that it compares with `val/loss`. `accuracy_low`,
    `accuracy_high`: Wilson 95 % interval. `balanced_accuracy`: mean recall of the classes in `labels`; the other macro
    averages also count, with 0, a class that occurs in the predictions only.
    `brier_score`: mean over images of the sum over classes of squared differences between probability and
    one-hot label, in [0, 2] (Brier 1950). `calibration_error`: expected calibration error of the largest
    probability over `calibration_bins` bins of equal width (Guo et al. 2017, https://arxiv.org/abs/1706.04599).
    `p_no_better_than_constant`: see the function of that name.
    """
    of_each = of_each_image(outputs, labels)
    predicted = outputs.argmax(axis=1)
    low, high = wilson_interval(int(np.count_nonzero(predicted == labels)), len(labels))
    # balanced_accuracy_score is the same, but warns of a predicted class that no label has
    balanced_accuracy = sklearn_metrics.recall_score(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    values = {
        "loss": loss,
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "accuracy_low": low,
        "accuracy_high": high,
        "balanced_accuracy": balanced_accuracy,
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
        "log_loss": np.maximum(log_losses(outputs, labels), -np.log(1 - EPSILON)).mean(),  # as scikit-learn does
        "brier_score": of_each.brier.mean(),
        "calibration_error": calibration_error(calibration_rows(outputs, labels, calibration_bins)),
        "p_no_better_than_constant": p_no_better_than_constant(labels, predicted),
    }
    return {f"test/{name}": float(value) for name, value in values.items()}


def class_intervals(outputs: Floats, labels: Integers, seed: int) -> dict[str, tuple[float, float]]:
    """95 % intervals (low, high) under the names of `class_scores`: of this network, over unlimited test images.

    Accuracy: Wilson. Log loss and Brier score: mean ± 1.96 standard errors, not below 0. The macro averages:
    percentile bootstrap (Efron 1979). They depend on the confusion matrix only, so its cells are drawn from a
    multinomial distribution: the same as drawing images with replacement, and vectorised.
    """
    of_each = of_each_image(outputs, labels)
    images, classes = outputs.shape
    predicted = outputs.argmax(axis=1)
    drawn = _bootstrap(confusion_matrix(labels, predicted, classes), seed)
    result = {
        "accuracy": wilson_interval(int(np.count_nonzero(predicted == labels)), images),
        **{name: middle_95_percent(values) for name, values in drawn.items()},
        "log_loss": normal_interval(log_losses(outputs, labels)),
        "brier_score": normal_interval(of_each.brier),
    }
    return {f"test/{name}": interval for name, interval in result.items()}


def log_losses(outputs: Floats, labels: Integers) -> NDArray[np.float64]:
    """Of each image, float64 (n,); their mean is `test/log_loss`."""
    return np.asarray(-np.log(np.maximum(of_each_image(outputs, labels).true, EPSILON)))


def per_class_rows(labels: Integers, predicted: Integers, class_names: list[str]) -> list[dict[str, Any]]:
    """One row per class: class, precision, recall, f1, support; precision and recall with Wilson 95 % intervals.

    A ratio without a denominator is 0, and lies anywhere in [0, 1].
    """
    columns = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(class_names)), zero_division=0
    )
    answered = np.bincount(predicted, minlength=len(class_names))
    rows = []
    for name, times, precision, recall, f1, support in zip(class_names, answered, *columns, strict=True):
        right = round(recall * support)
        row = {"class": name, **_with_interval("precision", float(precision), right, int(times))}
        row |= _with_interval("recall", float(recall), right, int(support))
        rows.append({**row, "f1": float(f1), "support": int(support)})
    return rows


def _with_interval(name: str, value: float, successes: int, trials: int) -> dict[str, float]:
    low, high = wilson_interval(successes, trials)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def confusion_matrix(labels: Integers, predicted: Integers, classes: int) -> Draws:
    """Number of images, int (classes, classes): rows are the true class, columns the predicted one."""
    matrix: Draws = sklearn_metrics.confusion_matrix(labels, predicted, labels=np.arange(classes))
    return matrix


def confused_pairs(matrix: Draws, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The mistakes by how often they were made, MOST_PAIRS at most: a row for each pair of classes, with actual,
    predicted, count, and share, of the images of the actual class."""
    support = matrix.sum(axis=1).tolist()
    return [
        {
            "actual": class_names[actual],
            "predicted": class_names[predicted],
            "count": count,
            "share": count / support[actual],
        }
        for count, actual, predicted in islice(_confusions(matrix), MOST_PAIRS)
    ]


def most_confused(matrix: Draws, count: int) -> list[int]:
    """So many classes that are confused most with each other, in their order; all, if there are no more."""
    found: set[int] = set()
    for _, *pair in _confusions(matrix):
        if len(found.union(pair)) > count:
            break
        found.update(pair)
    others = (one for one in range(len(matrix)) if one not in found)
    return sorted([*found, *islice(others, count - len(found))])


def _confusions(matrix: Draws) -> Iterator[tuple[int, int, int]]:
    """The mistakes by how often they were made: that, the true class, and the predicted one."""
    wrong = (matrix - np.diag(np.diagonal(matrix))).ravel()
    places = np.flatnonzero(wrong)
    for place in places[np.argsort(-wrong[places], kind="stable")].tolist():
        yield int(wrong[place]), *divmod(place, len(matrix))


def calibration_rows(outputs: Floats, labels: Integers, bins: int) -> list[dict[str, Any]]:
    """The images by their largest probability, in `bins` bins (lower, upper] of equal width over [0, 1].

    Per bin: lower, upper, count, confidence (mean largest probability), accuracy with its Wilson 95 % interval,
    accuracy_low and accuracy_high; all but the first three None in an empty bin.
    """
    confidence, correct = of_each_image(outputs, labels).confidence, outputs.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    bin_of_image = np.searchsorted(edges[1:-1], confidence)
    rows: list[dict[str, Any]] = []
    for index, (lower, upper) in enumerate(pairwise(edges.tolist())):
        inside = bin_of_image == index
        count = int(inside.sum())
        unknown = dict.fromkeys(("confidence", "accuracy", "accuracy_low", "accuracy_high"))
        row: dict[str, Any] = {"lower": lower, "upper": upper, "count": count, **unknown}
        if count:
            right = int(np.count_nonzero(correct[inside]))
            row["confidence"] = float(confidence[inside].mean())
            row |= _with_interval("accuracy", float(correct[inside].mean()), right, count)
        rows.append(row)
    return rows


def find_worst_mistakes(outputs: Floats, labels: Integers, count: int) -> NDArray[np.intp]:
    """Indices (at most `count`,) of the wrong predictions, the most confident first, equals by index."""
    confidence = of_each_image(outputs, labels).confidence
    wrong = np.flatnonzero(outputs.argmax(axis=1) != labels)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:count]


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    low, high = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def p_no_better_than_constant(labels: Integers, predicted: Integers) -> float:
    """How often chance would make the answers as good as they are, were they no better than a constant one; above a
    half for a constant one.

    The constant is the most common class of `labels` themselves, the best answer of all that are the same for every
    image; its accuracy is known as the no-information rate (Kuhn 2008, https://doi.org/10.18637/jss.v028.i05). Only
    those images count that one of the two has right and the other has not: McNemar's exact test, one-sided.
    """
    right, common = predicted == labels, labels == np.bincount(labels).argmax()
    only_network, only_constant = int(np.count_nonzero(right & ~common)), int(np.count_nonzero(common & ~right))
    if not only_network:
        return 1.0
    return float(binomtest(only_network, only_network + only_constant, alternative="greater").pvalue)


def calibration_error(bins: list[dict[str, Any]]) -> float:
    """The bins' gaps between confidence and accuracy, weighted by their counts: the rows of `calibration_rows`."""
    gaps = [row["count"] * abs(row["accuracy"] - row["confidence"]) for row in bins if row["count"]]
    return float(sum(gaps) / sum(row["count"] for row in bins))


def _bootstrap(matrix: Draws, seed: int) -> dict[str, NDArray[np.float64]]:
    """`_macro_averages` of BOOTSTRAP_DRAWS matrices of as many images, drawn with replacement from those of `matrix`.

    Only the cells that hold an image can be drawn, so that a million empty ones take neither time nor memory; the last
    of all stays, for the generator draws no number for it.
    """
    cells, classes = matrix.ravel(), len(matrix)
    drawable = np.union1d(np.flatnonzero(cells), len(cells) - 1)
    actual, predicted = np.divmod(drawable, classes)
    images = int(cells.sum())
    random, together = np.random.default_rng(seed), max(1, MOST_NUMBERS // len(drawable))
    of_rows, of_columns, of_diagonal = (
        scipy.sparse.csr_array((kept, (np.arange(len(drawable)), places)), (len(drawable), classes))
        for kept, places in (
            (np.ones(len(drawable), np.int64), actual),
            (np.ones(len(drawable), np.int64), predicted),
            ((actual == predicted).astype(np.int64), actual),
        )
    )
    parts = []
    for start in range(0, BOOTSTRAP_DRAWS, together):
        draws = random.multinomial(images, cells[drawable] / images, size=min(together, BOOTSTRAP_DRAWS - start))
        summed = (np.ascontiguousarray(draws @ some) for some in (of_diagonal, of_rows, of_columns))
        parts.append(_macro_averages(*summed))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _macro_averages(correct: Draws, support: Draws, predicted: Draws) -> dict[str, NDArray[np.float64]]:
    """scikit-learn's averages with zero_division=0, for many draws: of each class, int (draws, classes), how many
    images were right, there, and taken for it."""
    recall = correct / np.maximum(support, 1)
    precision = correct / np.maximum(predicted, 1)
    f1 = 2 * correct / np.maximum(support + predicted, 1)
    occurring = np.count_nonzero(support + predicted, axis=1)
    return {
        "balanced_accuracy": recall.sum(axis=1) / np.count_nonzero(support, axis=1),
        "precision_macro": precision.sum(axis=1) / occurring,
        "recall_macro": recall.sum(axis=1) / occurring,
        "f1_macro": f1.sum(axis=1) / occurring,
    }


def middle_95_percent(values: NDArray[np.float64]) -> tuple[float, float]:
    """What holds the middle 95 % of values that were drawn."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def normal_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean of values that are not negative: ± 1.96 standard errors, not below 0."""
    mean, half_width = float(values.mean()), NORMAL_95 * float(values.std()) / math.sqrt(len(values))
    return max(0.0, mean - half_width), mean + half_width
