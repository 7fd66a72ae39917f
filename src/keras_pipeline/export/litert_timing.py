"""A program of its own: how long a LiteRT file from standard input takes for one input, and how much memory."""

import json
import resource
import sys
import time
from typing import TypedDict

import numpy as np

from keras_pipeline.core import terminal

LONGEST_SECONDS = 3.0
MOST = 5000


class Timing(TypedDict):
    """`median`, `p99`: microseconds of one input; `memory`: the bytes by which the process grew at most."""

    median: float
    p99: float
    memory: int


def time_one_input(content: bytes) -> Timing:
    """Of the same input again and again, on one thread, after a few that are not counted."""
    from ai_edge_litert.interpreter import Interpreter

    before = _peak()
    with terminal.withheld_errors():
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
        one = np.random.default_rng(0).integers(0, 127, taken["shape"]).astype(taken["dtype"])
        seconds: list[float] = []
        end = time.monotonic() + LONGEST_SECONDS
        while len(seconds) < MOST and time.monotonic() < end:
            began = time.perf_counter()
            interpreter.set_tensor(taken["index"], one)
            interpreter.invoke()
            interpreter.get_tensor(given["index"])
            seconds.append(time.perf_counter() - began)
    counted = np.array(seconds[min(50, len(seconds) // 10) :]) * 1e6
    return {
        "median": float(np.median(counted)),
        "p99": float(np.quantile(counted, 0.99)),
        "memory": _peak() - before,
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(time_one_input(sys.stdin.buffer.read())))
