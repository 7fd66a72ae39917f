"""Random networks of every kind of layer."""

import math
import random
from typing import Any

from keras_pipeline.config import layers

IMAGE = (28, 28, 1)
MODEL: dict[str, Any] = {
    "architecture": "layers",
    "hidden_units": (10,),
    "filters": (4,),
    "global_average_pooling": False,
    "activation": "relu",
    "dropout": 0.5,
    "batch_normalization": True,
    "l2": 0.0,
    "output_activation": "softmax",
    "layers": (),
}


def random_layers(chance: random.Random) -> list[layers.Layer]:
    """Up to nine layers that fit behind each other and end flat."""
    found: list[layers.Layer] = []
    shape: layers.Shape = IMAGE
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
        found.append(chance.choice([layers.Flatten(), layers.GlobalAveragePooling2D()]))
    return found


PADDINGS = ("valid", "same")
ACTIVATIONS = ("linear", "relu", "gelu", "leaky_relu", "hard_sigmoid")
CANDIDATES = [
    lambda chance: layers.Dense(
        units=chance.randint(1, 40), activation=chance.choice(ACTIVATIONS), use_bias=chance.random() < 0.5
    ),
    lambda chance: layers.Dropout(rate=chance.random()),
    lambda chance: layers.BatchNormalization(momentum=0.5),
    lambda chance: layers.Activate(activation=chance.choice(ACTIVATIONS)),
    lambda chance: layers.Flatten(),
    *[
        lambda chance: layers.Conv2D(
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
        lambda chance: chance.choice([layers.MaxPooling2D, layers.AveragePooling2D])(
            pool_size=chance.randint(1, 6),
            strides=chance.choice([None, 1, 2, 3]),
            padding=chance.choice(PADDINGS),
        )
    ]
    * 2,
    lambda chance: layers.GlobalAveragePooling2D(),
]
