"""Each format in its own runtime, in processes of its own: its answers to raw inputs, and how long they took.

Adding a format is adding a row to `RUNTIMES`: a function that opens the format from the folder of exports and gives
the function that answers, both on one thread.
"""

import itertools
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core import limits, process
from keras_pipeline.core.array_files import Expected, read_arrays
from keras_pipeline.core.errors import MachineError
from keras_pipeline.export import manifest

Raw = NDArray[Any]
Answer = Callable[[Raw], NDArray[np.float32]]
"""Of raw inputs (n, ...) the outputs, float32 (n, k)."""
BATCH = 256
SINGLE, SINGLE_SECONDS = 500, 2.0
"""So many inputs, and not for longer, are also asked one at a time, for the latency; the first `WARM_UP` uncounted."""
WARM_UP = 10
LONG_WORK = 2e9
"""Products of two numbers that are too many for one process that runs JavaScript, where there are more cores."""


@dataclass(frozen=True)
class Answers:
    """What a format answered, float32 (n, k). All else is of one thread: the seconds that one input took, median and
    99th percentile, and that all took in batches; the most bytes of memory that its process had, with Python."""

    outputs: NDArray[np.float32]
    latency_median: float
    latency_p99: float
    seconds: float
    memory: int


def ask_format(name: str, folder: Path, raw: Raw, outputs: int, multiplications: int) -> Answers:
    """The answers of a format in the folder of exports to these raw inputs, of `outputs` numbers each;
    `multiplications`: the work of one input. Raises MachineError where its runtime's process was ended."""
    parts = (
        min(limits.available_cores(), math.ceil(len(raw) * multiplications / LONG_WORK), len(raw))
        if name == "javascript"
        else 1
    )
    with tempfile.TemporaryDirectory() as exchange:
        given = Path(exchange) / "raw.npy"
        np.save(given, raw)
        ends = [len(raw) * part // parts for part in range(parts + 1)]
        slices = list(itertools.pairwise(ends))
        made = [Path(exchange) / f"{start}.npz" for start, _ in slices]
        _run(name, [
            process.python("-m", __name__, name, str(folder), str(given), str(start), str(stop), str(file))
            for (start, stop), file in zip(slices, made, strict=True)
        ])  # fmt: skip
        found = []
        for (start, stop), file in zip(slices, made, strict=True):
            expected = {
                "outputs": Expected("<f4", (stop - start, outputs)),
                "latency": Expected("<f8", (2,)),
                "seconds": Expected("<f8", ()),
                "memory": Expected("<i8", ()),
            }
            found.append(read_arrays(file, expected, "export"))
    median, p99 = found[0]["latency"]
    seconds = sum(float(part["seconds"]) for part in found)
    outputs_of_all = np.concatenate([part["outputs"] for part in found])
    return Answers(outputs_of_all, float(median), float(p99), seconds, int(found[0]["memory"]))


def _run(name: str, commands: list[list[str]]) -> None:
    """Run them together; raises MachineError where a signal ends one, RuntimeError where it fails."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        running += [subprocess.Popen(command, stdin=subprocess.DEVNULL) for command in commands]
        codes = [one.wait() for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()
    if ended := [-code for code in codes if code < 0]:
        raise MachineError(
            f"{name}: the process that runs it was ended by signal {ended[0]}, as where memory lacks. Expected: "
            "answers. Run `dvc repro export` again."
        )
    if any(codes):
        raise RuntimeError(f"the runtime of {name} failed; what it said is above")


def measure(name: str, folder: Path, raw: Raw) -> dict[str, Any]:
    """What `ask_format` has read of one process, this one."""
    with RUNTIMES[name](folder) as answer:
        single = []
        began = time.perf_counter()
        for index in range(WARM_UP + SINGLE):
            start = time.perf_counter()
            answer(raw[index % len(raw)][np.newaxis])
            single.append(time.perf_counter() - start)
            if len(single) > WARM_UP and start - began > SINGLE_SECONDS:
                break
        began = time.perf_counter()
        outputs = [answer(raw[start : start + BATCH]) for start in range(0, len(raw), BATCH)]
        seconds = time.perf_counter() - began
    latency = np.percentile(single[WARM_UP:], [50, 99])
    return {"outputs": np.concatenate(outputs), "latency": latency, "seconds": seconds, "memory": _most_memory()}


def _most_memory() -> int:
    """The most bytes of memory that this process had."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@contextmanager
def _onnx(folder: Path) -> Iterator[Answer]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    content = (folder / manifest.PATHS["onnx"]).read_bytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    yield lambda raw: session.run(None, {name: raw})[0]


@contextmanager
def _javascript(folder: Path) -> Iterator[Answer]:
    from py_mini_racer import MiniRacer

    with MiniRacer() as engine:
        engine.eval(BROWSER)
        for path in (manifest.JAVASCRIPT_NETWORK, manifest.JAVASCRIPT_PROGRAM):
            engine.eval((folder / path).read_text(encoding="utf-8"))
        engine.eval(ASKING)

        def answer(raw: Raw) -> NDArray[np.float32]:
            kind = {"|u1": "Uint8Array", "<u2": "Uint16Array", "<f4": "Float32Array"}[raw.dtype.str]
            given: Any = engine.eval(f"made = given = new ArrayBuffer({raw.nbytes})")
            given[:] = raw.tobytes()
            made: Any = engine.eval(f"made = answer(new {kind}(given), {len(raw)})")
            return np.frombuffer(bytes(made), "<f4").reshape(len(raw), -1)

        yield answer


BROWSER = """
globalThis.atob = (text) => {  // which V8 has not by itself
  const values = new Uint8Array(128), bytes = [], parts = [];
  [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].forEach((sign, value) => {
    values[sign.charCodeAt(0)] = value;
  });
  for (let i = 0; i < text.length; i += 4) {
    let four = 0;
    for (let j = i; j < i + 4; j++) four = (four << 6) | values[text.charCodeAt(j)];
    bytes.push(four >> 16, (four >> 8) & 255, four & 255);
    if (bytes.length > 9999) parts.push(String.fromCharCode(...bytes.splice(0)));
  }
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  return (parts.join("") + String.fromCharCode(...bytes)).slice(0, (text.length / 4) * 3 - padding);
};
"""
ASKING = """
const network = loadNetwork(KERAS_PIPELINE_NETWORK);
let given, made;
const answer = (inputs, count) => {
  const length = inputs.length / count;
  const outputs = Array.from({length: count}, (_, i) => network.predict(inputs.subarray(i * length, (i + 1) * length)));
  const all = new Float32Array(count * outputs[0].length);
  outputs.forEach((one, i) => all.set(one, i * one.length));
  return all.buffer;
};
"""


def _litert(name: str, folder: Path) -> AbstractContextManager[Answer]:
    from keras_pipeline.export.tensorflow_runtimes import open_litert

    return nullcontext(open_litert((folder / manifest.PATHS[name]).read_bytes()))


def _saved_model(folder: Path) -> AbstractContextManager[Answer]:
    from keras_pipeline.export.tensorflow_runtimes import open_saved_model

    return nullcontext(open_saved_model(folder / manifest.PATHS["saved_model"]))


RUNTIMES: dict[str, Callable[[Path], AbstractContextManager[Answer]]] = {
    "onnx": _onnx,
    "javascript": _javascript,
    **{name: partial(_litert, name) for name in ("litert_float32", "litert_dynamic_int8", "litert_int8")},
    "saved_model": _saved_model,
}
"""What opens each format, by its name in params.yaml."""


if __name__ == "__main__":
    chosen, exports, inputs, first, end, file = sys.argv[1:]
    array = np.load(inputs, mmap_mode="r")[int(first) : int(end)]
    np.savez(file, **measure(chosen, Path(exports), array))
