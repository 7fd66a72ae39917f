"""The LiteRT files on one thread, one input at a time, as on a small device."""

import os
import subprocess
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from keras_pipeline.core import files, json_files, process
from keras_pipeline.core.errors import MachineError, ParamsError
from keras_pipeline.export.edge import litert_files
from keras_pipeline.export.edge.header import write_header
from keras_pipeline.export.edge.litert_files import Described
from keras_pipeline.export.edge.timing import Timing
from keras_pipeline.export.manifest import NAME, read_format, read_manifest

FORMATS = ("litert_float32", "litert_dynamic_int8", "litert_int8")
FOR_MICROCONTROLLERS = "litert_int8"
TIMING = TypeAdapter(Timing)


def check_edge(exported: Path, header: Path) -> None:
    """Print what each LiteRT file of the folder of exports takes: time, memory, operators. Write the int8 one, if it is
    there, as a header in C.

    Raises ParamsError where there is none, ModelFileError where one is not what the manifest names.
    """
    manifest = read_manifest(exported)
    names = [name for name in FORMATS if name in manifest["formats"]]
    if not names:
        raise ParamsError(
            f"{exported / NAME}: got the formats {', '.join(manifest['formats']) or 'none'}. Expected: one of "
            f"{', '.join(FORMATS)}. Add it to export.formats in params.yaml, and run `dvc repro`."
        )
    print(f"edge: {manifest['dataset']} {manifest['architecture']}, of the run {manifest['run'][:12]}")
    for name in names:
        [(path, content)] = read_format(exported, manifest, name).items()
        described = litert_files.describe(content)
        _print(path, content, described, _time(content))
        if name == FOR_MICROCONTROLLERS:
            files.write_atomically(header, write_header(content, described, manifest).encode("ascii"))
            taken = described.input
            print(
                f"edge: {header}: these bytes for C; the input is int8 with scale {taken.scale:g} and zero point "
                f"{taken.zero_point}. docs/edge.md tells how to use it"
            )
    if FOR_MICROCONTROLLERS not in names:
        print(f"edge: no header for microcontrollers: add {FOR_MICROCONTROLLERS} to export.formats in params.yaml")


def _print(path: str, content: bytes, described: Described, timing: Timing) -> None:
    used = [name if count == 1 else f"{name} × {count}" for name, count in described.operators.items()]
    print(
        f"edge: {path}: {len(content):,} bytes; one input in {timing['median']:,.0f} µs, 99 of 100 in "
        f"{timing['p99']:,.0f} µs, one thread; {timing['memory'] / 1e6:.1f} MB of memory, tensors {described.arena:,} "
        "bytes"
    )
    print(f"edge: {path}: {', '.join(used)}")


def _time(content: bytes) -> Timing:
    """In a process of its own, whose memory is that of the file and its runtime."""
    command = process.python("-m", "keras_pipeline.export.edge.timing")
    done = subprocess.run(
        command, input=content, capture_output=True, check=False, env={**os.environ, **process.UTF8_OUTPUT}
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"signal {-done.returncode}"]
        raise MachineError(f"LiteRT does not run the file: {said[-1]}. {files.remedy('export')}")
    value: Any = json_files.parse_json(done.stdout)
    json_files.check_type(value, TIMING)
    timing: Timing = value
    return timing
