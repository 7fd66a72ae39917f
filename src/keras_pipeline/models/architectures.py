"""The networks: one function per architecture, from params to its hidden layers, and the Keras model of them.

Each function below bears the name it has in params.yaml and gives what one could also write there under
`model.layers`. The output layer, a Dense, is added by `build_network`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_pipeline.config.layers import (
    Activate,
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
from keras_pipeline.config.params import Model

if TYPE_CHECKING:
    import keras


def softmax_regression(model: Model) -> list[Layer]:
    """No hidden layer: every pixel votes for every class."""
    return [Flatten()]


def mlp(model: Model) -> list[Layer]:
    """Dense hidden layers, each with BatchNormalization (if on) before its activation and Dropout after."""
    return [Flatten(), *_dense(model)]


def cnn(model: Model) -> list[Layer]:
    """Blocks of 3×3 convolution, BatchNormalization (if on), activation, 2×2 pooling and half of the Dropout; then the
    mean of each filter over the image, or its value at every place; then the dense hidden layers of `mlp`."""
    layers: list[Layer] = []
    for filters in model.filters:
        convolution = Conv2D(
            filters=filters,
            kernel_size=3,
            padding="same",
            use_bias=not model.batch_normalization,
            l2=model.l2,
        )
        layers += [convolution, *_activated(model), MaxPooling2D(pool_size=2), *_dropout(model.dropout / 2)]
    return [*layers, GlobalAveragePooling2D() if model.global_average_pooling else Flatten(), *_dense(model)]


def layers(model: Model) -> list[Layer]:
    """The list in params.yaml as it stands there."""
    return list(model.layers)


ARCHITECTURES = {"softmax_regression": softmax_regression, "mlp": mlp, "cnn": cnn, "layers": layers}


def hidden_layers(model: Model) -> list[Layer]:
    """The hidden layers of the architecture that the params name."""
    return ARCHITECTURES[model.architecture](model)


def has_batch_normalization(model: Model) -> bool:
    """Whether the network that the params name has a BatchNormalization."""
    return any(isinstance(layer, BatchNormalization) for layer in hidden_layers(model))


def build_network(
    model: Model, shape: Shape, outputs: int, *, synchronized: bool = False, seed: int | None = None
) -> "keras.Sequential":
    """The Keras network: normalized inputs (n, *shape) float32 to outputs (n, outputs) float32.

    Initial weights come from Keras' global random generator. With `seed`, each Dropout's masks follow from
    it and its place; without, they are of no use in training. With `synchronized`, BatchNormalization takes
    its statistics over all replicas of a TensorFlow strategy (tf.distribute), as one device would. The output
    is float32 under mixed precision too.
    """
    import keras

    output = keras.layers.Dense(outputs, activation=model.output_activation, dtype="float32", name="output")
    hidden = _named(hidden_layers(model), synchronized, seed)
    name = "image" if len(shape) == 3 else "features"
    return keras.Sequential([keras.Input(shape, name=name), *hidden, output], name=model.architecture)


def _dense(model: Model) -> list[Layer]:
    result: list[Layer] = []
    for units in model.hidden_units:
        # A bias before BatchNormalization is lost in its mean: leave it out.
        result += [
            Dense(units=units, use_bias=not model.batch_normalization, l2=model.l2),
            *_activated(model),
            *_dropout(model.dropout),
        ]
    return result


def _activated(model: Model) -> list[Layer]:
    activation = Activate(activation=model.activation)
    return [BatchNormalization(), activation] if model.batch_normalization else [activation]


def _dropout(rate: float) -> list[Layer]:
    return [Dropout(rate=rate)] if rate else []


def _named(hidden: Sequence[Layer], synchronized: bool, seed: int | None) -> list["keras.Layer"]:
    """Keras layers named by kind and place (dense_1, dense_2 …), the same in every process."""
    import keras

    counts: dict[str, int] = {}
    result: list[keras.Layer] = []
    for layer in hidden:
        arguments = layer.model_dump(exclude={"layer", "l2"})
        kind: str = layer.model_dump()["layer"]
        if getattr(layer, "l2", 0):
            arguments["kernel_regularizer"] = keras.regularizers.L2(layer.l2)  # type: ignore[attr-defined]
        if isinstance(layer, BatchNormalization) and synchronized:
            arguments["synchronized"] = True
        if isinstance(layer, Dropout) and seed is not None:
            # Below 2³⁰: a replica's number is added to it.
            import numpy as np

            arguments["seed"] = int(np.random.default_rng([seed, 3, len(result)]).integers(2**30))
        counts[kind] = counts.get(kind, 0) + 1
        result.append(getattr(keras.layers, kind)(**arguments, name=f"{kind.lower()}_{counts[kind]}"))
    return result
