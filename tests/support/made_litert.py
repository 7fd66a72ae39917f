"""A LiteRT file made by hand, without TensorFlow: pixels int8 (1, 2, 2) to three outputs; a folder of exports."""

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

import exported
from exported import image_input
from keras_pipeline.export import manifest

WEIGHTS = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [0, 1, 0, -1]], np.int8)
INPUT, OUTPUT = (2.0, -128), (0.25, -4)
"""The scale and the zero point of each."""


def content(weights: Any = WEIGHTS) -> bytes:
    """RESHAPE to (1, 4), then FULLY_CONNECTED."""
    model = schema.ModelT(version=3, description=b"made by hand", buffers=[schema.BufferT()])
    graph = schema.SubGraphT(tensors=[], inputs=[0], outputs=[4], operators=[])
    model.subgraphs = [graph]

    def tensor(name: str, array: Any, kind: int, scale: tuple[float, int] | None, *, constant: bool) -> None:
        quantized = schema.QuantizationParametersT(scale=[scale[0]], zeroPoint=[scale[1]]) if scale else None
        if constant:
            model.buffers.append(schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
        made = schema.TensorT(name=name, shape=list(array.shape), type=kind, quantization=quantized)
        made.buffer = len(model.buffers) - 1 if constant else 0
        graph.tensors.append(made)

    tensor("pixels", np.zeros((1, 2, 2)), schema.TensorType.INT8, INPUT, constant=False)
    tensor("shape", np.array([-1, 4], np.int32), schema.TensorType.INT32, None, constant=True)
    tensor("flat", np.zeros((1, 4)), schema.TensorType.INT8, INPUT, constant=False)
    tensor("weights", weights, schema.TensorType.INT8, (0.125, 0), constant=True)
    tensor("outputs", np.zeros((1, 3)), schema.TensorType.INT8, OUTPUT, constant=False)
    reshape, dense = schema.BuiltinOperator.RESHAPE, schema.BuiltinOperator.FULLY_CONNECTED
    model.operatorCodes = [schema.OperatorCodeT(one, builtinCode=one) for one in (reshape, dense)]
    graph.operators = [
        schema.OperatorT(
            0, [0, 1], [2], schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT(newShape=[-1, 4])
        ),
        schema.OperatorT(
            1, [2, 3, -1], [4], schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT()
        ),
    ]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def outputs(raw: Any, weights: Any = WEIGHTS) -> Any:
    """What the network of these weights answers, but for rounding: to raw pixels (n, 2, 2)."""
    numbers = np.clip(np.rint(raw / INPUT[0]) + INPUT[1], -128, 127)
    real = (numbers - INPUT[1]) * INPUT[0]
    return real.reshape(len(raw), 4) @ (weights.T * 0.125)


DESCRIBED = {
    **exported.CLASSES,
    "class_names": ['no "7"?', "ß", "*/"],
    "outputs": 3,
    "input": image_input(2, 2),
}
"""What a manifest says of it."""


def exported_folder(folder: Path, *names: str) -> bytes:
    """A folder of exports whose files of these formats are all this one; the file's bytes."""
    made = content()
    exported.exported_folder(folder, {manifest.PATHS[name]: made for name in names}, DESCRIBED)
    return made
