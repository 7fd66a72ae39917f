"""The numbers of one class against the rest, against scikit-learn's."""

import json

import numpy as np
import pytest

from drawn_binary import drawn
from keras_pipeline.core.errors import DataError

pytestmark = pytest.mark.slow


def test_binary_scores_are_scikit_learn_s() -> None:
    from sklearn import metrics as reference

    from keras_pipeline.evaluation import binary

    outputs, labels = drawn()
    share, said = outputs[:, 0].astype(float), outputs[:, 0] > 0.5
    scores = binary.binary_scores(outputs, labels, 0.25, 10)
    expected = {
        "accuracy": reference.accuracy_score(labels, said),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, said),
        "precision": reference.precision_score(labels, said),
        "recall": reference.recall_score(labels, said),
        "f1": reference.f1_score(labels, said),
        "roc_auc": reference.roc_auc_score(labels, share),
        "average_precision": reference.average_precision_score(labels, share),
        "log_loss": reference.log_loss(labels, share),
        "brier_score": np.mean((share - labels) ** 2),
        "loss": 0.25,
    }
    for name, value in expected.items():
        assert scores[f"test/{name}"] == pytest.approx(value, rel=1e-6), name
    assert 0 < scores["test/calibration_error"] < 1
    assert scores["test/accuracy_low"] < scores["test/accuracy"] < scores["test/accuracy_high"]
    assert 0.5 < scores["test/p_no_better_than_constant"] < 1  # the class is rare, and the outputs say little of it
    perfect = labels[:, np.newaxis].astype(np.float32)
    assert binary.binary_scores(perfect, labels, 0.25, 10)["test/p_no_better_than_constant"] < 1e-6
    common = np.full_like(outputs, 0.4 if labels.mean() < 0.5 else 0.6)
    assert binary.binary_scores(common, labels, 0.25, 10)["test/p_no_better_than_constant"] == 1


def test_the_curves_enclose_the_areas() -> None:
    from keras_pipeline.evaluation import binary

    outputs, labels = drawn()
    scores = binary.binary_scores(outputs, labels, 0.0, 10)
    roc = binary.roc_curve(outputs, labels)
    false, true = ([row[key] for row in roc] for key in ("false_positive_rate", "true_positive_rate"))
    assert ((false[0], true[0]), (false[-1], true[-1])) == ((0, 0), (1, 1))
    assert np.trapezoid(true, false) == pytest.approx(scores["test/roc_auc"], abs=1e-12)
    curve = binary.precision_recall_curve(outputs, labels)
    recall, precision = (np.array([row[key] for row in curve]) for key in ("recall", "precision"))
    area = -np.sum(np.diff(recall) * precision[:-1])
    assert area == pytest.approx(scores["test/average_precision"], abs=1e-12)
    assert (roc[0]["threshold"], curve[-1]["threshold"]) == (None, None)
    json.dumps([roc, curve], allow_nan=False)
    many = drawn(20_000)
    assert len(binary.precision_recall_curve(*many)) == binary.MOST_POINTS


def test_binary_intervals_hold_what_other_images_would_give() -> None:
    """Of 200 test splits of one network, about 95 % have an interval around the network's own value."""
    from keras_pipeline.evaluation import binary

    many, labels = drawn(100_000)
    truth = binary.binary_scores(many, labels, 0.0, 10)
    random = np.random.default_rng(1)
    held: dict[str, list[bool]] = {}
    for _ in range(200):
        chosen = random.integers(len(labels), size=300)
        for name, (low, high) in binary.binary_intervals(many[chosen], labels[chosen]).items():
            held.setdefault(name, []).append(low <= truth[name] <= high)
    assert set(held) == {
        f"test/{name}" for name in ("accuracy", "precision", "recall", "roc_auc", "log_loss", "brier_score")
    }
    for name, each in held.items():
        assert 0.88 <= np.mean(each) <= 1, name


@pytest.mark.parametrize("value", [0, 1])
def test_a_test_split_of_one_class_is_refused(value: int) -> None:
    from keras_pipeline.evaluation import binary

    with pytest.raises(DataError, match=f"all 5 test images are of class {value}; expected both"):
        binary.binary_scores(np.full((5, 1), 0.5, np.float32), np.full(5, value), 0.0, 10)
