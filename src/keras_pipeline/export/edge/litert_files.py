"""What is in a LiteRT file: its operators, how its numbers are stored, and how much memory one answer needs."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

ALIGNMENT = 16
"""Bytes; microcontrollers' runtimes put every tensor at a multiple of it."""


@dataclass(frozen=True)
class Numbers:
    """An input or output: the shape of one, the type of its numbers, and for int8 what makes them real ones:
    real = (number - zero_point) × scale."""

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Described:
    """`operators`: how often each is used, by its name; `arena`: the bytes of memory that the tensors of one answer
    need, as `plan_arena` puts them, without the weights and a runtime's own structures."""

    operators: dict[str, int]
    input: Numbers
    output: Numbers
    arena: int


def describe(content: bytes) -> Described:
    """Read, not run. Give it bytes whose digest is known: a damaged file is not found out."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    [graph] = model.subgraphs
    types = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    codes = [max(one.builtinCode, one.deprecatedBuiltinCode) for one in model.operatorCodes]

    def numbers(index: int) -> Numbers:
        tensor = graph.tensors[index]
        quantized = tensor.quantization
        stored = quantized is not None and quantized.scale is not None and len(quantized.scale) > 0
        scale, zero_point = (float(quantized.scale[0]), int(quantized.zeroPoint[0])) if stored else (1.0, 0)
        return Numbers(tuple(map(int, tensor.shape[1:])), types[tensor.type], scale, zero_point)

    [given], [outputs] = graph.inputs, graph.outputs
    used = Counter(names[codes[one.opcodeIndex]] for one in graph.operators)
    arena = plan_arena(_lifetimes(graph, types))
    return Described(dict(sorted(used.items())), numbers(given), numbers(outputs), arena)


SIZES = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "uint16": 2, "float16": 2, "int32": 4, "float32": 4, "int64": 8}


def _lifetimes(graph: Any, types: dict[int, str]) -> list[tuple[int, int, int]]:
    """Of each tensor that is no constant: its bytes, and the operators by which it is written first and read last."""
    first = dict.fromkeys(map(int, graph.inputs), -1)
    last = dict.fromkeys(map(int, graph.outputs), len(graph.operators))
    for number, operator in enumerate(graph.operators):
        for index in map(int, operator.outputs):
            first.setdefault(index, number)
        for index in map(int, operator.inputs):
            last[index] = max(last.get(index, 0), number)
    needed = []
    for index, begins in first.items():
        tensor = graph.tensors[index]
        size = math.prod(map(int, tensor.shape)) * SIZES[types[tensor.type]]
        needed.append((size, begins, last.get(index, begins)))
    return needed


def plan_arena(tensors: list[tuple[int, int, int]]) -> int:
    """The bytes of an arena that holds tensors of (bytes, first, last), each from its first moment to its last.

    As TensorFlow Lite Micro's planner does: the largest one first, each at the lowest place that is free all its life.
    """
    placed: list[tuple[int, int, int, int]] = []
    for size, first, last in sorted(tensors, reverse=True):
        aligned = -(-size // ALIGNMENT) * ALIGNMENT
        place = 0
        for other, end, begins, ends in sorted(placed):
            if begins <= last and first <= ends and other < place + aligned:
                place = max(place, end)
        placed.append((place, place + aligned, first, last))
    return max((end for _, end, _, _ in placed), default=0)
