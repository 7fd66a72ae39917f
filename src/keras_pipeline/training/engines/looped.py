"""A fit on TensorFlow that trains many steps in one call, on a CPU, where they are not one program of XLA.

A call of TensorFlow from Python costs more than a step of a small network. So the steps of Keras' fit are put into a
loop of TensorFlow's: the same operations one by one, and so the same bytes. Meanwhile a thread cuts the next batches.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_pipeline.distribution import fit_loop
from keras_pipeline.training.batches import Batch, batch_order
from keras_pipeline.training.training import Training

MOST_STEPS = 64
"""How many steps are one call: enough that what is between two calls does not count."""
MOST_BYTES = 16 * 2**20
"""How large the batches of a call may be together, where they are more than one: three times as much is in memory."""


def looped_steps(training: Training, start: tuple[int, int], look: int) -> fit_loop.Steps:
    """The steps of Keras' fit from `start` on, a step of an epoch, both counted from 0, and its validation, for
    `fit_loop.run_epochs`, many steps at a time.

    Never beyond a multiple of `look` (0: of none in particular), nor longer than half a second or MOST_STEPS; the logs
    hold the "losses" of all of them.
    """
    model, data, strategy = training.model, training.data, training.strategy
    size, count = data.batch_size, len(data.training.targets)
    whole = count // size
    together = max(1, min(MOST_STEPS, MOST_BYTES // (data.training.part(slice(1)).scaled_bytes * size)))
    validation = data.validation_batches(strategy)
    signature = [tf.TensorSpec([None, None, *part.shape[1:]], part.dtype) for part in validation[0]]
    compute = tf.function(build_loop(model, model.train_step, strategy.replicas), signature, autograph=False)
    test = tf.function(build_loop(model, model.test_step, strategy.replicas), signature, autograph=False)
    order: tuple[int, NDArray[np.int64]] = -1, np.empty(0, np.int64)
    pace = 1

    def cut(epoch: int, step: int) -> tuple[int, Batch]:
        nonlocal order
        if epoch != order[0]:
            order = epoch, batch_order(count, data.seed, epoch)
        most = max(1, whole - step)  # what is left makes a smaller batch
        steps = min(together, pace, most, look - step % look if look else together)
        return steps, data.cut(strategy, epoch, step, steps, order[1])

    cutter = ThreadPoolExecutor(1)
    ahead: Future[tuple[int, Batch]] = cutter.submit(cut, *start)

    def train(epoch: int, step: int) -> tuple[int, fit_loop.Logs]:
        nonlocal ahead, pace
        steps, batches = ahead.result()
        done = step + steps
        ahead = cutter.submit(cut, *((epoch, done) if done < data.steps else (epoch + 1, 0)))
        began = time.perf_counter()
        losses = compute(*batches).numpy()
        pace = max(1, int(fit_loop.LONGEST * steps / (time.perf_counter() - began)))
        return steps, {"loss": losses[-1], "losses": losses}

    def validate() -> None:
        for number in range(len(validation)):
            test(*(part[np.newaxis] for part in validation[number]))

    return train, validate


def build_loop(
    model: keras.Sequential, step: Callable[[Any], dict[str, Any]], replicas: int
) -> Callable[[Any, Any, Any], Any]:
    """Keras' step on each batch in turn: of arrays (steps, batch, …), the mean loss after each, float32 (steps,)."""
    strategy = model.distribute_strategy

    def on_replica(number: Any, batches: tuple[Any, Any, Any]) -> Any:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = tf.shape(batches[0])[1] // replicas
        return step(tuple(part[number, replica * share : (replica + 1) * share] for part in batches))["loss"]

    def run(*batches: Any) -> Any:
        def one(number: Any, losses: Any) -> tuple[Any, Any]:
            loss = strategy.run(on_replica, (number, batches))
            return number + 1, losses.write(number, strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None))

        count = tf.shape(batches[0])[0]
        losses = tf.TensorArray(tf.float32, count)
        return tf.while_loop(lambda number, _: number < count, one, (0, losses), parallel_iterations=1)[1].stack()

    return run
