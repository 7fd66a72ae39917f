"""The bootstrap of a classifier's numbers."""

import numpy as np
import pytest

from class_scores import score
from keras_pipeline.evaluation import multiclass

pytestmark = pytest.mark.slow


def test_bootstrap_computes_what_the_stock_functions_do():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 4, (2, 60, 5))  # five images, so that most draws lack a class
    matrices = [multiclass.confusion_matrix(*pair, 4) for pair in zip(labels, predicted, strict=True)]
    counts = np.array(matrices)
    averages = multiclass._macro_averages(np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2), counts.sum(axis=1))
    for index, (true, guess) in enumerate(zip(labels, predicted, strict=True)):
        values = score(np.eye(4, dtype=np.float32)[guess], true)
        for name, column in averages.items():
            assert column[index] == pytest.approx(values[f"test/{name}"], rel=1e-12), name
