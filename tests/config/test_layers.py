"""Layers: their shapes, weights and memory by hand, and which cannot take their input."""

import random

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
from random_layers import IMAGE, MODEL, random_layers


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

    pooled = cnn.model_copy(update={"global_average_pooling": True})
    assert [GlobalAveragePooling2D() if one == Flatten() else one for one in hidden] == architectures.hidden_layers(
        pooled
    )
    assert len({layers.weight_count(architectures.hidden_layers(pooled), (side, side, 3)) for side in (32, 96)}) == 1

    regression = params.Model(**{**MODEL, "architecture": "softmax_regression"})
    assert architectures.hidden_layers(regression) == [Flatten()]


def test_the_random_networks_differ() -> None:
    chance = random.Random(0)
    samples = [random_layers(chance) for _ in range(40)]
    used = {type(layer) for sample in samples for layer in sample}
    assert len(used) == 9
    assert len({layers.weight_count(sample, IMAGE) for sample in samples}) > 20
