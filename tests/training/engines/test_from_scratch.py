"""The network written out in NumPy against finite differences and closed forms."""

import dataclasses
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from keras_pipeline.training.engines import from_scratch
from keras_pipeline.training.engines.from_scratch import Layer, Network
from numpy_params import ACTIVATIONS, HEADS

SIZES = (6, 5, 4, 3)


def network(loss: str, output: str, activation: str, sizes: tuple[int, ...] = SIZES, l2: float = 0.0) -> Network:
    """Random weights and biases in float64; L2 on all layers but the last, as in the pipeline."""
    chance = np.random.default_rng(len(loss) + 7 * len(activation))
    layers = [
        Layer(chance.normal(size=pair), chance.normal(size=pair[1]), activation, l2)
        for pair in itertools.pairwise(sizes)
    ]
    layers[-1] = dataclasses.replace(layers[-1], activation=output, l2=0.0)
    return Network(layers, loss)


def batch(images: int = 7, pixels: int = SIZES[0], classes: int = SIZES[-1]) -> tuple[Any, Any]:
    chance = np.random.default_rng(3)
    return chance.normal(size=(images, pixels)), np.eye(classes)[chance.integers(classes, size=images)]


def loss_of(one: Network, images: Any, targets: Any) -> float:
    return from_scratch.evaluate(one, images, targets)[0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("loss", "output"), HEADS)
@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_gradients_are_finite_differences(loss: str, output: str, activation: str, l2: float) -> None:
    one = network(loss, output, activation, l2=l2)
    images, targets = batch()
    gradients, value, outputs = from_scratch.backpropagation(one, images, targets)
    assert value == loss_of(one, images, targets)
    assert outputs.shape == targets.shape
    small_step = 1e-6
    for parameter, gradient in zip(one.parameters, gradients, strict=True):
        assert gradient.shape == parameter.shape
        for place in np.ndindex(parameter.shape):
            before = parameter[place]
            parameter[place] = before + small_step
            above = loss_of(one, images, targets)
            parameter[place] = before - small_step
            below = loss_of(one, images, targets)
            parameter[place] = before
            assert gradient[place] == pytest.approx((above - below) / (2 * small_step), rel=1e-5, abs=1e-8)


def test_a_network_without_hidden_layer_has_the_gradient_of_the_textbook() -> None:
    one = network("categorical_crossentropy", "softmax", "linear", sizes=(6, 3))
    images, targets = batch()
    (weights, biases), value, outputs = from_scratch.backpropagation(one, images, targets)
    np.testing.assert_allclose(weights, images.T @ (outputs - targets) / 7, rtol=1e-12)
    np.testing.assert_allclose(biases, (outputs - targets).mean(axis=0), rtol=1e-12)
    assert value == pytest.approx(-np.log(outputs[targets == 1]).mean(), rel=1e-12)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-12)


def test_losses_are_means_over_images_and_classes() -> None:
    z, outputs = np.zeros((2, 4)), np.full((2, 4), 0.25)
    targets = np.eye(4)[[0, 3]]
    expected = {
        "categorical_crossentropy": np.log(4),
        "mean_squared_error": (0.75**2 + 3 * 0.25**2) / 4,
        "mean_absolute_error": (0.75 + 3 * 0.25) / 4,
    }
    for name, value in expected.items():
        penalized = Network(
            [Layer(np.full((2, 3), 2.0), np.ones(3), "linear", l2=0.5), network(name, "x", "x").layers[-1]], name
        )
        assert from_scratch.loss(penalized, z, outputs, targets) == pytest.approx(value + 0.5 * 6 * 4, rel=1e-12)
    assert from_scratch.right_answers(np.array([[1, 2, 0, 0], [4, 3, 2, 1]]), targets) == 0
    assert from_scratch.right_answers(np.array([[3, 2, 0, 0], [0, 3, 2, 4]]), targets) == 2


def test_no_number_is_too_large() -> None:
    """Warnings are errors here."""
    z = np.array([[-1e4, 0.0, 1e4]], np.float32)
    np.testing.assert_array_equal(from_scratch.sigmoid(z), [[0, 0.5, 1]])
    np.testing.assert_array_equal(from_scratch.softmax(z), [[0, 0, 1]])
    np.testing.assert_array_equal(from_scratch.log_softmax(z), [[-2e4, -1e4, 0]])
    assert from_scratch.softmax(z).dtype == np.float32


def test_momentum_is_a_running_sum_of_gradients() -> None:
    """After steps with gradients g1, g2: V = -rate (momentum g1 + g2), and W has moved by both V."""
    one = Network([Layer(np.zeros((1, 1)), np.zeros(1), "linear")], "mean_squared_error")
    velocities = [np.zeros_like(parameter) for parameter in one.parameters]
    for gradient in (2.0, 10.0):
        from_scratch.descend(one, velocities, [np.full((1, 1), gradient), np.full(1, gradient)], 0.1, 0.5)
    for parameter, velocity in zip(one.parameters, velocities, strict=True):
        assert velocity.item() == pytest.approx(-0.1 * (0.5 * 2 + 10))
        assert parameter.item() == pytest.approx(-0.1 * 2 - 0.1 * (0.5 * 2 + 10))


@pytest.mark.own_processes
def test_steps_learn_without_any_framework() -> None:
    """In a process of its own: nothing else is imported, and the loss of a batch falls as far as it can."""
    program = """
import sys
import numpy as np
from keras_pipeline.training.engines import from_scratch
from keras_pipeline.training.engines.from_scratch import Layer, Network
chance = np.random.default_rng(1)
layers = [Layer(chance.normal(size=(20, 16)) / 4, np.zeros(16), "relu"),
          Layer(chance.normal(size=(16, 4)) / 4, np.zeros(4), "softmax")]
network = Network(layers, "categorical_crossentropy")
images, targets = chance.normal(size=(12, 20)), np.eye(4)[np.arange(12) % 4]
velocities = [np.zeros_like(one) for one in network.parameters]
steps = [from_scratch.step(network, velocities, images, targets, 0.1, 0.9) for _ in range(100)]
print(steps[0][0] > 1, steps[-1][0] < 0.01, steps[-1][1] == 12)
print({"keras", "tensorflow", "jax", "torch"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True True True\nset()\n"
