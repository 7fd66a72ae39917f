import math
import random
from typing import Any

import pytest

from keras_pipeline.config import layers, params
from keras_pipeline.config.layers import (
    Activate,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Layer,
    MaxPooling2D,
    Shape,
)
from keras_pipeline.models import architectures

IMAGE = (28, 28, 1)
MODEL: dict[str, Any] = {
    "architecture": "layers",
    "hidden_units": (10,),
    "filters": (4,),
    "activation": "relu",
    "dropout": 0.5,
    "batch_normalization": True,
    "l2": 0.0,
    "output_activation": "softmax",
    "layers": (),
}


@pytest.mark.parametrize(
    ("layer", "before", "after", "weights"),
    [
        (Flatten(), (28, 28, 1), (784,), 0),
        (Flatten(), (3, 4, 5), (60,), 0),
        (Flatten(), (7,), (7,), 0),
        (Dense(units=512), (784,), (512,), 401_920),
        (Dense(units=512, use_bias=False), (784,), (512,), 401_408),
        (Dropout(rate=0.3), (5, 5, 2), (5, 5, 2), 0),
        (Activate(activation="relu"), (5,), (5,), 0),
        (BatchNormalization(), (512,), (512,), 2048),
        (BatchNormalization(), (5, 5, 3), (5, 5, 3), 12),
        # 3 × 3 × 1 × 8 + 8
        (Conv2D(filters=8, kernel_size=3), (28, 28, 1), (26, 26, 8), 80),
        (Conv2D(filters=8, kernel_size=3, padding="same"), (28, 28, 1), (28, 28, 8), 80),
        (Conv2D(filters=4, kernel_size=5, strides=2, use_bias=False), (28, 28, 3), (12, 12, 4), 300),
        (Conv2D(filters=4, kernel_size=5, strides=3, padding="same"), (28, 28, 3), (10, 10, 4), 304),
        (Conv2D(filters=2, kernel_size=28), (28, 28, 1), (1, 1, 2), 1570),
        (MaxPooling2D(), (28, 28, 6), (14, 14, 6), 0),
        (MaxPooling2D(), (7, 7, 6), (3, 3, 6), 0),
        (MaxPooling2D(padding="same"), (7, 7, 6), (4, 4, 6), 0),
        (MaxPooling2D(pool_size=3, strides=1), (7, 7, 6), (5, 5, 6), 0),
        (AveragePooling2D(pool_size=3), (7, 9, 6), (2, 3, 6), 0),
        (GlobalAveragePooling2D(), (3, 4, 5), (5,), 0),
    ],
)
def test_one_layer(layer: Layer, before: Shape, after: Shape, weights: int) -> None:
    assert layer.output_shape(before) == after
    assert layer.weights(before) == weights
    assert layers.shapes([layer], before) == [before, after]
    assert layers.weight_count([layer], before) == weights


def test_lenet_by_hand() -> None:
    lenet = [
        Conv2D(filters=6, kernel_size=5, padding="same"),
        AveragePooling2D(),
        Conv2D(filters=16, kernel_size=5),
        AveragePooling2D(),
        Flatten(),
        Dense(units=120),
        Dense(units=84),
    ]
    assert layers.shapes(lenet, IMAGE) == [
        (28, 28, 1), (28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16), (400,), (120,), (84,)
    ]  # fmt: skip
    assert layers.weight_count(lenet, IMAGE) == 156 + 2416 + 48_120 + 10_164


def test_no_layers() -> None:
    assert layers.shapes([], IMAGE) == [IMAGE]
    assert layers.weight_count([], IMAGE) == 0


