"""The page's own scripts, run without a browser, and a small network in JavaScript for the page."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from py_mini_racer import MiniRacer

from keras_pipeline.serving.page import files as page_files


class Scripts:
    """An engine in which these scripts of the page were run."""

    def __init__(self, *names: str) -> None:
        self._engine = MiniRacer()
        for name in names:
            self.run(name)

    def run(self, name: str) -> None:
        """One more script."""
        self._engine.eval((page_files.FOLDER / name).read_text(encoding="utf-8"))

    def do(self, program: str) -> Any:
        """What the body of a function gives, by way of JSON."""
        return json.loads(str(self._engine.eval(f"JSON.stringify((() => {{ {program} }})() ?? null)")))

    def call(self, function: str, *arguments: Any) -> Any:
        """What the function gives, by way of JSON."""
        written = ", ".join(json.dumps(one) for one in arguments)
        return self.do(f"return {function}({written});")


def linear_network(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> dict[str, bytes]:
    """The two files of an export as JavaScript, of a network without hidden layers: softmax of `weights` (classes,
    pixels) times the pixels and `bias`; linear where it has one output."""
    described = {
        name: base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()
        for name, values in (("weights", weights), ("bias", bias))
    }
    program = """
        globalThis.loadNetwork = (description) => {
          const read = (text) => new Float32Array(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);
          const [weights, bias] = [read(description.weights), read(description.bias)];
          return {
            predict(input) {
              const size = input.length;
              const sums = bias.map((one, row) => input.reduce((sum, x, i) => sum + x * weights[row * size + i], one));
              if (sums.length === 1) return sums;
              const powers = sums.map((one) => Math.exp(one - Math.max(...sums)));
              return powers.map((one) => one / powers.reduce((sum, other) => sum + other, 0));
            },
          };
        };
    """
    network = f"globalThis.KERAS_PIPELINE_NETWORK = {json.dumps(described)};"
    return {"javascript/network.js": network.encode(), "javascript/predict.js": program.encode()}


def layered(picture: NDArray[np.uint8]) -> dict[str, Any]:
    """As preprocess.js takes a picture (height, width, channels)."""
    height, width, channels = picture.shape
    layers = [picture[..., channel].reshape(-1).tolist() for channel in range(channels)]
    return {"layers": layers, "width": width, "height": height}


def moved(strokes: Sequence[Sequence[float]], factor: float, x: float, y: float) -> list[list[float]]:
    """The same drawing, of another size, elsewhere."""
    return [[value * factor + (y if index % 2 else x) for index, value in enumerate(stroke)] for stroke in strokes]
