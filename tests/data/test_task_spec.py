"""The targets of each task, and what its outputs mean."""

import numpy as np

from keras_pipeline.data import task_spec


def test_targets_and_what_outputs_mean() -> None:
    labels = np.array([2, 0, 1])
    np.testing.assert_array_equal(task_spec.make_targets(labels, 3), np.eye(3)[labels])
    np.testing.assert_array_equal(task_spec.make_targets(labels[1:], 2), [[0], [1]])
    np.testing.assert_array_equal(task_spec.make_targets(np.array([0.5, -2], np.float32), 1), [[0.5], [-2]])
    for classes in (1, 2, 3):
        assert task_spec.make_targets(labels[1:], classes).dtype == np.float32
    assert task_spec.predicted_classes(task_spec.make_targets(labels, 3)).tolist() == [2, 0, 1]
    assert task_spec.predicted_classes(np.array([[0.5], [0.51], [0.0]])).tolist() == [0, 1, 0]
