"""The network as an ONNX file: raw inputs in, one batch axis `n`, nothing outside the standard's own operators.

The same network gives the same bytes. Opset 17, which every ONNX Runtime since 1.12 reads.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import files
from keras_pipeline.export.operations import (
    Activation,
    Affine,
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

OPSET, IR_VERSION = 17, 8
INPUTS = {True: "pixels", False: "features"}
"""The name of the input: of images, or of a table."""
OUTPUT = "outputs"


def write_onnx(path: Path, steps: Sequence[Step], shape: Sequence[int]) -> None:
    """Write the network, whose raw inputs are (n, *shape): `pixels` in the dataset's own type, or of a table `features`
    float32. Its output is `outputs` float32 (n, k)."""
    import onnx

    model = _Graph(steps, shape).model()
    onnx.checker.check_model(model, full_check=True)
    files.write_atomically(path, model.SerializeToString(deterministic=True))


class _Graph:
    """The nodes of a network, written one after the other; `value` is the name of what the last one gave.

    Convolutions and poolings of ONNX take the channels first: from the first of them to the next flat value they are.
    """

    def __init__(self, steps: Sequence[Step], shape: Sequence[int]) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self.helper, self.numpy_helper, self.types = helper, numpy_helper, TensorProto
        self.steps, self.shape = steps, tuple(shape)
        first = steps[0].operation
        self.images = isinstance(first, ScalePixels)
        self.kind = helper.np_dtype_to_tensor_dtype(np.dtype(first.dtype if isinstance(first, ScalePixels) else "<f4"))
        self.value, self.channels_first = INPUTS[self.images], False
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def model(self) -> Any:
        """The whole as onnx.ModelProto."""
        for step in self.steps:
            self.write(step)
        self.nodes[-1].output[0] = OUTPUT
        graph = self.helper.make_graph(
            self.nodes,
            "network",
            [self.helper.make_tensor_value_info(INPUTS[self.images], self.kind, ["n", *self.shape])],
            [self.helper.make_tensor_value_info(OUTPUT, self.types.FLOAT, ["n", *self.steps[-1].made])],
            self.arrays,
        )
        return self.helper.make_model(
            graph,
            producer_name="keras-pipeline",
            ir_version=IR_VERSION,
            opset_imports=[self.helper.make_opsetid("", OPSET)],
        )

    def add(self, operator: str, *others: NDArray[Any], **attributes: Any) -> str:
        """A node that takes what the last one gave and these arrays; the name of what it gives."""
        inputs = [self.value]
        for array in others:
            name = f"array_{len(self.arrays)}"
            self.arrays.append(self.numpy_helper.from_array(np.ascontiguousarray(array), name))
            inputs.append(name)
        return self.node(operator, inputs, **attributes)

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node that takes these values; the name of what it gives."""
        self.value = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(operator, inputs, [self.value], name=self.value, **attributes))
        return self.value

    def write(self, step: Step) -> None:
        """The nodes of one operation."""
        operation = step.operation
        match operation:
            case ScalePixels(offset, divisor):
                self.add("Cast", to=self.types.FLOAT)
                if offset:
                    self.add("Sub", np.array(offset, np.float32))
                if divisor != 1:
                    self.add("Div", np.array(divisor, np.float32))
                if len(self.shape) == 2:
                    self.add("Unsqueeze", np.array([3], np.int64))
            case ScaleColumns(offset, divisor):
                self.add("Cast", to=self.types.DOUBLE)
                self.add("Sub", np.array(offset, np.float64))
                self.add("Div", np.array(divisor, np.float64))
                self.add("Cast", to=self.types.FLOAT)
            case Unscale(offset, divisor):
                self.add("Cast", to=self.types.DOUBLE)
                self.add("Mul", np.array(divisor, np.float64))
                self.add("Add", np.array(offset, np.float64))
                self.add("Cast", to=self.types.FLOAT)
            case Dense(kernel, bias):
                self.add("Gemm", kernel, bias)
            case Convolution(kernel, bias, strides, padding):
                self.order_channels(first=True)
                by_filter = kernel.transpose(3, 2, 0, 1)
                self.add("Conv", by_filter, bias, strides=[strides] * 2, pads=list(padding))
            case Affine(factor, shift):
                form = (-1, 1, 1) if self.channels_first else (-1,)
                self.add("Mul", factor.reshape(form))
                self.add("Add", shift.reshape(form))
            case Pooling(average, size, strides, padding):
                self.order_channels(first=True)
                self.add(
                    "AveragePool" if average else "MaxPool",
                    kernel_shape=[size] * 2,
                    strides=[strides] * 2,
                    pads=list(padding),
                )
            case GlobalAverage():
                self.order_channels(first=True)
                self.add("GlobalAveragePool")
                self.add("Flatten")
                self.channels_first = False
            case Flatten():
                self.order_channels(first=False)
                self.add("Flatten")
            case Activation(name):
                ACTIVATIONS[name](self)

    def order_channels(self, *, first: bool) -> None:
        """Have the channels first, or last."""
        if first != self.channels_first:
            self.add("Transpose", perm=[0, 3, 1, 2] if first else [0, 2, 3, 1])
            self.channels_first = first


def _operator(name: str, **attributes: float) -> Callable[[_Graph], object]:
    return lambda graph: graph.add(name, **attributes)


def _gelu(graph: _Graph) -> None:
    given = graph.value
    graph.add("Div", np.array(np.sqrt(2), np.float32))
    graph.add("Erf")
    graph.add("Add", np.array(1, np.float32))
    graph.node("Mul", [given, graph.value])
    graph.add("Mul", np.array(0.5, np.float32))


def _silu(graph: _Graph) -> None:
    given = graph.value
    graph.node("Mul", [given, graph.add("Sigmoid")])


def _mish(graph: _Graph) -> None:
    given = graph.value
    graph.add("Softplus")
    graph.node("Mul", [given, graph.add("Tanh")])


def _relu6(graph: _Graph) -> None:
    graph.add("Clip", np.array(0, np.float32), np.array(6, np.float32))


ACTIVATIONS: dict[str, Callable[[_Graph], object]] = {
    "relu": _operator("Relu"),
    "leaky_relu": _operator("LeakyRelu", alpha=0.2),
    "elu": _operator("Elu", alpha=1.0),
    "selu": _operator("Selu"),
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "softplus": _operator("Softplus"),
    "softsign": _operator("Softsign"),
    "tanh": _operator("Tanh"),
    "sigmoid": _operator("Sigmoid"),
    "hard_sigmoid": _operator("HardSigmoid", alpha=1 / 6, beta=0.5),
    "exponential": _operator("Exp"),
    "relu6": _relu6,
    "celu": _operator("Celu", alpha=1.0),
    "softmax": _operator("Softmax", axis=-1),
}
"""What writes each activation, by its name in Keras, with Keras' own constants."""
