"""The answers of a SavedModel and of a LiteRT file to raw inputs, each by the runtime that is made for it."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import files, terminal

BATCH = 1000


def litert_outputs(content: bytes, raw: NDArray[Any]) -> NDArray[np.float32]:
    """The outputs float32 (n, outputs) of a LiteRT file, on one thread, for raw inputs: pixels uint8 (n, height, width)
    or features float32 (n, features). What takes and gives int8 is given and understood by its scales and zero points.

    A damaged file may end the process: only give it bytes whose digest is known.
    """
    with terminal.withheld_errors():
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=content, num_threads=1)
        [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
        outputs = []
        for some in _batches(raw):
            interpreter.resize_tensor_input(taken["index"], [len(some), *taken["shape"][1:]])
            interpreter.allocate_tensors()
            interpreter.set_tensor(taken["index"], quantized(some, taken))
            interpreter.invoke()
            outputs.append(_real(interpreter.get_tensor(given["index"]), given))
    return np.concatenate(outputs)


def quantized(raw: NDArray[Any], taken: Mapping[str, Any]) -> NDArray[Any]:
    """Raw inputs as an input of these details takes them."""
    if taken["dtype"] != np.int8:
        return raw
    scale, zero_point = taken["quantization"]
    numbers = np.rint(raw.astype(np.float32) / np.float32(scale)) + zero_point
    clipped: NDArray[np.int8] = np.clip(numbers, -128, 127).astype(np.int8)
    return clipped


def _real(numbers: NDArray[Any], given: Mapping[str, Any]) -> NDArray[np.float32]:
    if given["dtype"] != np.int8:
        return numbers.astype(np.float32)
    scale, zero_point = given["quantization"]
    return (numbers.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def saved_model_outputs(contents: Mapping[str, bytes], raw: NDArray[Any]) -> NDArray[np.float32]:
    """The outputs float32 (n, outputs) of the files of a SavedModel, by their paths in the folder of exports."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        for path, content in contents.items():
            files.write_atomically(Path(folder, path), content)
        with terminal.withheld_errors():
            loaded = tf.saved_model.load(str(Path(folder, next(iter(contents))).parent))
        answer = loaded.signatures[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
        [name] = answer.structured_input_signature[1]
        return np.concatenate([answer(**{name: tf.constant(some)})["outputs"].numpy() for some in _batches(raw)])


def _batches(raw: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(raw), BATCH):
        yield raw[start : start + BATCH]
