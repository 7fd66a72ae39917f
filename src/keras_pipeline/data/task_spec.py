"""What a network is to learn from a dataset: its task, the shape of an input, its outputs and their targets."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.statistics import DatasetDescription


@dataclass(frozen=True)
class TaskSpec:
    """What a network is to learn: the name of its task, the shape of an input, the number of classes (of a number to be
    predicted 1), and how the number is scaled."""

    task: str
    shape: tuple[int, ...]
    classes: int
    target: Scaling | None = None

    @property
    def outputs(self) -> int:
        """One for each class; of two classes, and of a number, one."""
        return self.classes if self.classes > 2 else 1


def task_spec_from(dataset: DatasetDescription) -> TaskSpec:
    """What statistics.json, or the record of a run, says of its dataset."""
    target = Scaling(**dataset["target"]) if dataset["target"] else None
    return TaskSpec(dataset["task"], tuple(dataset["shape"]), len(dataset["class_names"]) or 1, target)


def make_targets(labels: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """What the outputs should be, float32 (n, outputs): one-hot, or of two classes, and of numbers, the labels."""
    if classes > 2:
        one_hot = np.zeros((len(labels), classes), np.float32)
        one_hot[np.arange(len(labels)), labels] = 1
        return one_hot
    return labels[:, np.newaxis].astype(np.float32)


def predicted_classes(outputs: NDArray[Any]) -> NDArray[np.int64]:
    """The class that the outputs (n, outputs) mean: the largest one's, or whether the only one is above a half."""
    classes: NDArray[np.int64] = (
        outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0.5).astype(np.int64)
    )
    return classes
