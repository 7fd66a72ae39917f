"""What is said beside the numbers of a network, mostly where it is of no use."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import small
from keras_pipeline.data.splits import Split
from keras_pipeline.evaluation import reports
from keras_pipeline.evaluation.predictions import Predictions

pytestmark = pytest.mark.slow

LABELS = np.arange(400) % 10
NAMES = [f"class {number}" for number in range(10)]
STATISTICS: dict[str, Any] = small.statistics({"train": 1, "validation": 1, "test": 1}, class_names=NAMES)
BINARY = {**STATISTICS, "task": "binary", "class_names": ["not 9", "9"]}


def lines(outputs: NDArray[Any], labels: NDArray[Any], statistics: dict[str, Any]) -> list[str]:
    images = Split(np.zeros((len(labels), 28, 28, 1), np.float32), labels)
    answers = Predictions(outputs.astype(np.float32), labels, 1.0, None, None)
    return reports.make_report(answers, images, statistics, small.params().evaluate, 1).lines


def test_a_network_that_says_one_thing_only_is_said() -> None:
    """The same outputs for all images are told from different ones that mean the same class."""
    same = np.tile(np.eye(10)[3], (400, 1))
    [headline, told] = lines(same, LABELS, STATISTICS)
    assert ", no better than a constant answer on 400 images" in headline
    assert told.startswith(
        "no better than always giving the most common answer, class 0 (10.0%); it gives the same outputs to every "
        "image (class 3), as dead units or exploded weights do. Try another train.optimizer.learning_rate"
    )
    shaken = 0.9 * same + 0.1 * np.random.default_rng(0).dirichlet(np.ones(10), 400)
    [_, told] = lines(shaken, LABELS, STATISTICS)
    assert "(10.0%); it answers class 3 to every image. Try" in told
    assert len(lines(np.eye(10)[LABELS], LABELS, STATISTICS)) == 1


def test_outputs_that_tell_two_classes_apart_at_another_threshold_are_said() -> None:
    labels = (LABELS == 9).astype(int)
    [_, told, more] = lines(0.1 + 0.1 * labels[:, np.newaxis], labels, BINARY)
    assert "most common answer, not 9 (90.0%); it answers not 9 to every image. Try" in told
    assert more.startswith(
        "its outputs tell the classes apart all the same (test/roc_auc 1.0000), by another threshold"
    )
    assert len(lines(np.full((400, 1), 0.1), labels, BINARY)) == 2
