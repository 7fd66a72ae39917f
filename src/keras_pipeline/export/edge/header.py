"""A network as a header in C, for microcontrollers: its bytes, and what its input and outputs are."""

import hashlib
import math
import zlib

from keras_pipeline.export.edge.litert_files import Described
from keras_pipeline.export.manifest import Manifest

A_LINE = 24
"""Bytes in a line of it."""


def write_header(content: bytes, described: Described, manifest: Manifest) -> str:
    """The int8 file as a header of C11 and C++: its bytes, and what a program must know of its input and outputs."""
    taken, given = described.input, described.output
    names = manifest["class_names"]
    fields: dict[str, object] = {
        "MODEL_LENGTH": f"{len(content)}u",
        "MODEL_SHA256": f'"{hashlib.sha256(content).hexdigest()}"',
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
    shape = " x ".join(map(str, taken.shape))
    about = manifest["input"]
    raw = f"pixels, {about['low']:g} to {about['high']:g}" if about["kind"] == "images" else "features of a row"
    defined = "\n".join(f"#define {name} {value}" for name, value in fields.items())
    listed = ", ".join(map(_literal, names))
    numbers = ",\n".join(
        ",".join(map(str, content[start : start + A_LINE])) for start in range(0, len(content), A_LINE)
    )
    return f"""\
/* The network of the run {manifest["run"]}, of the data {manifest["dataset"]}, as a LiteRT file: `keras-pipeline edge`.
 *
 * It takes int8 ({shape}): raw / MODEL_INPUT_SCALE + MODEL_INPUT_ZERO_POINT, rounded, from -128 to 127.
 * Raw are {raw}. It gives int8: (output - MODEL_OUTPUT_ZERO_POINT) * MODEL_OUTPUT_SCALE.
 * MODEL_ARENA_BYTES: what its tensors need; a runtime needs some more. Operators: {", ".join(described.operators)}. */
#ifndef KERAS_PIPELINE_MODEL_H
#define KERAS_PIPELINE_MODEL_H

{defined}

#ifdef __cplusplus
#define MODEL_ALIGNED alignas(16)
#else
#define MODEL_ALIGNED _Alignas(16)
#endif

{f"static const char *const model_class_names[MODEL_CLASSES] = {{{listed}}};" if names else ""}
MODEL_ALIGNED static const unsigned char model_bytes[MODEL_LENGTH] = {{
{numbers}
}};

#endif
"""


def _literal(text: str) -> str:
    """As a string of C, in UTF-8."""
    plain = {code for code in range(32, 127) if chr(code) not in '"\\?'}
    return '"' + "".join(chr(code) if code in plain else f"\\{code:03o}" for code in text.encode()) + '"'
