"""The losses by their names in params.yaml, as Keras computes them: in training, and of a network's answers."""

from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

LOSSES = {
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "mean_squared_error": keras.losses.MeanSquaredError,
    "mean_absolute_error": keras.losses.MeanAbsoluteError,
}


def make_loss(name: str, reduction: Literal["sum", "none"]) -> keras.losses.Loss:
    """Keras' loss of this name: the sum over the batch, or the loss of each of its inputs."""
    return LOSSES[name](reduction=reduction)


def logits_and_outputs(model: keras.Sequential) -> keras.Model:
    """The network that gives two things, float32 (n, outputs) each: its logits, which are what its output layer has
    before the activation, and its outputs. It shares the layers with `model`, which from now on gives the logits."""
    activation, model.layers[-1].activation = model.layers[-1].activation, keras.activations.linear
    outputs = keras.layers.Activation(activation, dtype="float32", name="outputs")(model.outputs[0])
    return keras.Model(model.inputs, [model.outputs[0], outputs])


def loss_of_each(
    name: str, output_activation: str, logits: NDArray[np.floating[Any]], targets: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The loss of each input, float64 (n,), without penalties; `logits`, `targets`: (n, outputs). Their mean is what
    `model.evaluate` reports.

    Keras on TensorFlow takes a cross-entropy from the logits behind softmax and sigmoid (keras/src/backend/tensorflow/
    nn.py, _get_logits), of which the outputs say nothing any more where float32 has rounded them to 0 or 1. So Keras is
    given outputs that know their logits here too.
    """
    outputs = keras.activations.get(output_activation)(keras.ops.convert_to_tensor(logits))
    return np.asarray(keras.ops.convert_to_numpy(make_loss(name, "none")(targets, outputs)), np.float64)
