"""Many steps as one program of XLA, on TensorFlow: Keras' own steps inside a loop, over tensors on the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_pipeline.distribution.fit_loop import Compute, Validate
from keras_pipeline.training.batches import Batch, Data


def build_program(model: keras.Sequential, data: Data, validation_batches: Batch) -> tuple[Compute, Validate]:
    """The steps of the compiled model on the training images of `data`, and its metrics' update on the
    `validation_batches`.

    Dropout's masks are drawn outside of XLA, which would take twenty times as long: by the same generator from the
    same state as in Keras' fit, so that they are the same.
    """
    images = tf.constant(data.training.scaled())
    targets = tf.constant(data.targets(data.training.targets))
    weights = tf.constant(data.training_weights())
    validation = [tf.constant(array) for array in validation_batches]
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout) and layer.rate]
    deform = data.deformation.apply if data.deformation else lambda images, factors: images

    def draw(count: Any, steps: int, size: int) -> list[Any]:
        return [_masks(layer, count, steps, size) for layer in dropouts]

    def train(images: Any, targets: Any, weights: Any, chosen: Any, factors: Any, count: Any, masks: list[Any]) -> Any:
        steps, size = chosen.shape

        def step(number: Any, losses: Any) -> tuple[Any, Any]:
            own = chosen[number]
            seen = deform(tf.gather(images, own), factors[number])
            batch = seen, tf.gather(targets, own), tf.gather(weights, own) / size
            with _given(dropouts, [mask[number] for mask in masks]), _summed_by_rows(model):
                logs = model.train_step(batch)
            return number + 1, losses.write(number, logs["loss"])

        losses = tf.TensorArray(tf.float32, steps)
        return tf.while_loop(lambda number, _: number < count, step, (0, losses), parallel_iterations=1)[1].stack()

    drawn, fused = tf.function(draw, autograph=False), tf.function(train, autograph=False, jit_compile=True)
    one_step, test = (tf.function(one, autograph=False) for one in (model.train_step, model.test_step))

    def validate() -> None:
        for start in range(0, len(validation_batches[0]), data.validation_batch):
            test(tuple(array[start : start + data.validation_batch] for array in validation))

    def compute(chosen: NDArray[np.int32], factors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        if len(chosen) == 1:  # not worth compiling
            seen = deform(tf.gather(images, chosen[0]), factors[0])
            batch = seen, tf.gather(targets, chosen[0]), tf.gather(weights, chosen[0]) / chosen.shape[1]
            return np.array([one_step(batch)["loss"]])
        masks = drawn(tf.constant(count), *chosen.shape)
        losses = fused(images, targets, weights, tf.constant(chosen), tf.constant(factors), tf.constant(count), masks)
        return np.array(losses)[:count]

    return compute, validate


def _masks(layer: keras.layers.Dropout, count: Any, steps: int, size: int) -> Any:
    """Which of its inputs the layer keeps in the next `count` steps, bool (steps, size, …), the rest False; its
    generator is moved on."""
    state = layer.seed_generator.state
    first = state.value
    shape = (size, *layer.input.shape[1:])

    def mask(number: Any) -> Any:
        seed = tf.cast(tf.math.floormod(first + tf.stack([0, number]), tf.int32.max - 1), tf.int32)
        return tf.random.stateless_uniform(shape, seed, dtype=layer.compute_dtype) >= layer.rate

    masks = tf.map_fn(mask, tf.range(count, dtype=first.dtype), fn_output_signature=tf.bool)
    state.assign(first + tf.stack([0, tf.cast(count, first.dtype)]))
    padded = tf.pad(masks, [(0, steps - count), *[(0, 0)] * len(shape)])
    return tf.ensure_shape(padded, (steps, *shape))


@contextmanager
def _given(dropouts: list[keras.layers.Dropout], masks: list[Any]) -> Iterator[None]:
    """Let each layer keep what its mask says, as it would what it draws itself."""
    for layer, mask in zip(dropouts, masks, strict=True):
        layer.call = _keeping(mask, 1 / (1 - layer.rate))
    try:
        yield
    finally:
        for layer in dropouts:
            del layer.call


@contextmanager
def _summed_by_rows(model: keras.Sequential) -> Iterator[None]:
    """Let the L2 penalties be sums of the rows' sums: one sum of all weights XLA adds up number by number on a CPU, as
    slow as a layer."""
    kernels = [
        variable for variable in model.trainable_variables if type(variable.regularizer) is keras.regularizers.L2
    ]
    penalties = [variable.regularizer for variable in kernels]
    for variable, penalty in zip(kernels, penalties, strict=True):
        variable.regularizer = _penalty(penalty.l2)
    try:
        yield
    finally:
        for variable, penalty in zip(kernels, penalties, strict=True):
            variable.regularizer = penalty


def _penalty(factor: float) -> Callable[[Any], Any]:
    def penalty(kernel: Any) -> Any:
        rows = tf.reshape(tf.square(kernel), (-1, kernel.shape[-1]))
        return factor * tf.reduce_sum(tf.linalg.matvec(rows, tf.ones(kernel.shape[-1])))

    return penalty


def _keeping(mask: Any, scale: float) -> Callable[..., Any]:
    return lambda inputs, training=False: tf.where(mask, inputs * scale, tf.zeros_like(inputs))
