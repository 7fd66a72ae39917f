"""The stage normalize where one class is held against the rest."""

from pathlib import Path

import numpy as np
import pytest

from keras_pipeline.data import task_spec
from keras_pipeline.data.splits import read_split
from keras_pipeline.data.task_spec import TaskSpec
from small_tasks import BINARY, normalized_task

pytestmark = pytest.mark.slow


def test_one_class_against_the_rest_has_the_images_of_all_classes(tmp_path: Path) -> None:
    own, statistics = normalized_task(tmp_path / "binary", BINARY)
    every, of_all = normalized_task(tmp_path / "classes", {})
    assert (statistics["task"], statistics["class_names"]) == ("binary", ["not 3", "3"])
    assert task_spec.task_spec_from(statistics) == TaskSpec("binary", (28, 28, 1), 2)
    assert task_spec.task_spec_from(statistics).outputs == 1
    for name in ("train", "validation", "test"):
        one, other = read_split(own, name, statistics), read_split(every, name, of_all)
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.targets, other.targets == 3)
        assert statistics["class_counts"][name] == [(one.targets == 0).sum(), (one.targets == 1).sum()]
