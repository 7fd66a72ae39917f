"""Replicas under TensorFlow's strategies: their noise, their statistics, and a fit over several processes."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_pipeline.distribution import fit_loop


def fit(model: keras.Sequential, batches: Callable[[], Iterator[Any]], **options: Any) -> None:
    """Keras' fit, which under a strategy begins to read its data twice: each time from the beginning here."""
    model.fit(_dataset(batches, options["validation_data"][0]), **options)


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


def several_processes_fit(strategy: Any) -> Callable[..., None]:
    """A fit for MultiWorkerMirroredStrategy, under which Keras 3's own raises (keras-team/keras#20585).

    Takes endless batches of this worker's share, and its share of the validation batches.
    """

    def fit(
        model: keras.Sequential,
        batches: Callable[[], Iterator[Any]],
        *,
        epochs: int,
        initial_epoch: int,
        steps_per_epoch: int,
        validation_data: keras.utils.PyDataset,
        callbacks: list[keras.callbacks.Callback],
        **options: Any,
    ) -> None:
        step, test = (tf.function(_on_replicas(strategy, one)) for one in (model.train_step, model.test_step))
        data = _dataset(batches, validation_data[0])
        distributed = iter(strategy.distribute_datasets_from_function(lambda context: data))

        def validate() -> None:
            for number in range(len(validation_data)):
                test(tuple(tf.constant(array) for array in validation_data[number]))

        fit_loop.run_epochs(
            model,
            lambda *position: (1, step(next(distributed))),
            validate,
            epochs=epochs,
            initial_epoch=initial_epoch,
            initial_step=0,
            steps_per_epoch=steps_per_epoch,
            callbacks=callbacks,
        )

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
