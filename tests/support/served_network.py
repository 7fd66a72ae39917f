"""Exports of small networks for the service: real ONNX files beside their export.json."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from exported import CLASSES, NUMBERS, exported_folder
from keras_pipeline.data.encoding import number_columns

BINARY: dict[str, Any] = {
    **CLASSES,
    "task": "binary",
    "class_names": ["no", "yes"],
    "outputs": 1,
    "output_activation": "sigmoid",
}
TYPES = {"|u1": TensorProto.UINT8, "<u2": TensorProto.UINT16, "<f4": TensorProto.FLOAT}
HEAVY = [512, 256]
"""The hidden layers of the shipped network."""


def write_network(
    folder: Path, described: dict[str, Any] = CLASSES, *, seed: int = 0, hidden: list[int] | None = None, **changes: Any
) -> Path:
    """A folder of exports with an ONNX network of dense layers, its weights drawn from `seed`; `changes`: of the
    manifest."""
    described = {**described, **changes}
    folder.mkdir(parents=True, exist_ok=True)
    return exported_folder(folder, {"model.onnx": onnx_network(described, seed, hidden or [])}, described)


def onnx_network(described: dict[str, Any], seed: int, hidden: list[int]) -> bytes:
    """The file: pixels / 255 or features, dense layers, and the output activation of its task."""
    given = described["input"]
    random = np.random.default_rng(seed)
    if given["kind"] == "images":
        shape, name, kind = [given["height"], given["width"]], "pixels", TYPES[given["dtype"]]
        shape += [] if given["channels"] == 1 else [given["channels"]]
        scale = given["high"]
    else:
        shape, name, kind, scale = [len(given["features"])], "features", TensorProto.FLOAT, 10.0
    nodes = [
        helper.make_node("Cast", [name], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "divisor"], ["scaled"]),
        helper.make_node("Flatten", ["scaled"], ["x0"], axis=1),
    ]
    constants = {"divisor": np.float32(scale)}
    widths = [int(np.prod(shape)), *hidden, described["outputs"]]
    for layer, (before, after) in enumerate(itertools.pairwise(widths)):
        constants[f"w{layer}"] = (random.normal(size=(before, after)) * (2 / before) ** 0.5).astype(np.float32)
        constants[f"b{layer}"] = random.normal(size=after).astype(np.float32) * np.float32(0.1)
        last = layer == len(widths) - 2
        activation = {"softmax": "Softmax", "sigmoid": "Sigmoid", "linear": "Identity"}[described["output_activation"]]
        nodes += [
            helper.make_node("Gemm", [f"x{layer}", f"w{layer}", f"b{layer}"], [f"z{layer}"]),
            helper.make_node(activation if last else "Relu", [f"z{layer}"], ["outputs" if last else f"x{layer + 1}"]),
        ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, kind, ["n", *shape])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["n", described["outputs"]])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


TABLE: dict[str, Any] = {
    **NUMBERS,
    "input": number_columns(["a", "b", "c"], "y"),
    "scaling": {"name": "unit", "offset": [0.0] * 3, "divisor": [10.0] * 3},
}
