"""The LiteRT files on one thread, one input at a time, as on a small device; and the int8 one as a header in C."""

import math
import os
import subprocess
import textwrap
import zlib
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from keras_pipeline.core import files, json_files, process
from keras_pipeline.core.errors import MachineError, ParamsError
from keras_pipeline.export import litert_files
from keras_pipeline.export.litert_files import Described
from keras_pipeline.export.litert_timing import Timing
from keras_pipeline.export.manifest import NAME, Manifest, read_format, read_manifest

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
    for name in names:
        [(path, content)] = read_format(exported, manifest, name).items()
        described = litert_files.describe(content)
        _print(path, content, described, _time(content))
        if name == FOR_MICROCONTROLLERS:
            files.write_atomically(header, write_header(content, described, manifest).encode())
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
    command = process.python("-m", "keras_pipeline.export.litert_timing")
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


def write_header(content: bytes, described: Described, manifest: Manifest) -> str:
    """The int8 file as a header of C11 and C++: its bytes, and what a program must know of its input and outputs."""
    taken, given = described.input, described.output
    names = manifest["class_names"]
    fields: dict[str, object] = {
        "MODEL_LENGTH": f"{len(content)}u",
        "MODEL_SHA256": f'"{manifest["formats"][FOR_MICROCONTROLLERS]["files"]["model.int8.tflite"]["sha256"]}"',
        "MODEL_CRC32": f"{zlib.crc32(content):#010x}u",
        "MODEL_ARENA_BYTES": described.arena,
        "MODEL_INPUTS": math.prod(taken.shape),
        "MODEL_INPUT_SCALE": f"{taken.scale!r}f",
        "MODEL_INPUT_ZERO_POINT": f"({taken.zero_point})",
        "MODEL_OUTPUTS": math.prod(given.shape),
        "MODEL_OUTPUT_SCALE": f"{given.scale!r}f",
        "MODEL_OUTPUT_ZERO_POINT": f"({given.zero_point})",
        "MODEL_CLASSES": len(names),
    }
    shape = " × ".join(map(str, taken.shape))
    defined = "\n".join(f"#define {name} {value}" for name, value in fields.items())
    listed = ", ".join(map(_literal, names))
    numbers = "\n".join(textwrap.wrap(",".join(map(str, content)), 118, break_on_hyphens=False))
    return f"""\
/* The network of the run {manifest["run"]}, of the data {manifest["dataset"]}, as a LiteRT file: `keras-pipeline edge`.
 *
 * It takes int8 ({shape}): raw / MODEL_INPUT_SCALE + MODEL_INPUT_ZERO_POINT, rounded, from -128 to 127, and gives int8:
 * (output - MODEL_OUTPUT_ZERO_POINT) * MODEL_OUTPUT_SCALE. MODEL_ARENA_BYTES: what its tensors need; a runtime needs
 * some more. Operators: {", ".join(described.operators)}. */
#ifndef KERAS_PIPELINE_MODEL_H
#define KERAS_PIPELINE_MODEL_H

{defined}

#ifdef __cplusplus
#define MODEL_ALIGNED alignas(16)
#else
#define MODEL_ALIGNED _Alignas(16)
#endif

{f'static const char *const model_class_names[MODEL_CLASSES] = {{{listed}}};' if names else ""}
MODEL_ALIGNED static const unsigned char model_bytes[MODEL_LENGTH] = {{
{numbers}
}};

#endif
"""


def _literal(text: str) -> str:
    """As a string of C, in UTF-8."""
    plain = {code for code in range(32, 127) if chr(code) not in '"\\?'}
    return '"' + "".join(chr(code) if code in plain else f"\\{code:03o}" for code in text.encode()) + '"'
