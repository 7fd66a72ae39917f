"""What is told of each epoch beside the loss: Keras' metrics, over the images that count."""

from typing import Any

import keras

from keras_pipeline.preprocessing import Question
from keras_pipeline.tasks import TASKS


class _OfImages:
    """A metric over what has a weight in the loss, whatever weight; a batch may be filled up with images of none."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """As Keras', with the targets (n, outputs), the outputs and the loss's weights (n,), if there are any."""
        counted = None if sample_weight is None else keras.ops.cast(sample_weight > 0, "float32")
        return super().update_state(y_true, y_pred, sample_weight=counted)  # type: ignore[misc]


class Accuracy(_OfImages, keras.metrics.CategoricalAccuracy):  # type: ignore[misc]
    """The share of right answers: the largest output is that of the class."""


class BinaryAccuracy(_OfImages, keras.metrics.BinaryAccuracy):  # type: ignore[misc]
    """The share of right answers: the output is above a half where the class is 1."""


class MeanAbsoluteError(_OfImages, keras.metrics.MeanAbsoluteError):  # type: ignore[misc]
    """In the units of what is predicted, of which `unit` are one of the scaled targets."""

    def __init__(self, name: str, unit: float = 1.0) -> None:
        super().__init__(name=name)
        self.unit = unit

    def result(self) -> Any:
        """As Keras', in units."""
        return super().result() * self.unit


def of(question: Question) -> keras.metrics.Metric:
    """The metric of the question's task, under Keras' name."""
    name = TASKS[question.task].metric
    if question.target:
        return MeanAbsoluteError(name, question.target.divisor)
    return Accuracy(name=name) if question.outputs > 1 else BinaryAccuracy(name=name)
