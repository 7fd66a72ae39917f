"""The header for microcontrollers is the network's file, and a compiler takes it."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_litert
from keras_pipeline.export.edge import header, litert_files
from keras_pipeline.export.tensorflow_runtimes import quantized
from places import ROOT

EXAMPLE = ROOT / "examples" / "edge" / "check_model.c"
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


def written(content: bytes) -> str:
    described: Any = made_litert.DESCRIBED
    return header.write_header(content, litert_files.describe(content), described)


def compiler(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine: the header is not compiled")
    return found


def test_the_bytes_and_numbers_are_those_of_the_file() -> None:
    content = made_litert.content()
    text = written(content)
    [listed] = re.findall(r"model_bytes\[MODEL_LENGTH\] = \{(.*?)\};", text, re.DOTALL)
    assert bytes(map(int, listed.split(","))) == content
    assert f'#define MODEL_SHA256 "{hashlib.sha256(content).hexdigest()}"' in text
    assert "#define MODEL_INPUT_SCALE 2.0f\n#define MODEL_INPUT_ZERO_POINT (-128)" in text
    assert "#define MODEL_OUTPUT_SCALE 0.25f\n#define MODEL_OUTPUT_ZERO_POINT (-4)" in text
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 120


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The example, compiled for this machine beside a header."""
    (tmp_path / "model.h").write_text(written(made_litert.content()))
    return compiled(tmp_path)


def compiled(folder: Path) -> Path:
    made = folder / "check_model"
    command = [compiler("gcc"), "-std=c11", *STRICT, "-I", folder, EXAMPLE, "-lm", "-o", made]
    subprocess.run(command, check=True, timeout=120)
    return made


def test_a_program_in_c_finds_the_bytes_whole_and_takes_raw_pixels_as_python_does(program: Path) -> None:
    content, raw = made_litert.content(), np.array([0, 3, 128, 255], np.uint8)
    done = subprocess.run([program], input=raw.tobytes(), capture_output=True, check=True, timeout=20)
    first, numbers, last = done.stdout.decode().splitlines()
    assert first == f"{len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}: whole"
    scale, zero_point = made_litert.INPUT
    expected = quantized(raw + np.float32(0), {"dtype": np.int8, "quantization": (scale, zero_point)})
    assert [int(one) for one in numbers.split()] == expected.tolist()
    assert "was not run" in last


def test_a_program_in_c_finds_a_changed_byte(tmp_path: Path) -> None:
    content = made_litert.content()
    changed = bytes([*content[:-1], content[-1] ^ 1])
    text = written(content)
    (tmp_path / "model.h").write_text(text.replace(f"{content[-1]}\n}};", f"{changed[-1]}\n}};"))
    assert (tmp_path / "model.h").read_text() != text
    done = subprocess.run([compiled(tmp_path)], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20)
    assert done.returncode == 1
    assert b"DAMAGED" in done.stdout


def test_a_compiler_of_c_plus_plus_takes_it_too_with_any_class_names(tmp_path: Path) -> None:
    (tmp_path / "model.h").write_text(written(made_litert.content()))
    source = '#include <cstdio>\n#include "model.h"\nint main() {\n'
    source += "for (auto name : model_class_names) std::puts(name);\nreturn model_bytes[0] == 255; }\n"
    (tmp_path / "main.cpp").write_text(source)
    command = [compiler("g++"), "-std=c++17", *STRICT, tmp_path / "main.cpp", "-o", tmp_path / "main"]
    subprocess.run(command, check=True, timeout=120)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.splitlines() == made_litert.DESCRIBED["class_names"]