@pytest.mark.parametrize(
    ("layer", "before", "message"),
    [
        (Dense(units=3), (28, 28, 1), "Dense needs a flat input, but gets 28 × 28 × 1. "
         "Put {layer: Flatten} or {layer: GlobalAveragePooling2D} before it."),
        (Conv2D(filters=3, kernel_size=2), (784,), "Conv2D needs (height, width, channels), but gets 784 values. "
         "Put it before Flatten."),
        (GlobalAveragePooling2D(), (784,), "GlobalAveragePooling2D needs (height, width, channels), "
         "but gets 784 values. Put it before Flatten."),
        (Conv2D(filters=3, kernel_size=5), (9, 4, 1), "Conv2D with a window of 5 does not fit into 9 × 4 × 1. "
         "Use a smaller window, padding: same, or fewer layers before it."),
        (MaxPooling2D(), (1, 1, 8), "MaxPooling2D with a window of 2 does not fit into 1 × 1 × 8. "
         "Use a smaller window, padding: same, or fewer layers before it."),
    ],
)  # fmt: skip
def test_a_layer_that_cannot_take_its_input(layer: Layer, before: Shape, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        layer.output_shape(before)
    assert str(refused.value) == message


def test_training_memory_by_hand() -> None:
    network = [Flatten(), Dense(units=10)]
    # 7850 weights, four times; 784 + 784 + 10 values, twice for each image of the batch; four bytes each.
    assert layers.training_memory(network, IMAGE, 32) == 4 * (4 * 7850 + 2 * 32 * 1578)


def test_architectures_give_what_their_names_say() -> None:
    model = params.Model(**{**MODEL, "architecture": "mlp", "hidden_units": (20, 10)})
    kinds = [type(layer) for layer in architectures.hidden_layers(model)]
    assert kinds == [Flatten, *[Dense, BatchNormalization, Activate, Dropout] * 2]
    assert layers.shapes(architectures.hidden_layers(model), IMAGE)[-1] == (10,)

    plain = params.Model(**{**MODEL, "architecture": "mlp", "dropout": 0.0, "batch_normalization": False, "l2": 0.1})
    hidden = architectures.hidden_layers(plain)
    assert hidden == [Flatten(), Dense(units=10, use_bias=True, l2=0.1), Activate(activation="relu")]

    cnn = params.Model(**{**MODEL, "architecture": "cnn", "filters": (4, 8, 16, 32)})
    hidden = architectures.hidden_layers(cnn)
    # 28 → 14 → 7 → 3 → 1: four poolings are the most that the images allow.
    assert (1, 1, 32) in layers.shapes(hidden, IMAGE)
    assert [layer.rate for layer in hidden if isinstance(layer, Dropout)] == [0.25] * 4 + [0.5]
    assert not any(layer.use_bias for layer in hidden if isinstance(layer, Conv2D | Dense))

    regression = params.Model(**{**MODEL, "architecture": "softmax_regression"})
    assert architectures.hidden_layers(regression) == [Flatten()]


def random_layers(chance: random.Random) -> list[Layer]:
    """Up to nine layers that fit behind each other and end flat."""
    found: list[Layer] = []
    shape: Shape = IMAGE
    for _ in range(chance.randint(0, 8)):
        layer = chance.choice(CANDIDATES)(chance)
        try:
            shape = layer.output_shape(shape)
        except ValueError:
            continue
        # Small networks only: what is tested is arithmetic.
        if math.prod(shape) <= 20_000:
            found.append(layer)
        else:
            shape = layers.shapes(found, IMAGE)[-1]
    if len(shape) == 3:
        found.append(chance.choice([Flatten(), GlobalAveragePooling2D()]))
    return found


PADDINGS = ("valid", "same")
ACTIVATIONS = ("linear", "relu", "gelu", "leaky_relu", "hard_sigmoid")
CANDIDATES = [
    lambda chance: Dense(
        units=chance.randint(1, 40), activation=chance.choice(ACTIVATIONS), use_bias=chance.random() < 0.5
    ),
    lambda chance: Dropout(rate=chance.random()),
    lambda chance: BatchNormalization(momentum=0.5),
    lambda chance: Activate(activation=chance.choice(ACTIVATIONS)),
    lambda chance: Flatten(),
    *[
        lambda chance: Conv2D(
            filters=chance.randint(1, 12),
            kernel_size=chance.randint(1, 9),
            strides=chance.randint(1, 4),
            padding=chance.choice(PADDINGS),
            use_bias=chance.random() < 0.5,
            l2=chance.choice([0.0, 0.1]),
        )
    ]
    * 3,
    *[
        lambda chance: chance.choice([MaxPooling2D, AveragePooling2D])(
            pool_size=chance.randint(1, 6),
            strides=chance.choice([None, 1, 2, 3]),
            padding=chance.choice(PADDINGS),
        )
    ]
    * 2,
    lambda chance: GlobalAveragePooling2D(),
]


def test_the_random_networks_differ() -> None:
    chance = random.Random(0)
    samples = [random_layers(chance) for _ in range(40)]
    used = {type(layer) for sample in samples for layer in sample}
    assert len(used) == 9
    assert len({layers.weight_count(sample, IMAGE) for sample in samples}) > 20


@pytest.mark.slow
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
