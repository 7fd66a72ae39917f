"""Layers and activations against Keras'."""

import random
from typing import get_args

import pytest

from keras_pipeline.config import layers, params
from keras_pipeline.models import architectures
from random_layers import IMAGE, MODEL, random_layers

pytestmark = pytest.mark.slow


def test_shapes_and_weights_are_those_of_keras() -> None:
    chance = random.Random(0)
    for _ in range(40):
        hidden = random_layers(chance)
        model = params.Model(**{**MODEL, "layers": tuple(hidden)})
        network = architectures.build_network(model, IMAGE, 10)
        expected = layers.shapes(hidden, IMAGE)
        assert [layer.output.shape[1:] for layer in network.layers] == [*expected[1:], (10,)]
        output_weights = (expected[-1][0] + 1) * 10
        assert network.count_params() == layers.weight_count(hidden, IMAGE) + output_weights
        # Arguments reach Keras: what was asked for is what the layer says of itself.
        for ours, theirs in zip(hidden, network.layers, strict=False):
            config = theirs.get_config()
            for key in ("strides", "kernel_size", "pool_size"):
                if getattr(ours, key, None) is not None:
                    assert config[key] == (getattr(ours, key),) * 2
            for key in ("padding", "use_bias", "rate", "momentum", "epsilon", "activation"):
                assert config.get(key) == getattr(ours, key, config.get(key))
            regularizer = config.get("kernel_regularizer")
            assert (regularizer["config"]["l2"] if regularizer else 0) == pytest.approx(getattr(ours, "l2", 0))


def test_activations_are_those_of_keras() -> None:
    import keras

    for name in get_args(layers.Activation):
        assert callable(getattr(keras.activations, name))
        assert keras.activations.serialize(keras.activations.get(name)) == name
