"""The network as plain JavaScript: its description with its weights, and the program that runs it.

Two classic scripts, without modules and without requests, so that a page opened from a folder can load them.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_pipeline.core import files
from keras_pipeline.export import manifest
from keras_pipeline.export.operations import (
    Activation,
    Affine,
    Array,
    Convolution,
    Dense,
    Flatten,
    GlobalAverage,
    Pooling,
    ScaleColumns,
    ScalePixels,
    Step,
    Unscale,
)

FORMAT = 1
"""Of network.js, which predict.js beside it reads."""


def write_javascript(folder: Path, steps: Sequence[Step], about: Mapping[str, Any]) -> None:
    """Write javascript/network.js, which defines KERAS_PIPELINE_NETWORK, and javascript/predict.js, which defines
    `loadNetwork(description)`, whose `predict(input)` takes one raw input, a Uint8Array of pixels or a Float32Array of
    features, and gives a Float32Array of outputs. `about`: what else the description says of the network."""
    description = json.dumps({**about, **_description(steps)}, allow_nan=False)
    # Nothing in it may end a script that a page holds, nor a line of it.
    escaped = description.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    network = f"globalThis.KERAS_PIPELINE_NETWORK = {escaped};\n"
    files.write_atomically(folder / manifest.JAVASCRIPT_NETWORK, network.encode())
    files.write_atomically(folder / manifest.JAVASCRIPT_PROGRAM, program())


def program() -> bytes:
    """predict.js."""
    return Path(__file__).with_name("predict.js").read_bytes()


class _Arrays:
    """All arrays one behind the other."""

    def __init__(self) -> None:
        self.parts: list[Array] = []
        self.length = 0

    def add(self, **named: Array) -> dict[str, list[int]]:
        """By their names, where each begins, and how long it is."""
        places = {}
        for name, array in named.items():
            places[name] = [self.length, array.size]
            self.parts.append(array.reshape(-1))
            self.length += array.size
        return places


def _description(steps: Sequence[Step]) -> dict[str, Any]:
    arrays = _Arrays()
    operations = [made for step in steps if (made := _operation(step, arrays))]
    weights = np.concatenate([np.zeros(0, np.float32), *arrays.parts]).astype("<f4").tobytes()
    return {
        "format": FORMAT,
        "length": int(np.prod(steps[0].given)),
        "operations": operations,
        "weights": base64.b64encode(weights).decode(),
    }


def _operation(step: Step, arrays: _Arrays) -> dict[str, Any]:
    shapes = {"given": list(step.given), "made": list(step.made)}
    match step.operation:
        case ScalePixels(offset, divisor):
            return {"kind": "pixels", "offset": offset, "divisor": divisor}
        case ScaleColumns(columns, divisors):
            return {"kind": "columns", "offset": list(columns), "divisor": list(divisors)}
        case Unscale(offset, divisor):
            return {"kind": "unscale", "offset": offset, "divisor": divisor}
        case Dense(kernel, bias):
            return {"kind": "dense", "rows": len(kernel), "arrays": arrays.add(kernel=kernel, bias=bias)}
        case Convolution(kernel, bias, strides, padding):
            window = {"size": len(kernel), "strides": strides, "padding": list(padding[:2])}
            placed = arrays.add(kernel=kernel, bias=bias)
            return {"kind": "convolution", **shapes, **window, "rows": kernel[..., 0].size, "arrays": placed}
        case Pooling(average, size, strides, padding):
            window = {"size": size, "strides": strides, "padding": list(padding[:2])}
            return {"kind": "pooling", **shapes, **window, "average": average}
        case Affine(factor, shift):
            return {"kind": "affine", "arrays": arrays.add(factor=factor, shift=shift)}
        case GlobalAverage():  # one window, as large as the input
            height, width, channels = step.given
            window = {"size": max(height, width), "strides": 1, "padding": [0, 0]}
            return {"kind": "pooling", **shapes, "made": [1, 1, channels], **window, "average": True}
        case Activation("softmax"):
            return {"kind": "softmax"}
        case Activation(name):
            return {"kind": "activation", "name": name}
        case Flatten():  # the values lie in that order already
            return {}
