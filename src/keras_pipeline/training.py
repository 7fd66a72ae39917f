"""The fit: batches in an order of our own, loss, optimizer, schedule, and what ends a training."""

import math
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_pipeline.errors import DivergedError
from keras_pipeline.params import EarlyStopping, Schedule, Train
from keras_pipeline.preprocessing import Split

Row = dict[str, float]
VALIDATION_BATCH = 1000


def seed_everything(seed: int, precision: str) -> None:
    """Seed Python, NumPy and Keras, and set Keras' dtype policy: both are global, so before the build."""
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)


def batch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the images in an epoch, counted from 0: a function of its arguments only.

    So the order depends on no framework, and a resumed training needs to know its epoch and nothing else.
    """
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


def batches(split: Split, classes: int, batch_size: int, seed: int) -> tf.data.Dataset:
    """Endless epochs of (images, one-hot labels) batches; the last batch of an epoch may be smaller.

    Keras' own shuffle is not used: on TensorFlow it repeats one order in all epochs once a seed is set.
    """
    images, targets = tf.constant(split.images), tf.one_hot(split.labels, classes)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.numpy_function(lambda number: batch_order(len(split.labels), seed, int(number)), [epoch], tf.int64)
        order.set_shape([len(split.labels)])
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    return (
        tf.data.Dataset.counter()
        .flat_map(one_epoch)
        .map(lambda indices: (tf.gather(images, indices), tf.gather(targets, indices)))
        .prefetch(tf.data.AUTOTUNE)
    )


def in_order(split: Split, classes: int, replicas: int) -> tf.data.Dataset:
    """The split once, in order, in large batches whose first one every replica gets an equal share of."""
    size = min(VALIDATION_BATCH, len(split.labels)) // replicas * replicas
    return tf.data.Dataset.from_tensor_slices((split.images, tf.one_hot(split.labels, classes))).batch(size)


def compile_model(model: keras.Sequential, train: Train, steps: int) -> None:
    """Give the network its loss, accuracy, and its optimizer with the schedule for epochs of `steps` steps."""
    # Not keras.optimizers.get: it does not know all of them (Lamb).
    kinds = {name.lower(): kind for name, kind in vars(keras.optimizers).items()}
    optimizer = kinds[train.optimizer.name](
        learning_rate=learning_rate(train.schedule, train.optimizer.learning_rate, train.epochs, steps),
        **train.optimizer.arguments(),
    )
    model.compile(optimizer, loss=train.loss, metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")])


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


def fit(
    model: keras.Sequential,
    training: tf.data.Dataset,
    validation: tf.data.Dataset,
    train: Train,
    steps: int,
    on_epoch: Callable[[Row], None],
) -> None:
    """Train the compiled model; `on_epoch` gets each epoch's row as soon as it is known.

    A row: epoch (counted from 1), train/loss, train/accuracy (means over the epoch while it trained, with
    Dropout on), val/loss, val/accuracy (at its end), train/learning_rate (after its last step). Both losses
    include the L2 penalty. With early stopping on, the weights of the best epoch are in place at the end.
    Raises DivergedError at the first step whose loss is not a finite number.
    """
    model.fit(
        training,
        epochs=train.epochs,
        steps_per_epoch=steps,
        validation_data=validation,
        shuffle=False,
        callbacks=[
            _Rows(on_epoch),
            *_reduce_on_plateau(train.schedule),
            *_early_stopping(train.early_stopping),
        ],
        verbose="auto" if sys.stdout is not None and sys.stdout.isatty() else 2,
    )


def best_epoch(history: list[Row], rule: EarlyStopping) -> int:
    """The epoch, counted from 1, whose weights the trained network has."""
    if not rule.patience:
        return len(history)
    values = [row[rule.monitor] for row in history]
    return values.index(min(values) if rule.monitor == "val/loss" else max(values)) + 1


class _Rows(keras.callbacks.Callback):  # type: ignore[misc]
    """Hands each epoch's row on, and stops at the first loss that is no number."""

    def __init__(self, on_epoch: Callable[[Row], None]) -> None:
        super().__init__()
        self.on_epoch = on_epoch
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._check("train/loss", (logs or {})["loss"], batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        self._check("val/loss", logs["val_loss"], self.params["steps"])
        self.on_epoch(
            {
                "epoch": epoch + 1,
                "train/loss": logs["loss"],
                "train/accuracy": logs["accuracy"],
                "val/loss": logs["val_loss"],
                "val/accuracy": logs["val_accuracy"],
                "train/learning_rate": float(self.model.optimizer.learning_rate),
            }
        )

    def _check(self, name: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            rate = float(self.model.optimizer.learning_rate)
            raise DivergedError(
                f"training diverged: {name} is {value} at step {step} of epoch {self.epoch}, "
                f"learning rate {rate:g}. Expected: a finite number. Try a tenth of train.optimizer.learning_rate, "
                "a warm-up (train.schedule), train.optimizer.clipnorm: 1.0, or another normalize.scaling."
            )


def _reduce_on_plateau(schedule: Schedule) -> list[keras.callbacks.Callback]:
    if schedule.name != "reduce_on_plateau":
        return []
    return [keras.callbacks.ReduceLROnPlateau("val_loss", factor=schedule.factor, patience=schedule.patience)]


def _early_stopping(rule: EarlyStopping) -> list[keras.callbacks.Callback]:
    if not rule.patience:
        return []
    return [
        keras.callbacks.EarlyStopping(
            rule.monitor.replace("/", "_"),
            patience=rule.patience,
            mode="min" if rule.monitor == "val/loss" else "max",
            restore_best_weights=True,
        )
    ]
