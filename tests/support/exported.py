"""A manifest of exports as the stage writes it, and folders that have one."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from keras_pipeline.data.encoding import number_columns
from keras_pipeline.export import manifest, runtimes


def image_input(height: int, width: int, channels: int = 1, dtype: str = "|u1", high: float = 255.0) -> dict[str, Any]:
    """The input of a network of such images, from 0 to `high`."""
    size = {"height": height, "width": width, "channels": channels}
    return {"kind": "images", **size, "dtype": dtype, "low": 0.0, "high": high}


DRAWINGS: dict[str, dict[str, Any]] = {
    "mnist": {"box": 20, "centre": "mass", "dark_border": True},
    "kmnist": {"box": 26, "centre": "box", "dark_border": True},
    "digits": {"box": 28, "centre": "box", "dark_border": True},
    "fashion_mnist": {"box": 28, "centre": "box", "dark_border": False},
}
"""How the images of these datasets were made, as their files in datasets/ say."""
CLASSES: dict[str, Any] = {
    "format": 2,
    "model_sha256": "a" * 64,
    "run": "b" * 32,
    "architecture": "mlp",
    "parameters": 535818,
    "task": "classes",
    "dataset": "mnist",
    "class_names": list("0123456789"),
    "target": None,
    "input": image_input(28, 28),
    "preparation": None,
    "drawing": DRAWINGS["mnist"],
    "output_activation": "softmax",
    "outputs": 10,
    "scaling": {"name": "unit", "offset": 0.0, "divisor": 255.0},
    "formats": {},
}  # fmt: skip
"""Of the default network, without any format."""
NUMBERS: dict[str, Any] = {
    **CLASSES,
    "architecture": "layers",
    "parameters": 2,
    "task": "regression",
    "dataset": "line",
    "class_names": [],
    "target": "y",
    "input": number_columns(["x"], "y"),
    "drawing": None,
    "output_activation": "linear",
    "outputs": 1,
    "scaling": {"name": "unit", "offset": [0.0], "divisor": [10.0]},
}


def exported_folder(folder: Path, contents: dict[str, bytes], described: dict[str, Any] = CLASSES) -> Path:
    """The folder with these files, each of the format whose path it has, and the manifest that names them."""
    formats: dict[str, Any] = {}
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        name = next(name for name, own in manifest.PATHS.items() if path == own or path.startswith(f"{own}/"))
        entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        formats.setdefault(name, {"files": {}})["files"][path] = entry
    whole: Any = {**described, "formats": formats}
    manifest.write_manifest(folder, whole)
    return folder


def ask_formats_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage export asks its formats in this process, which takes a second less each."""

    def ask(name: str, folder: Path, raw: Any, outputs: int, multiplications: int) -> runtimes.Answers:
        found = runtimes.measure(name, folder, raw)
        return runtimes.Answers(found["outputs"], *found["latency"], found["seconds"], found["memory"])

    monkeypatch.setattr(runtimes, "ask_format", ask)
    monkeypatch.setattr(runtimes, "SINGLE", 20)
