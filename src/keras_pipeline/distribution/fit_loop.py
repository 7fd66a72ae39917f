"""The loop of Keras' fit around any way to train some steps and to validate, for where Keras' own does not serve."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Logs = dict[str, Any]
Train = Callable[[int, int], tuple[int, Logs]]
"""Train from a step of an epoch, both counted from 0, one step or more, never beyond the epoch: how many, and their
logs."""
Validate = Callable[[], None]
"""Update the metrics by the validation split."""
Steps = tuple[Train, Validate]
LONGEST = 0.5
"""After how many seconds somebody looks at what was computed: a request to end does not wait longer."""
Compute = Callable[[NDArray[np.int32], NDArray[np.float32], int], NDArray[np.float32]]
"""Many steps at once: of int32 (steps, batch), the numbers of training images, and of float32 (steps, batch, 2, terms),
how they are deformed (no terms: not at all), the first so many rows are trained on; float32 (rows trained on,), the
mean loss over the epoch after each. Compiled once for each shape."""


def run_epochs(
    model: keras.Sequential,
    train: Train,
    validate: Validate,
    *,
    epochs: int,
    initial_epoch: int,
    initial_step: int,
    steps_per_epoch: int,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Train to the end of `epochs`, or to that of the epoch in which a callback sets `model.stop_training`.

    Callbacks hear of the begin of the training and of each epoch, of the end of each `train` with the number of the
    last step, and of the end of each epoch with all metrics.
    """
    listeners = keras.callbacks.CallbackList(callbacks, model=model, epochs=epochs, steps=steps_per_epoch)
    model.stop_training = False
    listeners.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        listeners.on_epoch_begin(epoch)
        step = initial_step if epoch == initial_epoch else 0
        while step < steps_per_epoch and not model.stop_training:
            count, logs = train(epoch, step)
            step += count
            listeners.on_train_batch_end(step - 1, logs)
        logs = _results(model)
        model.reset_metrics()
        validate()
        listeners.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in _results(model).items()})
        if model.stop_training:
            break
    model.optimizer.finalize_variable_values(model.trainable_weights)
    listeners.on_train_end()


def _results(model: keras.Sequential) -> dict[str, float]:
    """Over all workers: reading a metric adds them up, so every worker must ask."""
    return {name: float(value) for name, value in model.get_metrics_result().items()}
