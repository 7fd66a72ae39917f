"""A program of its own: how long a LiteRT file from standard input takes for one input, and how much memory."""

import json
import sys
import time
from collections.abc import Callable

import numpy as np
import psutil
from typing_extensions import TypedDict

from keras_pipeline.core import terminal

LONGEST_SECONDS = 3.0
MOST = 5000


class Timing(TypedDict):
    """`median`, `p99`: microseconds of one input; `memory`: the bytes that the process got for the file, its tensors
    and what the runtime makes of them."""

    median: float
    p99: float
    memory: int


def time_one_input(read: Callable[[], bytes]) -> Timing:
    """Of the same input again and again, on one thread, after a tenth that is not counted."""
    with terminal.withheld_errors():
        from ai_edge_litert.interpreter import Interpreter

        before = psutil.Process().memory_info().rss
        interpreter = Interpreter(model_content=read(), num_threads=1)
        interpreter.allocate_tensors()
        [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
        one = (np.arange(np.prod(taken["shape"])) % 101).astype(taken["dtype"]).reshape(taken["shape"])
        seconds: list[float] = []
        end = time.monotonic() + LONGEST_SECONDS
        while len(seconds) < MOST and time.monotonic() < end:
            began = time.perf_counter()
            interpreter.set_tensor(taken["index"], one)
            interpreter.invoke()
            interpreter.get_tensor(given["index"])
            seconds.append(time.perf_counter() - began)
    counted = np.array(seconds[len(seconds) // 10 :]) * 1e6
    memory = psutil.Process().memory_info().rss - before
    return {"median": float(np.median(counted)), "p99": float(np.quantile(counted, 0.99)), "memory": max(0, memory)}


if __name__ == "__main__":
    print(json.dumps(time_one_input(sys.stdin.buffer.read)))
