"""A SavedModel and a LiteRT file, each opened by the runtime that is made for it, to be given raw inputs."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import terminal

Answer = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Of raw inputs, pixels uint8 (n, height, width) or features float32 (n, features), the outputs, float32 (n, k)."""


def open_litert(content: bytes) -> Answer:
    """The answers of a LiteRT file, on one thread. What takes and gives int8 is given and understood by its scales and
    zero points.

    A damaged file may end the process: only give it bytes whose digest is known.
    """
    with terminal.withheld_errors():
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
    count = 1

    def answer(raw: NDArray[Any]) -> NDArray[np.float32]:
        nonlocal count
        if len(raw) != count:
            count = len(raw)
            interpreter.resize_tensor_input(taken["index"], [count, *taken["shape"][1:]])
            with terminal.withheld_errors():
                interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], quantized(raw, taken))
        interpreter.invoke()
        return _real(interpreter.get_tensor(given["index"]), given)

    return answer


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
        return numbers
    scale, zero_point = given["quantization"]
    return (numbers.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def open_saved_model(folder: Path) -> Answer:
    """The answers of the SavedModel in a folder, on one thread where TensorFlow has not begun to compute."""
    with terminal.withheld_errors():
        import tensorflow as tf

        with suppress(RuntimeError):  # it has, as in tests
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        loaded = tf.saved_model.load(str(folder))
    function = loaded.signatures[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
    [name] = function.structured_input_signature[1]

    def answer(raw: NDArray[Any]) -> NDArray[np.float32]:
        outputs: NDArray[np.float32] = function(**{name: tf.constant(raw)})["outputs"].numpy()
        return outputs

    return answer
