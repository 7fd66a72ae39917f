"""The numbers of a classifier: by hand, and against stock functions."""

import json
import math
import tracemalloc

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as stock
from sklearn.calibration import calibration_curve

from class_scores import score
from keras_pipeline.config.tasks import is_no_better_than_constant
from keras_pipeline.core.errors import DataError, DivergedError
from keras_pipeline.evaluation import multiclass

NAMES = [
    "test/loss",
    "test/accuracy",
    "test/accuracy_low",
    "test/accuracy_high",
    "test/balanced_accuracy",
    "test/precision_macro",
    "test/recall_macro",
    "test/f1_macro",
    "test/log_loss",
    "test/brier_score",
    "test/calibration_error",
    "test/p_no_better_than_constant",
]
# Four images, three classes, computed by hand below: the second and the fourth are wrong.
OUTPUTS = np.array([[0.75, 0.25, 0], [0.5, 0.25, 0.25], [0, 0.5, 0.5], [0, 0, 1]], dtype=np.float32)
LABELS = np.array([0, 1, 1, 0])


def classifier(images=600, classes=5, seed=0, scale=2.0):
    """Softmax rows of a classifier that is right for most images, and its logits and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    logits = scale * (generator.normal(size=(images, classes)) + 1.5 * np.eye(classes)[labels])
    return softmax(logits, axis=1).astype(np.float32), labels, logits


def test_scores_by_hand():
    values = score(OUTPUTS, LABELS, loss=0.75, bins=2)
    assert list(values) == NAMES
    squares = (0.0625 + 0.0625) + (0.25 + 0.5625 + 0.0625) + (0.25 + 0.25) + (1 + 1)
    assert values["test/loss"] == 0.75
    assert values["test/brier_score"] == pytest.approx(squares / 4)
    assert values["test/accuracy"] == 0.5
    assert values["test/balanced_accuracy"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert values["test/recall_macro"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)  # class 2: predicted only
    assert values["test/precision_macro"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert values["test/f1_macro"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    eps = np.finfo(np.float64).eps
    assert values["test/log_loss"] == pytest.approx(-np.log([0.75, 0.25, 0.5, eps]).mean())
    # bins (0, 0.5] and (0.5, 1]: confidence 0.5, 0.5 with one right; 0.75, 1 with one right
    assert values["test/calibration_error"] == pytest.approx(0.5 * 0 + 0.5 * (0.875 - 0.5))


def test_scores_equal_the_stock_functions():
    outputs, labels, _ = classifier()
    predicted, probability = outputs.argmax(axis=1), multiclass.probabilities(outputs)
    values = score(outputs, labels)
    for name, expected in {
        "accuracy": stock.accuracy_score(labels, predicted),
        "balanced_accuracy": stock.balanced_accuracy_score(labels, predicted),
        "precision_macro": stock.precision_score(labels, predicted, average="macro"),
        "recall_macro": stock.recall_score(labels, predicted, average="macro"),
        "f1_macro": stock.f1_score(labels, predicted, average="macro"),
        "log_loss": -np.log(probability[np.arange(len(labels)), labels]).mean(),
        "brier_score": ((probability - np.eye(5)[labels]) ** 2).sum(axis=1).mean(),
    }.items():
        assert values[f"test/{name}"] == pytest.approx(expected, rel=1e-12), name


def test_probabilities_are_rows_that_sum_to_one():
    sigmoid = np.array([[0.2, 0.6], [0, 0], [1, 1], [1e-45, 0]], dtype=np.float32)
    rows = multiclass.probabilities(sigmoid)
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows, [[0.25, 0.75], [0.5, 0.5], [0.5, 0.5], [1, 0]], rtol=1e-7)
    assert sigmoid[1].tolist() == [0, 0]  # the argument is left alone


def answers(counts):
    """Predicted classes and labels with so many images of each pair (label, answer)."""
    labels, predicted = zip(*(pair for pair, count in counts.items() for _ in range(count)), strict=True)
    return np.array(labels), np.array(predicted)


@pytest.mark.parametrize(
    ("counts", "p"),
    [
        ({(0, 0): 60, (1, 0): 40}, 1.0),  # the most common class for all
        ({(0, 1): 2, (1, 1): 1}, 7 / 8),  # another class for all
        ({(0, 0): 50, (1, 0): 50}, 1.0),  # one of equals
        ({(0, 1): 1, (1, 1): 1}, 3 / 4),  # the other one
        ({(0, 0): 60, (1, 1): 4, (1, 0): 36}, 0.5**4),  # four more than the constant, and none less
        ({(0, 0): 60, (1, 1): 5, (1, 0): 35}, 0.5**5),
        ({(0, 1): 1, (0, 0): 59, (1, 1): 4, (1, 0): 36}, (1 + 5) / 2**5),
    ],
)
def test_better_than_a_constant_by_hand(counts, p):
    assert multiclass.p_no_better_than_constant(*answers(counts)) == pytest.approx(p)


def test_better_than_a_constant_is_mcnemar_s_exact_test_of_one_side():
    from statsmodels.stats.contingency_tables import mcnemar

    labels, predicted = answers({(0, 0): 300, (0, 1): 20, (1, 1): 41, (1, 0): 200, (2, 1): 7})
    two_sides = mcnemar([[300, 41], [20, 207]], exact=True).pvalue
    assert multiclass.p_no_better_than_constant(labels, predicted) == pytest.approx(two_sides / 2)


def test_guesses_are_seldom_called_better_than_a_constant():
    random = np.random.default_rng(0)
    draws = [multiclass.p_no_better_than_constant(*random.integers(10, size=(2, 300))) for _ in range(300)]
    assert np.mean(np.array(draws) <= 0.05) <= 0.05


@pytest.mark.parametrize(("p", "useless"), [(1.0, True), (0.051, True), (0.05, False), (0.0, False)])
def test_what_is_no_better_than_constant(p, useless):
    assert is_no_better_than_constant({"test/p_no_better_than_constant": p}) is useless
    assert not is_no_better_than_constant({"test/accuracy": 0.1})  # of an earlier version


def test_order_of_the_images_changes_nothing():
    outputs, labels, _ = classifier()
    order = np.random.default_rng(1).permutation(len(labels))
    assert score(outputs[order], labels[order]) == pytest.approx(score(outputs, labels), rel=1e-12)
    shuffled, straight = (
        multiclass.class_intervals(*pair, seed=3) for pair in ((outputs[order], labels[order]), (outputs, labels))
    )
    assert {name: pytest.approx(interval, rel=1e-12) for name, interval in straight.items()} == shuffled


def test_perfect_predictions():
    labels = np.arange(30) % 3
    outputs = np.eye(3, dtype=np.float32)[labels]
    values = score(outputs, labels)
    ones = {name: 1.0 for name in NAMES if name.endswith(("accuracy", "accuracy_high", "macro"))}
    assert {name: values[name] for name in ones} == ones
    assert 0.88 < values["test/accuracy_low"] < 0.9
    for name in ("test/log_loss", "test/brier_score", "test/calibration_error"):
        assert values[name] == pytest.approx(0, abs=1e-6)
    assert multiclass.class_intervals(outputs, labels, seed=0)["test/f1_macro"] == (1, 1)
    assert multiclass.find_worst_mistakes(outputs, labels, 36).tolist() == []


@pytest.mark.parametrize(
    ("labels", "predicted"),
    [
        ([0, 0, 0], [0, 0, 0]),  # one class
        ([0, 0, 0], [3, 3, 3]),  # nothing right
        ([0, 1, 1], [2, 1, 1]),  # a class is predicted that no label has
        ([3], [3]),  # one image
        ([0, 1, 2, 3], [1, 1, 1, 1]),  # classes that are never predicted
    ],
)
def test_few_classes_give_finite_numbers_without_a_warning(labels, predicted):
    outputs = np.eye(4, dtype=np.float32)[predicted]
    labels, predicted = np.array(labels), np.array(predicted)
    values = score(outputs, labels)
    intervals = multiclass.class_intervals(outputs, labels, seed=0)
    rows = multiclass.per_class_rows(labels, predicted, list("abcd"))
    json.dumps([values, intervals, rows, multiclass.calibration_rows(outputs, labels, 15)], allow_nan=False)
    assert values["test/f1_macro"] == stock.f1_score(labels, predicted, average="macro", zero_division=0)
    present = [row["recall"] for row in rows if row["support"]]
    assert values["test/balanced_accuracy"] == pytest.approx(np.mean(present))


def test_intervals_hold_the_score():
    outputs, labels, _ = classifier()
    values, intervals = score(outputs, labels), multiclass.class_intervals(outputs, labels, seed=0)
    assert list(intervals) == [NAMES[1], *NAMES[4:10]]
    for name, (low, high) in intervals.items():
        assert low < values[name] < high, name
    assert intervals["test/accuracy"] == (values["test/accuracy_low"], values["test/accuracy_high"])
    for name in ("test/log_loss", "test/brier_score"):  # the same definition in both places
        assert np.mean(intervals[name]) == pytest.approx(values[name], rel=1e-12)
    assert intervals == multiclass.class_intervals(outputs, labels, seed=0)
    assert intervals != multiclass.class_intervals(outputs, labels, seed=1)


def test_standard_error_of_the_log_loss():
    outputs = np.array([[0.5, 0.5], [0.25, 0.75]] * 50, dtype=np.float32)
    low, high = multiclass.class_intervals(outputs, np.zeros(100, dtype=int), seed=0)["test/log_loss"]
    half_width = 1.96 * (math.log(4) - math.log(2)) / 2 / 10
    assert (low, high) == pytest.approx((1.5 * math.log(2) - half_width, 1.5 * math.log(2) + half_width), 1e-4)
    one_bad_image = np.array([[1, 0]] * 20 + [[0, 1]], dtype=np.float32)
    assert multiclass.class_intervals(one_bad_image, np.zeros(21, dtype=int), seed=0)["test/log_loss"][0] == 0


def test_bootstrap_equals_resampling_of_images():
    outputs, labels, _ = classifier(images=150, classes=3, seed=4)
    predicted = outputs.argmax(axis=1)
    chosen = np.random.default_rng(5).integers(0, 150, (4000, 150))
    cells = np.eye(9, dtype=int)[3 * labels + predicted][chosen].sum(axis=1)
    matrices = cells.reshape(-1, 3, 3)
    drawn = multiclass._macro_averages(
        np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(axis=2), matrices.sum(axis=1)
    )
    intervals = multiclass.class_intervals(outputs, labels, seed=0)
    for name, values in drawn.items():
        expected = np.percentile(values, [2.5, 97.5])
        # a 90 % interval would be 0.3 standard deviations off on each side
        assert intervals[f"test/{name}"] == pytest.approx(expected, abs=0.2 * values.std()), name


def test_wilson_reference_values():
    # Newcombe 1998, Statistics in Medicine 17, table I
    assert multiclass.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert multiclass.wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert multiclass.wilson_interval(29, 29) == pytest.approx((0.8830, 1), abs=5e-5)
    assert multiclass.wilson_interval(0, 0) == (0, 1)


def test_wilson_covers_the_truth_in_95_of_100_test_sets():
    truth, images = 0.98, 500
    right = np.random.default_rng(0).binomial(images, truth, size=4000)
    interval = {count: multiclass.wilson_interval(count, images) for count in np.unique(right).tolist()}
    covered = np.mean([interval[count][0] <= truth <= interval[count][1] for count in right.tolist()])
    assert 0.93 < covered < 0.97


def test_confusion_matrix_has_the_true_class_in_rows():
    matrix = multiclass.confusion_matrix(np.array([0, 0, 1]), np.array([0, 2, 2]), 4)
    assert matrix.tolist() == [[1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_confused_pairs_come_by_how_often_and_equals_in_their_order():
    matrix = np.array([[5, 1, 2, 0], [0, 0, 0, 0], [2, 0, 0, 0], [0, 3, 0, 9]])
    rows = multiclass.confused_pairs(matrix, ["a", "b", "c", "d"])
    found = [(row["actual"], row["predicted"], row["count"], row["share"]) for row in rows]
    assert found == [("d", "b", 3, 0.25), ("a", "c", 2, 0.25), ("c", "a", 2, 1.0), ("a", "b", 1, 0.125)]
    many = np.ones((40, 40), dtype=int)
    assert len(multiclass.confused_pairs(many, [str(one) for one in range(40)])) == multiclass.MOST_PAIRS


@pytest.mark.parametrize(("count", "found"), [(2, [1, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])])
def test_the_classes_that_are_confused_most(count, found):
    matrix = np.array([[5, 1, 2, 0], [0, 0, 0, 0], [2, 0, 0, 0], [0, 3, 0, 9]])
    assert multiclass.most_confused(matrix, count) == found


@pytest.mark.parametrize("together", [1, 7, 10**9])
def test_numbers_do_not_depend_on_how_many_images_are_in_memory_at_a_time(together, monkeypatch):
    outputs, labels, _ = classifier(images=50, classes=4)
    expected = score(outputs, labels), multiclass.class_intervals(outputs, labels, seed=3)
    monkeypatch.setattr(multiclass, "MOST_NUMBERS", 4 * together)
    assert (score(outputs, labels), multiclass.class_intervals(outputs, labels, seed=3)) == expected


def test_the_bootstrap_draws_what_a_multinomial_of_all_cells_does():
    outputs, labels, _ = classifier(images=300, classes=6)
    matrix = multiclass.confusion_matrix(labels, outputs.argmax(axis=1), 6)
    assert (matrix == 0).any()
    for hollow in (matrix, matrix * (1 - np.eye(6, dtype=int)[::-1]), np.diag([3, 2, 1, 0, 0, 0])):
        total = int(hollow.sum())
        draws = np.random.default_rng(1).multinomial(total, hollow.ravel() / total, size=1000).reshape(-1, 6, 6)
        counts = np.diagonal(draws, axis1=1, axis2=2), draws.sum(axis=2), draws.sum(axis=1)
        drawn = multiclass._bootstrap(hollow, 1)
        for name, expected in multiclass._macro_averages(*counts).items():
            np.testing.assert_array_equal(drawn[name], expected)


def test_many_images_of_a_thousand_classes_take_little_memory_beside_them():
    outputs = np.zeros((20_000, 1000), np.float32)
    labels = np.arange(20_000) % 1000
    outputs[np.arange(20_000), np.where(np.arange(20_000) % 3, labels, (labels + 1) % 1000)] = 1
    tracemalloc.start()
    try:
        score(outputs, labels)
        multiclass.class_intervals(outputs, labels, seed=0)
        assert tracemalloc.get_traced_memory()[1] < 400e6  # a copy of all as float64 alone is 160 MB, draws were 8 GB
    finally:
        tracemalloc.stop()


def test_per_class():
    labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2])
    rows = multiclass.per_class_rows(labels, predicted, ["a", "b", "c", "d"])
    assert [row["class"] for row in rows] == ["a", "b", "c", "d"]
    assert rows[0]["precision"] == 1
    assert rows[0]["recall"] == pytest.approx(2 / 3)
    assert (rows[0]["recall_low"], rows[0]["recall_high"]) == multiclass.wilson_interval(2, 3)
    assert (rows[0]["precision_low"], rows[0]["precision_high"]) == multiclass.wilson_interval(2, 2)
    assert rows[1]["f1"] == 0.5
    assert [row["support"] for row in rows] == [3, 2, 0, 0]
    nothing = {"precision": 0, "recall": 0, "recall_low": 0, "recall_high": 1, "f1": 0, "support": 0}
    nothing |= {"precision_low": 0, "precision_high": 1}
    assert rows[3] == {"class": "d", **nothing}


def test_calibration_equals_the_stock_curve():
    outputs, labels, _ = classifier()
    rows = multiclass.calibration_rows(outputs, labels, 15)
    correct = outputs.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(correct, multiclass.probabilities(outputs).max(axis=1), n_bins=15)
    filled = [row for row in rows if row["count"]]
    assert [row["accuracy"] for row in filled] == pytest.approx(accuracy)
    assert [row["confidence"] for row in filled] == pytest.approx(confidence)
    assert sum(row["count"] for row in rows) == len(labels)
    assert [row["lower"] for row in rows] + [1] == pytest.approx([0] + [row["upper"] for row in rows])
    assert all(row["lower"] < row["confidence"] <= row["upper"] for row in filled)
    on_the_edge = multiclass.calibration_rows(np.array([[0.5, 0.5]], dtype=np.float32), np.array([0]), 2)
    assert [row["count"] for row in on_the_edge] == [1, 0]
    for row in filled:
        interval = multiclass.wilson_interval(round(row["accuracy"] * row["count"]), row["count"])
        assert (row["accuracy_low"], row["accuracy_high"]) == interval
    unknown = dict.fromkeys(("confidence", "accuracy", "accuracy_low", "accuracy_high"))
    assert rows[0] == {"lower": 0, "upper": pytest.approx(1 / 15), "count": 0, **unknown}


def test_worst_mistakes_come_first_and_equals_in_their_order():
    outputs = np.array([[0.4, 0.6], [0.1, 0.9], [0.9, 0.1], [0.4, 0.6], [0.3, 0.7]], dtype=np.float32)
    labels = np.zeros(5, dtype=int)
    assert multiclass.find_worst_mistakes(outputs, labels, 36).tolist() == [1, 4, 0, 3]
    assert multiclass.find_worst_mistakes(outputs, labels, 3).tolist() == [1, 4, 0]
    many = multiclass.find_worst_mistakes(np.tile(outputs, (20, 1)), np.zeros(100, dtype=int), 40)
    assert many.tolist() == [*range(1, 100, 5), *range(4, 100, 5)]


@pytest.mark.parametrize(
    ("outputs", "labels", "error", "text"),
    [
        (
            np.zeros((0, 10)),
            [],
            DataError,
            r"outputs have the shape \(0, 10\); expected .*at least one image",
        ),
        (np.ones((2, 1)), [0, 0], DataError, r"shape \(2, 1\); .*two classes"),
        (
            np.ones((2, 2)),
            [0],
            DataError,
            r"labels have the shape \(1,\) for 2 images; expected one label per",
        ),
        (np.ones((2, 2)), [0, 2], DataError, r"labels lie in \[0, 2\]; expected \[0, 1\].*same dataset"),
        (np.ones((2, 2)), [-1, 0], DataError, r"labels lie in \[-1, 0\]"),
        (np.array([[0.5, -3]]), [0], DataError, r"outputs lie in \[-3, 0.5\]; expected \[0, 1\].*softmax"),
        (np.array([[0.5, np.nan]]), [0], DivergedError, "1 of 2 outputs are not finite.*lower learning rate"),
        (np.array([[np.inf, np.inf]]), [0], DivergedError, "2 of 2 outputs are not finite"),
    ],
)
def test_refuses_what_it_cannot_score(outputs, labels, error, text):
    outputs, labels = outputs.astype(np.float32), np.array(labels, dtype=int)
    for compute in (
        score,
        lambda *pair: multiclass.class_intervals(*pair, seed=0),
        lambda *pair: multiclass.calibration_rows(*pair, bins=10),
        lambda *pair: multiclass.find_worst_mistakes(*pair, count=1),
    ):
        with pytest.raises(error, match=text):
            compute(outputs, labels)
