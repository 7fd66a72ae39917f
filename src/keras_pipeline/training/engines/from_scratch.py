"""A network written out in NumPy: all that it takes to train one, to be read from top to bottom.

A network is a chain of layers 1 … L. The images of a batch are the rows of A_0, (n, pixels); layer l computes

    Z_l = A_(l-1) W_l + b_l         (n, units), with W_l (units of layer l-1, units of layer l) and b_l (units,)
    A_l = f_l(Z_l)                  (n, units), with the activation f_l

and A_L, (n, classes), is the network's answer. The loss C is one number that says how far the answer is from the
targets T, (n, classes), which are 1 at the right class and 0 elsewhere. Training goes downhill on C: it asks how C
changes with every weight, and moves each a little the other way. One walk from the last layer back to the first
answers that for all weights. With E_l = ∂C/∂Z_l, the error of layer l, the chain rule says

    (1)  E_L     = ∂C/∂A_L · f_L'(Z_L)              how the loss changes with what the last layer computed
    (2)  E_(l-1) = (E_l W_lᵀ) · f_(l-1)'(Z_(l-1))   the same, one layer before
    (3)  ∂C/∂b_l = the sum of the rows of E_l
    (4)  ∂C/∂W_l = A_(l-1)ᵀ E_l

where · goes number by number; softmax, whose outputs depend on each other, has a sum there: see BACK. These are BP1
to BP4 of Michael Nielsen, Neural Networks and Deep Learning (2015), chapter 2, with an image as a row instead of a
column, and all images of a batch at once: so they are products of matrices. Losses, L2 and momentum are defined as in
Keras, and the numbers are Keras' up to rounding.

Arrays are float32 in a training; every function keeps the type that it is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass
class Layer:
    """A dense layer: its weights W (units before, units) and biases b (units,), which training changes in place, the
    name of its activation, and the factor `l2` of its squared weights in the loss."""

    weights: Array
    biases: Array
    activation: str
    l2: float = 0.0


@dataclass
class Network:
    """Layers 1 … L, and the name of the loss that they are trained by."""

    layers: list[Layer]
    loss: str

    @property
    def parameters(self) -> list[Array]:
        """All that is trained, in this order: W_1, b_1, W_2, b_2, …"""
        return [array for layer in self.layers for array in (layer.weights, layer.biases)]


# Activations: forward from Z to A = f(Z), and back from ∂C/∂A to ∂C/∂Z. All these can be told from A, so that Z need
# not be kept for the way back.
def sigmoid(z: Array) -> Array:
    """1 / (1 + e⁻ᶻ), which is between 0 and 1."""
    with np.errstate(over="ignore"):  # where e⁻ᶻ is too large for a number, 1 / ∞ = 0 is right
        return np.asarray(1 / (1 + np.exp(-z)))


def log_softmax(z: Array) -> Array:
    """z - log Σ eᶻ of each row: the logarithm of `softmax`, finite even where softmax is rounded to 0.

    The same number taken from all of a row changes nothing, and with 0 as the highest no eᶻ is too large.
    """
    shifted = z - z.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def softmax(z: Array) -> Array:
    """eᶻ / Σ eᶻ of each row: a probability for each class."""
    return np.asarray(np.exp(log_softmax(z)))


FORWARD: dict[str, Callable[[Array], Array]] = {
    "linear": lambda z: z,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "softmax": softmax,
}
"""A of Z."""
BACK: dict[str, Callable[[Array, Array], Array]] = {
    "linear": lambda a, slope: slope,
    "sigmoid": lambda a, slope: slope * a * (1 - a),
    "tanh": lambda a, slope: slope * (1 - a * a),
    "relu": lambda a, slope: slope * (a > 0),
    # Each answer depends on every z of its row: ∂a_j/∂z_k = a_j (δ_jk - a_k).
    "softmax": lambda a, slope: a * (slope - (slope * a).sum(axis=1, keepdims=True)),
}
"""∂C/∂Z of A and `slope`, which is ∂C/∂A."""


def forward(network: Network, images: Array) -> tuple[list[Array], Array]:
    """A_0 … A_L for images (n, pixels); and Z_L, from which one of the losses is computed."""
    activations = [images]
    for layer in network.layers:
        z = activations[-1] @ layer.weights + layer.biases
        activations.append(FORWARD[layer.activation](z))
    return activations, z


# Losses, over n images and K classes. L2 adds l2 · Σ W² of the layers that have it, which pulls their weights to 0.
#
#     categorical_crossentropy   C = -1/n Σ T log A        ∂C/∂A = -1/n T / A
#     mean_squared_error         C = 1/nK Σ (A - T)²       ∂C/∂A = 2/nK (A - T)
#     mean_absolute_error        C = 1/nK Σ |A - T|        ∂C/∂A = 1/nK sign(A - T)
def loss(network: Network, z: Array, outputs: Array, targets: Array) -> float:
    """C of a batch: `z` is Z_L, `outputs` is A_L."""
    if network.loss == "categorical_crossentropy":
        distance = -(targets * log_softmax(z)).sum() / len(targets)
    elif network.loss == "mean_squared_error":
        distance = np.square(outputs - targets).mean()
    else:
        distance = np.abs(outputs - targets).mean()
    return float(distance + sum(layer.l2 * np.square(layer.weights).sum() for layer in network.layers if layer.l2))


def output_error(network: Network, outputs: Array, targets: Array) -> Array:
    """E_L of a batch: equation (1)."""
    if network.loss == "categorical_crossentropy":
        return np.asarray((outputs - targets) / len(targets))  # what is left of -1/n T / A on its way through softmax
    if network.loss == "mean_squared_error":
        slope = 2 * (outputs - targets) / targets.size
    else:
        slope = np.sign(outputs - targets) / targets.size
    return BACK[network.layers[-1].activation](outputs, slope)


def backpropagation(network: Network, images: Array, targets: Array) -> tuple[list[Array], float, Array]:
    """How C changes with each of the network's parameters, in their order, for one batch; C itself, and A_L."""
    activations, z = forward(network, images)
    outputs = activations[-1]
    error = output_error(network, outputs, targets)
    gradients: list[Array] = []
    for number in reversed(range(len(network.layers))):
        layer, inputs = network.layers[number], activations[number]
        weights, biases = inputs.T @ error, error.sum(axis=0)  # equations (4) and (3)
        if layer.l2:
            weights += 2 * layer.l2 * layer.weights
        gradients = [weights, biases, *gradients]
        if number > 0:
            error = BACK[network.layers[number - 1].activation](inputs, error @ layer.weights.T)  # equation (2)
    return gradients, loss(network, z, outputs, targets), outputs


