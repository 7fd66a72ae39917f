"""A trained network as a list of plain numerical operations: from its params, its data and its weights, without Keras.

Every writer of a format goes down this list. The first operation takes raw inputs, and the last gives what is
evaluated: of classes the outputs of the network, of a number the number in its own units.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.config import layers
from keras_pipeline.config.layers import Layer, Shape
from keras_pipeline.config.params import Model
from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.statistics import DatasetDescription, is_table
from keras_pipeline.data.task_spec import task_spec_from
from keras_pipeline.models.architectures import hidden_layers
from keras_pipeline.models.weights_file import REMEDY, read_weights

Array = NDArray[np.float32]
Weights = Mapping[str, NDArray[Any]]
Padding = tuple[int, int, int, int]
"""Rows above, columns to the left, rows below, columns to the right."""


@dataclass(frozen=True)
class ScalePixels:
    """Pixels to (pixel - offset) / divisor, in float32, as the training had them; `dtype`: what they are given as."""

    offset: float
    divisor: float
    dtype: str


@dataclass(frozen=True)
class ScaleColumns:
    """Each column of a table to (value - offset) / divisor, in float64, then float32, as the training had them."""

    offset: tuple[float, ...]
    divisor: tuple[float, ...]


@dataclass(frozen=True)
class Dense:
    """inputs @ kernel (inputs, outputs) + bias (outputs,)."""

    kernel: Array
    bias: Array


@dataclass(frozen=True)
class Convolution:
    """The cross-correlation with a kernel (height, width, channels, filters), zeros all around, + bias (filters,)."""

    kernel: Array
    bias: Array
    strides: int
    padding: Padding


@dataclass(frozen=True)
class Affine:
    """value × factor + shift, with a number of each (channels,) for every channel: BatchNormalization."""

    factor: Array
    shift: Array


@dataclass(frozen=True)
class Pooling:
    """The greatest value or, if `average`, the mean of each square window; what lies outside is left out."""

    average: bool
    size: int
    strides: int
    padding: Padding


@dataclass(frozen=True)
class GlobalAverage:
    """The mean of each channel."""


@dataclass(frozen=True)
class Flatten:
    """(height, width, channels) in a row, the channels of the first pixel first."""


@dataclass(frozen=True)
class Activation:
    """The function of this name in Keras, of each value; softmax of all."""

    name: str


@dataclass(frozen=True)
class Unscale:
    """A number in its own units: value × divisor + offset, in float64, then float32."""

    offset: float
    divisor: float


Operation = (
    ScalePixels | ScaleColumns | Dense | Convolution | Affine | Pooling | GlobalAverage | Flatten | Activation | Unscale
)


@dataclass(frozen=True)
class Step:
    """An operation with the shape of what goes in and of what comes out, without the batch axis."""

    operation: Operation
    given: Shape
    made: Shape


def read_operations(path: Path, model: Model, dataset: DatasetDescription) -> list[Step]:
    """The network of the params with the weights in a .keras file. Raises ModelFileError, with the name of the array,
    where the file is damaged or another network's."""
    try:
        return list_operations(model, dataset, read_weights(path))
    except KeyError as fault:
        raise ModelFileError(
            f"{path}: {fault.args[0]} is missing. Expected: the weights of the network of params.yaml. "
            f"{REMEDY.format(path=path)}"
        ) from None
    except ValueError as fault:
        if isinstance(fault, ModelFileError):
            raise
        raise ModelFileError(f"{path}: {fault} {REMEDY.format(path=path)}") from None


def list_operations(model: Model, dataset: DatasetDescription, weights: Weights) -> list[Step]:
    """The same from the arrays themselves, by their names in the file.

    Raises KeyError for an array that is missing; ValueError for one of another shape, one that is left over, or one
    with a number that is not finite.
    """
    spec = task_spec_from(dataset)
    output = layers.Dense(units=spec.outputs)
    sequence: list[Layer] = [*hidden_layers(model), output]
    store = _Store(weights)
    shape = spec.shape
    steps = [Step(_scale(dataset), shape, shape)]
    for layer in sequence:
        made = layer.output_shape(shape)
        for operation in _operations(layer, shape, made, store):
            # Of all operations of a layer the first alone changes the shape.
            steps.append(Step(operation, shape, made))
            shape = made
    if model.output_activation != "linear":
        steps.append(Step(Activation(model.output_activation), shape, shape))
    if spec.target:
        steps.append(Step(Unscale(float(spec.target.offset), float(spec.target.divisor)), shape, shape))
    store.check_all_used()
    return _folded(steps)


def _folded(steps: Sequence[Step]) -> list[Step]:
    """With each BatchNormalization right behind a Dense or a convolution put into its weights, in float64."""
    found: list[Step] = []
    for step in steps:
        before, own = found[-1].operation if found else None, step.operation
        if isinstance(own, Affine) and isinstance(before, Dense | Convolution):
            kernel = (before.kernel.astype(np.float64) * own.factor).astype(np.float32)
            bias = (before.bias.astype(np.float64) * own.factor + own.shift).astype(np.float32)
            found[-1] = replace(found[-1], operation=replace(before, kernel=kernel, bias=bias))
        else:
            found.append(step)
    return found


