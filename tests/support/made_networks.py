"""Networks with weights drawn at random, without Keras: their arrays as a file has them, and what they answer, computed
in float64 from Keras' own definitions of the layers."""

import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import erf

import small
from keras_pipeline.config import layers
from keras_pipeline.config.layers import Layer
from keras_pipeline.config.params import Params
from keras_pipeline.data.task_spec import task_spec_from
from keras_pipeline.models.architectures import hidden_layers

IMAGES: dict[str, Any] = small.statistics({"train": 4, "validation": 2, "test": 2})
BINARY: dict[str, Any] = {**IMAGES, "task": "binary", "class_names": ["not 3", "3"]}
TABLE: dict[str, Any] = {
    **IMAGES,
    "dataset": "line",
    "task": "regression",
    **small.table("abc"),
    "class_names": [],
    "scaling": {"name": "standard", "offset": [100.0, -2.0, 0.1], "divisor": [30.0, 0.5, 1000.0]},
    "target": {"name": "standard", "offset": 150.0, "divisor": 77.0},
}
SCALINGS = {
    "none": (0.0, 1.0),
    "unit": (0.0, 255.0),
    "symmetric": (127.5, 127.5),
    "standard": (33.318421449829934, 78.56748998339798),
}
"""Offset and divisor of each, of images."""


def scaled_by(name: str) -> dict[str, Any]:
    """The images with this scaling."""
    offset, divisor = SCALINGS[name]
    return {**IMAGES, "scaling": {"name": name, "offset": offset, "divisor": divisor}}


def params(task: dict[str, Any], **changes: Any) -> Params:
    """Params of a network for it; `changes`: of the block `model`."""
    output = {"classes": "softmax", "binary": "sigmoid", "regression": "linear"}[task["task"]]
    model = small.params().model.model_copy(update={"output_activation": output, **changes})
    return small.params().model_copy(update={"model": model})


def all_layers(chosen: Params, task: dict[str, Any]) -> list[Layer]:
    """With the output layer."""
    outputs = task_spec_from(task).outputs
    return [*hidden_layers(chosen.model), layers.Dense(units=outputs, activation="linear")]


def draw_weights(sequence: Sequence[Layer], shape: Sequence[int], seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays as Keras names them in a file, of a size that keeps what goes through the network near 1."""
    random = np.random.default_rng(seed)
    counts: dict[str, int] = {}
    found: dict[str, np.ndarray] = {}

    def add(kind: str, *arrays: Any) -> None:
        count = counts.get(kind, 0)
        counts[kind] = count + 1
        name = f"layers/{kind}_{count}" if count else f"layers/{kind}"
        found.update({f"{name}/vars/{index}": np.float32(array) for index, array in enumerate(arrays)})

    for layer, given in zip(sequence, layers.shapes(sequence, tuple(shape)), strict=False):
        match layer:
            case layers.Dense():
                kernel = random.normal(size=(given[0], layer.units)) / math.sqrt(given[0])
                add("dense", kernel, *[random.normal(size=layer.units) * 0.3] * layer.use_bias)
            case layers.Conv2D():
                size, filters = layer.kernel_size, layer.filters
                kernel = random.normal(size=(size, size, given[2], filters)) / (size * math.sqrt(given[2]))
                add("conv2d", kernel, *[random.normal(size=filters) * 0.3] * layer.use_bias)
            case layers.BatchNormalization():
                numbers = random.normal(size=(4, given[-1]))
                add("batch_normalization", 1 + 0.2 * numbers[0], numbers[1], numbers[2] * 0.2, np.exp(numbers[3]))
    return found


def write_keras(path: Path, weights: dict[str, np.ndarray]) -> None:
    """A .keras file with these arrays, as `read_weights` takes it."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, array in weights.items():
            file[name] = array
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member, own in (("config.json", b"{}"), ("metadata.json", b"{}"), ("model.weights.h5", content.getvalue())):
            archive.writestr(zipfile.ZipInfo(member), own)


def answers(chosen: Params, task: dict[str, Any], weights: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """What the network answers to scaled inputs, float64 (n, outputs), a number in its own units."""
    counts: dict[str, int] = {}

    def take(kind: str) -> list[np.ndarray]:
        count = counts.get(kind, 0)
        counts[kind] = count + 1
        name = f"layers/{kind}_{count}/vars/" if count else f"layers/{kind}/vars/"
        return [array.astype(np.float64) for key, array in weights.items() if key.startswith(name)]

    value = inputs.astype(np.float64)
    for layer in all_layers(chosen, task):
        match layer:
            case layers.Dense():
                kernel, *bias = take("dense")
                value = ACTIVATIONS[layer.activation](value @ kernel + sum(bias))
            case layers.Conv2D():
                kernel, *bias = take("conv2d")
                windows = _windows(value, layer.kernel_size, layer.strides, layer.padding, 0.0)
                value = ACTIVATIONS[layer.activation](np.einsum("nyxcij,ijcf->nyxf", windows, kernel) + sum(bias))
            case layers.MaxPooling2D():
                strides = layer.strides or layer.pool_size
                value = _windows(value, layer.pool_size, strides, layer.padding, -np.inf).max(axis=(4, 5))
            case layers.AveragePooling2D():
                strides = layer.strides or layer.pool_size
                value = np.nanmean(_windows(value, layer.pool_size, strides, layer.padding, np.nan), axis=(4, 5))
            case layers.BatchNormalization():
                scale, offset, mean, variance = take("batch_normalization")
                value = (value - mean) / np.sqrt(variance + layer.epsilon) * scale + offset
            case layers.GlobalAveragePooling2D():
                value = value.mean(axis=(1, 2))
            case layers.Flatten():
                value = value.reshape(len(value), -1)
            case layers.Activate():
                value = ACTIVATIONS[layer.activation](value)
    value = ACTIVATIONS[chosen.model.output_activation](value)
    target = task_spec_from(task).target
    return target.undo(value) if target else value


def _windows(value: np.ndarray, size: int, strides: int, padding: str, outside: float) -> np.ndarray:
    """(n, rows, columns, channels, size, size)."""
    if padding == "same":
        pads = [max(0, (-(-side // strides) - 1) * strides + size - side) for side in value.shape[1:3]]
        around = [(0, 0), *[(pad // 2, pad - pad // 2) for pad in pads], (0, 0)]
        value = np.pad(value, around, constant_values=outside)
    return sliding_window_view(value, (size, size), (1, 2))[:, ::strides, ::strides]


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS: dict[str, Any] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": elu,
    "selu": lambda x: 1.05070098 * np.where(x > 0, x, 1.67326324 * np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "exponential": np.exp,
    "relu6": lambda x: np.clip(x, 0, 6),
    "celu": elu,
    "softmax": softmax,
}