def descend(
    network: Network, velocities: Sequence[Array], gradients: Sequence[Array], rate: float, momentum: float
) -> None:
    """Move each parameter downhill: V ← momentum · V - rate · ∂C/∂W, then W ← W + V.

    V, one for each parameter and 0 at first, is a velocity: like a ball that rolls downhill, a weight gathers speed
    where the slope stays the same, and passes over small bumps. Without momentum, W ← W - rate · ∂C/∂W is left.
    """
    for parameter, velocity, gradient in zip(network.parameters, velocities, gradients, strict=True):
        velocity *= momentum
        velocity -= rate * gradient
        parameter += velocity


def right_answers(outputs: Array, targets: Array) -> int:
    """Of how many images the right class has the highest output."""
    return int((outputs.argmax(axis=1) == targets.argmax(axis=1)).sum())


def step(
    network: Network, velocities: Sequence[Array], images: Array, targets: Array, rate: float, momentum: float
) -> tuple[float, int]:
    """Train on one batch; its loss and right answers as they were before. A training is this for every batch of an
    epoch, in an order that chance has chosen, and epoch after epoch."""
    gradients, before, outputs = backpropagation(network, images, targets)
    descend(network, velocities, gradients, rate, momentum)
    return before, right_answers(outputs, targets)


def evaluate(network: Network, images: Array, targets: Array) -> tuple[float, int]:
    """The loss and the right answers of images that nothing is learned from."""
    activations, z = forward(network, images)
    return loss(network, z, activations[-1], targets), right_answers(activations[-1], targets)
