"""export.json: what a folder of exports holds, of which network and run; read by all that use an export.

Every file of every format stands there with its size and its digest, and is used only as `read_format` gives it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, ModelFileError
from keras_pipeline.core.json_files import Count, Digest, Key, Line, Name, Size, read_json, refuse
from keras_pipeline.data import earlier
from keras_pipeline.data.encoding import TableInput, check_table, number_columns
from keras_pipeline.data.statistics import ScalingConstants, TaskName

NAME = "export.json"
FORMAT = 2
"""Of export.json. A change that an older reader would misread counts it up; 1 knew one form of images and of tables."""
PATHS = {
    "onnx": "model.onnx",
    "javascript": "javascript",
    "litert_float32": "model.float32.tflite",
    "litert_dynamic_int8": "model.dynamic_int8.tflite",
    "litert_int8": "model.int8.tflite",
    "saved_model": "saved_model",
}
"""The file or the folder of each format, in the folder of exports."""
JAVASCRIPT_NETWORK, JAVASCRIPT_PROGRAM = "javascript/network.js", "javascript/predict.js"
RelativePath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,99}){0,3}$")
]
"""One that leads to nowhere outside the folder."""


class ImageInput(TypedDict):
    """Pixels (n, height, width), with more than one channel (n, height, width, channels), of the type `dtype` as NumPy
    writes it, from `low` to `high`."""

    kind: Literal["images"]
    height: Size
    width: Size
    channels: Size
    dtype: Literal["|u1", "<u2", "<f4"]
    low: FiniteFloat
    high: FiniteFloat


class ExportedFile(TypedDict):
    """One file: its size and its SHA-256."""

    bytes: Count
    sha256: Digest


class ExportedFormat(TypedDict):
    """The files of one format, by their paths in the folder of exports."""

    files: Annotated[dict[RelativePath, ExportedFile], Field(min_length=1)]


class Manifest(TypedDict):
    """All of export.json.

    `input`: pixels, or of a table its columns as `data.encoding` has them, and the features that they give, which are
    what every format takes: raw values float32 (n, features), of a category 0 and 1.
    `model_sha256`: of the network's file models/model.keras; `run`: the key in models/run.json; `parameters`: how many
    numbers the network keeps; `class_names`: empty where a number is predicted; `target`: a table's column that is
    predicted (None for images); `preparation`: how a picture becomes an input, None where no pictures were trained on;
    `drawing`: how the images were made that a drawing is to look like, None where nobody said; `output_activation`,
    `outputs`: what the network gives for each input, of two classes one number, the probability of the second;
    `scaling`: of the inputs, already inside every format; `formats`: by their names in params.yaml.
    """

    format: int
    model_sha256: Digest
    run: Key
    architecture: Name
    parameters: Count
    task: TaskName
    dataset: Name
    class_names: list[Line]
    target: Line | None
    input: Annotated[ImageInput | TableInput, Field(discriminator="kind")]
    preparation: dict[str, Any] | None
    drawing: dict[str, Any] | None
    output_activation: Name
    outputs: Size
    scaling: ScalingConstants
    formats: dict[Name, ExportedFormat]


MANIFEST = TypeAdapter(Manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write export.json into the folder, atomically; the same manifest gives the same bytes."""
    files.write_json(folder / NAME, manifest)


