"""A fit that computes many steps as one compiled program, over images that lie on the device.

Between two steps Keras' fit cuts a batch, calls the framework, and asks for the metrics: more work than a step of a
dense network is itself. Here a program gets the numbers of the images of many batches, and gives the loss after each.
Batches, their order, Dropout's masks, callbacks and metrics are those of the fit step by step; results differ from
its by the rounding of float32, because a compiler fuses what was computed one after the other.
"""

import math
import time

import keras
import numpy as np
from numpy.typing import NDArray

from keras_pipeline.distribution import fit_loop
from keras_pipeline.distribution.strategies import OpenedStrategy
from keras_pipeline.models import frameworks
from keras_pipeline.training.batches import Data, batch_order
from keras_pipeline.training.training import Training

MOST_STEPS = 64
"""How many steps are one program: enough that what is between two programs does not count."""
MOST_BYTES = 4 * 2**30
"""How large the scaled images and their targets may be that are held on the device, and a quarter of the memory at
most: of the machine's, and of the device's own, where the backend tells it."""
LEAST_MEMORY = 1700 * 10**6
"""Where the process may have less memory, it is not spent on the compilation of such programs."""
MOST_NOISE = 2**26
"""How many random numbers are drawn ahead, for the steps of one program."""


def can_fuse(model: keras.Sequential, strategy: OpenedStrategy, data: Data) -> bool:
    """Whether this network trains faster so, and its images fit on the device.

    On a CPU, XLA's convolutions are much slower than TensorFlow's.
    """
    convolutions = any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    slower = convolutions and strategy.devices[0].startswith("/cpu")
    limits = [frameworks.memory_limit()]
    if own := frameworks.device_memory(keras.backend.backend()):
        limits.append(own)
    roomy = limits[0] >= LEAST_MEMORY
    return strategy.fused and not slower and roomy and data.held_bytes <= min(MOST_BYTES, min(limits) // 4)


def fused_steps(training: Training, look: int) -> fit_loop.Steps:
    """The steps and the validation of Keras' fit, for `fit_loop.run_epochs`, many steps at a time.

    Never beyond a multiple of `look` (0: of none in particular), nor longer than half a second or MOST_STEPS; the logs
    hold the "losses" of all of them.
    """
    if keras.backend.backend() == "jax":
        from keras_pipeline.training.engines.fused_jax import build_program
    else:
        from keras_pipeline.training.engines.fused_tensorflow import build_program

    model, data = training.model, training.data
    size, count = data.batch_size, len(data.training.targets)
    whole = count // size
    together = max(1, min(MOST_STEPS, whole, MOST_NOISE // max(1, size * _noise(model))))
    compute, validate = build_program(model, data, data.validation_batches(training.strategy).arrays())
    order: tuple[int, NDArray[np.int32]] = -1, np.empty(0, np.int32)
    pace = 1

    def train(epoch: int, step: int) -> tuple[int, fit_loop.Logs]:
        nonlocal order, pace
        if epoch != order[0]:
            order = epoch, batch_order(count, data.seed, epoch).astype(np.int32)
        began = time.perf_counter()
        if step == whole:  # what is left makes a smaller batch
            steps = 1
            images = order[1][np.newaxis, whole * size :]
        else:
            steps = min(together, pace, whole - step, look - step % look if look else together)
            images = np.zeros((together, size), np.int32)
            images[:steps] = order[1][step * size : (step + steps) * size].reshape(steps, size)
        losses = compute(images, draw_deformations(data, epoch, step, steps, images.shape), steps)
        pace = max(1, int(fit_loop.LONGEST * steps / (time.perf_counter() - began)))
        return steps, {"loss": losses[-1], "losses": losses}

    return train, validate


def draw_deformations(data: Data, epoch: int, step: int, steps: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """How the images of the next `steps` are deformed, the rest of `shape` (steps, batch) being zeros: (*shape, 2,
    terms), of no terms where there is no deformation."""
    if data.deformation is None:
        return np.zeros((*shape, 2, 0), np.float32)
    drawn = np.zeros((*shape, 2, len(data.deformation.terms)), np.float32)
    for number in range(steps):
        drawn[number] = data.deformation.draw(epoch, step + number, shape[1])
    return drawn


def _noise(model: keras.Sequential) -> int:
    """How many random numbers an image needs."""
    layers = (layer for layer in model.layers if isinstance(layer, keras.layers.Dropout))
    return sum(math.prod(layer.output.shape[1:]) for layer in layers)
