"""The fit with the network of `from_scratch`: NumPy computes the steps, and all around them is as in any training.

The Keras network and its optimizer hold the numbers whenever somebody looks: some steps take them from there, and put
back what became of them. So first weights, learning rates, checkpoints, the diagnosis and the file of the trained
network need no second way. Batches and their order are those of Keras' fit too.
"""

import time
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_pipeline.distribution import fit_loop
from keras_pipeline.training.batches import Batch
from keras_pipeline.training.compilation import learning_rates
from keras_pipeline.training.engines import from_scratch
from keras_pipeline.training.engines.from_scratch import Layer, Network
from keras_pipeline.training.training import Training


def numpy_steps(training: Training, start: tuple[int, int], look: int) -> fit_loop.Steps:
    """The steps of the network, which is compiled with SGD, from `start` on, a step of an epoch, both counted from 0;
    and its validation, both for `fit_loop.run_epochs`.

    Never beyond a multiple of `look` (0: of none in particular), nor longer than fit_loop.LONGEST seconds; the logs
    hold the "losses" of all of them.
    """
    model, strategy, data, loss = training.model, training.strategy, training.data, training.params.train.loss
    batches = data.batches(strategy, *start)

    def train(epoch: int, step: int) -> tuple[int, fit_loop.Logs]:
        network, velocities = _network(model, loss), _velocities(model)
        rates, momentum, means = learning_rates(model.optimizer), model.optimizer.momentum, _Means(model)
        losses: list[np.float32] = []
        until = time.perf_counter() + fit_loop.LONGEST
        with np.errstate(all="ignore"):  # what overflows is seen by its loss
            while True:
                images, targets = _flat(next(batches))
                trained = from_scratch.step(network, velocities, images, targets, next(rates), momentum)
                losses.append(means.add(len(images), *trained))
                done = step + len(losses)
                if done == data.steps or (look and done % look == 0) or time.perf_counter() > until:
                    break
        _assign(model.trainable_variables, network.parameters)
        _assign(model.optimizer.momentums, velocities if momentum else [])
        model.optimizer.iterations.assign_add(len(losses))
        means.keep()
        return len(losses), {"loss": losses[-1], "losses": losses}

    def validate() -> None:
        network, means, images = _network(model, loss), _Means(model), len(data.validation.targets)
        with np.errstate(all="ignore"):
            for start in range(0, images, data.validation_batch):
                indices = np.arange(start, min(start + data.validation_batch, images))
                seen, targets = _flat(data.share(data.validation, indices, data.weights, strategy))
                means.add(len(seen), *from_scratch.evaluate(network, seen, targets))
        means.keep()

    return train, validate


class _Means:
    """Loss and accuracy over the epoch so far: the network's own metrics, which are sums and what divides them."""

    def __init__(self, model: keras.Sequential) -> None:
        self.variables = model.metrics_variables
        self.loss, self.seen, self.right, _ = (np.float32(_array(one)) for one in self.variables)

    def add(self, images: int, loss: float, right: int) -> np.float32:
        """Count so many images with this loss and so many right answers; the mean of the loss."""
        self.loss += np.float32(loss) * np.float32(images)
        self.seen += np.float32(images)
        self.right += np.float32(right)
        return np.float32(self.loss / self.seen)

    def keep(self) -> None:
        """Put the sums back."""
        _assign(self.variables, [self.loss, self.seen, self.right, self.seen])


def _network(model: keras.Sequential, loss: str) -> Network:
    """A copy of the weights, with what is computed with them."""
    layers: list[Layer] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            l2 = layer.kernel_regularizer.l2 if layer.kernel_regularizer else 0.0
            layers.append(Layer(_array(layer.kernel), _array(layer.bias), layer.activation.__name__, l2))
        elif isinstance(layer, keras.layers.Activation):
            layers[-1].activation = layer.activation.__name__
    return Network(layers, loss)


def _velocities(model: keras.Sequential) -> list[NDArray[np.float32]]:
    """A copy of SGD's momentums, or zeros where it has none."""
    kept = [_array(one) for one in model.optimizer.momentums]
    return kept or [np.zeros(one.shape, np.float32) for one in model.trainable_variables]


def _flat(batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Images (n, pixels) and targets (n, classes)."""
    images, targets, _ = batch
    return images.reshape(len(images), -1), targets


def _array(variable: Any) -> NDArray[np.float32]:
    return np.array(keras.ops.convert_to_numpy(variable))


def _assign(variables: list[Any], arrays: list[Any]) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
