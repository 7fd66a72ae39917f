"""The layers a network may be made of: their arguments, ranges, and shape arithmetic, without Keras.

Names and arguments are those of `keras.layers`; a default that stands here is Keras' own. Shapes leave
out the batch axis: (height, width, channels) or (units,).
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from keras_pipeline.strict_yaml.faults import Block

Shape = tuple[int, ...]
# fmt: off
Activation = Literal[
    "linear", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "softsign",
    "tanh", "sigmoid", "hard_sigmoid", "exponential", "relu6", "celu",
]
# fmt: on
Units = Annotated[int, Field(ge=1, le=65536)]
Window = Annotated[int, Field(ge=1, le=4096)]
"""As large as an image may be; that a window fits into its image is said by `output_shape`."""
Rate = Annotated[float, Field(ge=0, lt=1)]
L2 = Annotated[float, Field(ge=0, le=10)]


class Layer(Block):
    """Any layer below: what it makes of a shape, and the number of its weights.

    `output_shape` raises ValueError, with the way out, when the layer cannot take that input.
    """

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of what comes out, for the shape that goes in."""
        return shape

    def weights(self, shape: Shape) -> int:
        """How many numbers the layer keeps, trained or not, for the shape that goes in."""
        return 0


class Dense(Layer):
    """keras.layers.Dense; `l2` is the factor of the squared kernel in the loss."""

    layer: Literal["Dense"] = "Dense"
    units: Units
    activation: Activation = "linear"
    use_bias: bool = True
    l2: L2 = 0.0

    @override
    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(
                f"Dense needs a flat input, but gets {_text(shape)}. "
                "Put {layer: Flatten} or {layer: GlobalAveragePooling2D} before it."
            )
        return (self.units,)

    @override
    def weights(self, shape: Shape) -> int:
        return (shape[0] + self.use_bias) * self.units


class Dropout(Layer):
    """keras.layers.Dropout: the share `rate` of the inputs is set to zero while training."""

    layer: Literal["Dropout"] = "Dropout"
    rate: Rate


class BatchNormalization(Layer):
    """keras.layers.BatchNormalization over the last axis."""

    layer: Literal["BatchNormalization"] = "BatchNormalization"
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.99
    epsilon: Annotated[float, Field(ge=1e-12, le=1)] = 0.001

    @override
    def weights(self, shape: Shape) -> int:
        return 4 * shape[-1]


class Activate(Layer):
    """keras.layers.Activation."""

    layer: Literal["Activation"] = "Activation"
    activation: Activation


class Flatten(Layer):
    """keras.layers.Flatten."""

    layer: Literal["Flatten"] = "Flatten"

    @override
    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


class Conv2D(Layer):
    """keras.layers.Conv2D with a square window; `l2` is the factor of the squared kernel in the loss."""

    layer: Literal["Conv2D"] = "Conv2D"
    filters: Units
    kernel_size: Window
    strides: Window = 1
    padding: Literal["valid", "same"] = "valid"
    activation: Activation = "linear"
    use_bias: bool = True
    l2: L2 = 0.0

    @override
    def output_shape(self, shape: Shape) -> Shape:
        return (*_windows(self.layer, shape, self.kernel_size, self.strides, self.padding), self.filters)

    @override
    def weights(self, shape: Shape) -> int:
        return (self.kernel_size**2 * shape[-1] + self.use_bias) * self.filters


class _Pooling2D(Layer):
    layer: str
    pool_size: Window = 2
    strides: Window | None = None
    padding: Literal["valid", "same"] = "valid"

    @override
    def output_shape(self, shape: Shape) -> Shape:
        strides = self.strides or self.pool_size
        return (*_windows(self.layer, shape, self.pool_size, strides, self.padding), shape[-1])


class MaxPooling2D(_Pooling2D):
    """keras.layers.MaxPooling2D with a square window; `strides` is the window when not given."""

    layer: Literal["MaxPooling2D"] = "MaxPooling2D"


class AveragePooling2D(_Pooling2D):
    """keras.layers.AveragePooling2D with a square window; `strides` is the window when not given."""

    layer: Literal["AveragePooling2D"] = "AveragePooling2D"


class GlobalAveragePooling2D(Layer):
    """keras.layers.GlobalAveragePooling2D."""

    layer: Literal["GlobalAveragePooling2D"] = "GlobalAveragePooling2D"

    @override
    def output_shape(self, shape: Shape) -> Shape:
        _windows(self.layer, shape, 1, 1, "valid")
        return (shape[-1],)


AnyLayer = Annotated[
    Dense
    | Dropout
    | BatchNormalization
    | Activate
    | Flatten
    | Conv2D
    | MaxPooling2D
    | AveragePooling2D
    | GlobalAveragePooling2D,
    Field(discriminator="layer"),
]


def shapes(layers: Sequence[Layer], shape: Shape) -> list[Shape]:
    """`shape` and the shape after each layer: one more than there are layers. Raises as `output_shape` does."""
    result = [shape]
    for layer in layers:
        result.append(layer.output_shape(result[-1]))
    return result


def weight_count(layers: Sequence[Layer], shape: Shape) -> int:
    """How many numbers the network of these layers keeps, for images of this shape."""
    before = shapes(layers, shape)
    return sum(layer.weights(given) for layer, given in zip(layers, before, strict=False))


def training_memory(layers: Sequence[Layer], shape: Shape, batch_size: int) -> int:
    """Bytes that one training step needs at least: an estimate, in float32.

    Four copies of the weights (weight, gradient, two of the optimizer, as for Adam) and two of what comes
    out of each layer for a batch (value and gradient).
    """
    values = sum(math.prod(one) for one in shapes(layers, shape))
    return 4 * (4 * weight_count(layers, shape) + 2 * batch_size * values)


def _windows(layer: str, shape: Shape, size: int, strides: int, padding: str) -> Shape:
    """(height, width) of how often a square window fits, as Keras counts it."""
    if len(shape) != 3:
        raise ValueError(f"{layer} needs (height, width, channels), but gets {_text(shape)}. Put it before Flatten.")
    if padding == "same":
        return tuple(-(-side // strides) for side in shape[:2])
    if min(shape[:2]) < size:
        raise ValueError(
            f"{layer} with a window of {size} does not fit into {_text(shape)}. "
            "Use a smaller window, padding: same, or fewer layers before it."
        )
    return tuple((side - size) // strides + 1 for side in shape[:2])


def _text(shape: Shape) -> str:
    return " × ".join(map(str, shape)) + (" values" if len(shape) == 1 else "")