def read_manifest(folder: Path) -> Manifest:
    """The export.json of the folder, of this version or an earlier one. Raises ModelFileError where it is missing,
    damaged, contradicts itself, or is of a newer version."""
    path = folder / NAME

    def upgraded(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if (found := value.get("format")) not in range(1, FORMAT + 1):
            raise DataError(
                f"{path}: of format {found!a:.60}. Expected: 1 to {FORMAT}; a newer version wrote it, or it is no "
                f"export. {files.remedy('export')}"
            )
        return {**value, **_since_first(value)} if found == 1 else value

    try:
        return read_json(path, MANIFEST, "export", upgrade=upgraded, check=_check_whole)
    except DataError as fault:
        raise ModelFileError(str(fault)) from None


def _since_first(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What format 1 did not say, because it followed from the rest."""
    target: Any = manifest.get("target")
    given, dataset = manifest.get("input"), manifest.get("dataset")
    block: dict[str, Any] = {}
    if isinstance(given, dict) and given.get("kind") == "images":
        block = {"input": {"dtype": "|u1", "low": 0.0, "high": 255.0, **given}}
    elif isinstance(given, dict) and isinstance(given.get("features"), list):
        block = {"input": number_columns(given["features"], target)}
    return {**block, "preparation": None, "drawing": earlier.DRAWINGS.get(str(dataset)), "format": FORMAT}


def _check_whole(manifest: Manifest) -> None:
    names, given = manifest["class_names"], manifest["input"]
    if given["kind"] == "table":
        check_table(given, "input")
    if manifest["target"] != given.get("target"):
        refuse("target", manifest["target"], str(given.get("target", "null")))
    if given["kind"] == "images" and manifest["task"] == "regression":
        refuse("input.kind", "images", "a table, for the task regression")
    if given["kind"] == "images" and not given["low"] < given["high"]:
        refuse("input.high", given["high"], f"more than {given['low']:g}, the least that a pixel is")
    fitting = {"regression": not names, "binary": len(names) == 2, "classes": len(names) > 1}[manifest["task"]]
    if not fitting:
        refuse("class_names", names, f"those of the task {manifest['task']}")
    expected = len(names) if len(names) > 2 else 1
    if manifest["outputs"] != expected:
        refuse("outputs", manifest["outputs"], f"{expected}, for {len(names)} classes")
    for name, described in manifest["formats"].items():
        path = PATHS.get(name, "")
        for file in described["files"]:
            if file != path and not file.startswith(f"{path}/"):
                refuse(f"formats.{name}.files", file, f"{path or 'a format of this version'}, or what is in it")


def check_exports(folder: Path, model: str) -> None:
    """Raise ModelFileError where the folder holds exports of another network than that whose file has this digest."""
    if not (folder / NAME).is_file():
        return
    found = read_manifest(folder)["model_sha256"]
    if found != model:
        raise ModelFileError(
            f"{folder / NAME}: exports of the network {found[:12]}…. Expected: those of {model[:12]}…, which is the "
            f"network here. {files.remedy('export')}"
        )


def describe_format(folder: Path, paths: Sequence[str]) -> ExportedFormat:
    """What the manifest says of the files at these paths in the folder."""
    return {
        "files": {
            path: {"bytes": (folder / path).stat().st_size, "sha256": files.file_sha256(folder / path)}
            for path in sorted(paths)
        }
    }


def size_of(described: ExportedFormat) -> int:
    """The bytes of all its files."""
    return sum(file["bytes"] for file in described["files"].values())


def read_format(folder: Path, manifest: Manifest, name: str) -> Mapping[str, bytes]:
    """The contents of a format's files by their paths, each with the size and the digest that the manifest says.

    Use these bytes, not the files: what was checked is what is used. Raises ModelFileError where the format was not
    exported, or a file is missing or another one.
    """
    if name not in manifest["formats"]:
        made = ", ".join(manifest["formats"]) or "none"
        raise ModelFileError(
            f"{folder / NAME}: got the formats: {made}. Expected: {name} among them. Add it to export.formats in "
            "params.yaml, and run `dvc repro export`."
        )
    contents = {}
    for relative, expected in manifest["formats"][name]["files"].items():
        path = folder / relative
        try:
            content = files.read_content(path, "export", most=files.LARGEST_MODEL)
        except DataError as fault:
            raise ModelFileError(str(fault)) from None
        found = hashlib.sha256(content).hexdigest()
        if found != expected["sha256"]:
            raise ModelFileError(
                f"{path}: got {len(content)} bytes with the digest {found[:12]}…. Expected: {expected['bytes']} with "
                f"{expected['sha256'][:12]}…, which {NAME} names: one of them was changed. "
                "`dvc checkout --force` gets back those that belong together, `dvc repro --force export` makes them "
                "anew."
            )
        contents[relative] = content
    return contents
