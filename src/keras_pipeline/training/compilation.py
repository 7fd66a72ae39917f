"""A network ready to train: its first weights, loss, metric, optimizer and schedule."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_pipeline.config.params import Model, Schedule, Train
from keras_pipeline.config.tasks import TASKS
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.distribution.strategies import OpenedStrategy
from keras_pipeline.models import architectures, frameworks, losses


def new_network(
    model: Model, train: Train, seed: int, strategy: OpenedStrategy, steps: int, task_spec: TaskSpec
) -> keras.Sequential:
    """The network with its first weights, compiled for epochs of `steps` steps, on the devices of `strategy`."""
    frameworks.seed_everything(seed, train.precision)
    # On JAX a batch is one array, whatever the devices: its statistics are over all of it without a word.
    several = strategy.replicas > 1 and keras.backend.backend() == "tensorflow"
    synchronized = several and train.batch_statistics == "synchronized"
    with strategy.scope():
        network = architectures.build_network(
            model, task_spec.shape, task_spec.outputs, synchronized=synchronized, seed=seed
        )
        draw_weights(network, seed)
        compile_model(network, train, steps, task_spec)
    return network


def draw_weights(model: keras.Sequential, seed: int) -> None:
    """Draw the initial kernels, the same on every backend: Glorot and Bengio's uniform distribution (2010, eq. 16),
    as Keras' default has it, drawn by NumPy in float32 from (seed, the layer's place). What else there is
    starts as Keras starts it, from constants."""
    for position, layer in enumerate(model.layers):
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            *window, inputs, outputs = kernel.shape
            limit = math.sqrt(6 / (math.prod(window) * (inputs + outputs)))
            kernel.assign(
                np.random.default_rng([seed, 2, position]).uniform(-limit, limit, kernel.shape).astype("float32")
            )


def compile_model(model: keras.Sequential, train: Train, steps: int, task_spec: TaskSpec) -> None:
    """Give the network its loss, its metrics, and its optimizer with the schedule for epochs of `steps` steps."""
    # Not keras.optimizers.get: it does not know all of them (Lamb).
    kinds = {name.lower(): kind for name, kind in vars(keras.optimizers).items()}
    optimizer = kinds[train.optimizer.name](
        learning_rate=learning_rate(train.schedule, train.optimizer.learning_rate, train.epochs, steps),
        **train.optimizer.arguments(),
    )
    # The sum: the batches' weights make it a mean.
    model.compile(optimizer, loss=losses.make_loss(train.loss, "sum"), weighted_metrics=make_metrics(task_spec))


def learning_rate(schedule: Schedule, highest: float, epochs: int, steps: int) -> Any:
    """The learning rate as Keras takes it: a number, or a schedule over optimizer steps.

    cosine: linear from 0 over the warm-up epochs, then half a cosine to 0 at the last step (Loshchilov and
    Hutter 2017); exponential: continuous, by `decay_rate` per epoch.
    """
    if schedule.name == "cosine":
        warmup = schedule.warmup_epochs * steps
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else highest,
            decay_steps=epochs * steps - warmup,
            warmup_target=highest if warmup else None,
            warmup_steps=warmup,
        )
    if schedule.name == "exponential":
        return keras.optimizers.schedules.ExponentialDecay(highest, steps, schedule.decay_rate)
    return highest


def learning_rate_then(optimizer: keras.optimizers.Optimizer, steps_since: int) -> float:
    """The learning rate that the optimizer had so many steps ago, or will have, if negative."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss
    rate = optimizer._learning_rate  # Keras tells the rate of now only
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(optimizer._iterations - steps_since)  # not `iterations`, which counts less where gradients gather
    return float(keras.ops.convert_to_numpy(rate))


def learning_rates(optimizer: keras.optimizers.Optimizer) -> Iterator[float]:
    """Those of the next steps, without end; where no schedule moves the learning rate, it is read once."""
    if not isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        yield from itertools.repeat(learning_rate_then(optimizer, 0))
    for ahead in itertools.count():
        yield learning_rate_then(optimizer, -ahead)


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


def make_metrics(task_spec: TaskSpec) -> list[keras.metrics.Metric]:
    """What is told of each epoch beside the loss, the task's metric first, under Keras' name.

    One that is added here is in each epoch's row, history.csv and MLflow; `numpy_engine` has to compute it, too.
    """
    name = TASKS[task_spec.task].metric
    if task_spec.target:
        return [MeanAbsoluteError(name, task_spec.target.divisor)]
    return [Accuracy(name=name) if task_spec.outputs > 1 else BinaryAccuracy(name=name)]