def _scale(dataset: DatasetDescription) -> Operation:
    scaling, given = Scaling(**dataset["scaling"]), dataset["input"]
    if given["kind"] == "table":
        return ScaleColumns(tuple(scaling.offset), tuple(scaling.divisor))
    return ScalePixels(float(scaling.offset), float(scaling.divisor), given["dtype"])


class _Store:
    """The arrays of a file by the layers they are of; Keras names a layer there by its kind and place."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.counts: dict[str, int] = {}
        self.used: set[str] = set()

    def next_layer(self, kind: str) -> str:
        """The name of the next layer of this kind."""
        count = self.counts.get(kind, 0)
        self.counts[kind] = count + 1
        return f"layers/{kind}_{count}" if count else f"layers/{kind}"

    def take(self, name: str, shape: Shape) -> Array:
        """The array of this name."""
        found = self.weights[name]
        if found.shape != shape:
            raise ValueError(f"{name}: got the shape {found.shape}. Expected: {shape}, as params.yaml has the network.")
        if not np.isfinite(found).all():
            raise ValueError(f"{name}: got NaN or infinity. Expected: finite numbers.")
        self.used.add(name)
        return found.astype(np.float32)

    def check_all_used(self) -> None:
        """Raise ValueError where an array is of no layer; a Dropout's generator of random numbers counts for none."""
        if left := sorted(name for name in self.weights if name not in self.used and "/seed_generator/" not in name):
            raise ValueError(f"{left[0]} is of no layer. Expected: the weights of the network of params.yaml.")


def _operations(layer: Layer, given: Shape, made: Shape, store: _Store) -> Iterator[Operation]:
    match layer:
        case layers.Dense():
            name = store.next_layer("dense")
            kernel = store.take(f"{name}/vars/0", (given[0], made[0]))
            yield Dense(kernel, _bias(layer.use_bias, name, made[0], store))
            yield from _activation(layer.activation)
        case layers.Conv2D():
            name, size = store.next_layer("conv2d"), layer.kernel_size
            kernel = store.take(f"{name}/vars/0", (size, size, given[2], made[2]))
            padding = _padding(layer.padding, given, made, size, layer.strides)
            yield Convolution(kernel, _bias(layer.use_bias, name, made[2], store), layer.strides, padding)
            yield from _activation(layer.activation)
        case layers.BatchNormalization():
            name, channels = store.next_layer("batch_normalization"), given[-1]
            scale, offset, mean, variance = (
                store.take(f"{name}/vars/{index}", (channels,)).astype(np.float64) for index in range(4)
            )
            if variance.min() < 0:
                raise ValueError(f"{name}/vars/3: got {variance.min():g}. Expected: variances, 0 at least.")
            factor = scale / np.sqrt(variance + layer.epsilon)
            yield Affine(factor.astype(np.float32), (offset - mean * factor).astype(np.float32))
        case layers.MaxPooling2D() | layers.AveragePooling2D():
            strides = layer.strides or layer.pool_size
            padding = _padding(layer.padding, given, made, layer.pool_size, strides)
            yield Pooling(isinstance(layer, layers.AveragePooling2D), layer.pool_size, strides, padding)
        case layers.GlobalAveragePooling2D():
            yield GlobalAverage()
        case layers.Activate():
            yield from _activation(layer.activation)
        case layers.Flatten():
            if len(given) > 1:
                yield Flatten()
        case layers.Dropout():
            pass  # it does nothing outside of training
        case _:
            raise TypeError(f"{type(layer).__name__} has no operation here")


def _bias(used: bool, name: str, size: int, store: _Store) -> Array:
    return store.take(f"{name}/vars/1", (size,)) if used else np.zeros(size, np.float32)


def _activation(name: str) -> Iterator[Activation]:
    if name != "linear":
        yield Activation(name)


def _padding(padding: str, given: Shape, made: Shape, size: int, strides: int) -> Padding:
    """As TensorFlow has it: of an odd number, one more below and to the right."""
    if padding == "valid":
        return 0, 0, 0, 0
    whole = [max(0, (after - 1) * strides + size - before) for before, after in zip(given, made, strict=True)][:2]
    top, left = (one // 2 for one in whole)
    return top, left, whole[0] - top, whole[1] - left


def raw_inputs(inputs: NDArray[Any], dataset: DatasetDescription) -> NDArray[Any]:
    """What a format takes for the inputs of a split: pixels as they are (n, height, width), with several channels (n,
    height, width, channels); or of a table, whose features are scaled, float32 (n, features)."""
    if is_table(dataset):
        return Scaling(**dataset["scaling"]).undo(inputs).astype(np.float32)
    return inputs[..., 0] if dataset["shape"][-1] == 1 else inputs


def input_shape(dataset: DatasetDescription) -> Shape:
    """The shape of one raw input, as `raw_inputs` has it."""
    shape = tuple(dataset["shape"])
    return shape[:2] if len(shape) == 3 and shape[2] == 1 else shape


def multiplications(steps: Sequence[Step]) -> int:
    """How many products of two numbers one input takes in Dense and convolution layers: the measure of its work."""
    found = 0
    for step in steps:
        match step.operation:
            case Dense(kernel=kernel):
                found += kernel.size
            case Convolution(kernel=kernel):
                found += kernel.size * math.prod(step.made[:2])
    return found
