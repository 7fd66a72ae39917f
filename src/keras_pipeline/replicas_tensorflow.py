"""Replicas under TensorFlow's strategies: their noise, their statistics, and a fit over several processes."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


def fit(model: keras.Sequential, batches: Callable[[], Iterator[Any]], **options: Any) -> None:
    """Keras' fit, which under a strategy begins to read its data twice: each time from the beginning here."""
    model.fit(_dataset(batches, options["validation_data"]), **options)


def spread_noise(model: keras.Sequential, first: int) -> None:
    """Give each replica of this process, numbered from `first`, masks of its own in every Dropout.

    Keras starts all replicas with one seed, so that they would all leave out the same units. The state of a
    generator is (seed, number of draws); only the seed is moved on, by a replica's number.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            for number, copy in enumerate(_copies(layer.seed_generator.state)):
                copy.assign(tf.cast([layer.seed + first + number, copy[1]], copy.dtype))


def average_statistics(strategy: Any, model: keras.Sequential) -> None:
    """Set BatchNormalization's moving statistics to their mean over all replicas."""
    statistics = [weight for weight in model.non_trainable_weights if weight.dtype.startswith("float")]

    def average() -> None:
        context = tf.distribute.get_replica_context()
        for weight in statistics:
            weight.assign(context.all_reduce(tf.distribute.ReduceOp.MEAN, weight.value))

    if statistics:
        strategy.run(average)


def gather(strategy: Any, variables: list[Any], workers: int) -> list[NDArray[Any]]:
    """Each replica's value of each variable, stacked: (replicas, …); every worker must ask."""
    local = [np.stack([copy.numpy() for copy in _copies(variable)]) for variable in variables]
    return local if workers == 1 else [strategy.gather(tf.constant(one), axis=0).numpy() for one in local]


def scatter(variables: list[Any], arrays: list[NDArray[Any]], first: int) -> None:
    """Give each replica of this process, numbered from `first`, its own of the stacked values."""
    for variable, array in zip(variables, arrays, strict=True):
        for number, copy in enumerate(_copies(variable)):
            copy.assign(array[first + number])


def _copies(variable: Any) -> Any:
    """A Keras variable's values on the replicas of this process."""
    return getattr(variable.value, "values", (variable.value,))


def own_fit(strategy: Any) -> Callable[..., None]:
    """A fit for MultiWorkerMirroredStrategy, under which Keras 3's own raises (keras-team/keras#20585).

    The loop of Keras' fit around Keras' own steps, for what `training` gives it: endless batches of this
    worker's share, arrays of its share for validation, and callbacks that look at every step.
    """

    def fit(
        model: keras.Sequential,
        batches: Callable[[], Iterator[Any]],
        *,
        epochs: int,
        initial_epoch: int,
        steps_per_epoch: int,
        validation_data: tuple[Any, Any, Any],
        validation_batch_size: int,
        callbacks: list[keras.callbacks.Callback],
        **options: Any,
    ) -> None:
        train, test = (tf.function(_on_replicas(strategy, step)) for step in (model.train_step, model.test_step))
        data = _dataset(batches, validation_data)
        distributed = iter(strategy.distribute_datasets_from_function(lambda context: data))
        starts = range(0, len(validation_data[0]), validation_batch_size)
        listeners = keras.callbacks.CallbackList(callbacks, model=model, epochs=epochs, steps=steps_per_epoch)
        model.stop_training = False
        listeners.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            model.reset_metrics()
            listeners.on_epoch_begin(epoch)
            for step in range(steps_per_epoch):
                logs = train(next(distributed))
                listeners.on_train_batch_end(step, logs)
                if model.stop_training:
                    break
            logs = _results(model)
            model.reset_metrics()
            for start in starts:
                batch = [array[start : start + validation_batch_size] for array in validation_data]
                test(tuple(tf.constant(array) for array in batch))
            listeners.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in _results(model).items()})
            if model.stop_training:
                break
        model.optimizer.finalize_variable_values(model.trainable_weights)
        listeners.on_train_end()

    return fit


def _on_replicas(strategy: Any, step: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    def run(batch: Any) -> dict[str, Any]:
        results: dict[str, Any] = strategy.run(step, (batch,))
        return {name: strategy.experimental_local_results(result)[0] for name, result in results.items()}

    return run


def _dataset(batches: Callable[[], Iterator[Any]], like: tuple[Any, Any, Any]) -> tf.data.Dataset:
    """The batches, made while the step before is computed; `like` tells their shapes and types."""
    signature = tuple(tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in like)
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(tf.data.AUTOTUNE)


def _results(model: keras.Sequential) -> dict[str, float]:
    """Over all workers: reading a metric adds them up, so every worker must ask."""
    return {name: float(value) for name, value in model.get_metrics_result().items()}
