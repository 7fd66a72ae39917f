"""export.json: read as it was written, and refused where it, or a file it names, is another."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from exported import CLASSES, NUMBERS, exported_folder
from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.export import manifest

FILES = {"model.onnx": b"onnx", manifest.JAVASCRIPT_NETWORK: b"network", manifest.JAVASCRIPT_PROGRAM: b"program"}


@pytest.mark.parametrize("described", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_what_is_written_is_read_with_the_files_of_each_format(tmp_path: Path, described: dict[str, Any]) -> None:
    exported_folder(tmp_path, FILES, described)
    read = manifest.read_manifest(tmp_path)
    assert {**read, "formats": {}} == described
    assert manifest.read_format(tmp_path, read, "onnx") == {"model.onnx": b"onnx"}
    scripts = manifest.read_format(tmp_path, read, "javascript")
    assert scripts == {manifest.JAVASCRIPT_NETWORK: b"network", manifest.JAVASCRIPT_PROGRAM: b"program"}
    assert manifest.size_of(read["formats"]["javascript"]) == 14
    for name, expected in read["formats"].items():
        assert manifest.describe_format(tmp_path, list(expected["files"])) == expected, name


@pytest.mark.parametrize("described", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_what_the_first_format_says_is_still_read(tmp_path: Path, described: dict[str, Any]) -> None:
    """It knew pixels from 0 to 255, and tables of numbers."""
    since = {"dtype", "low", "high", "columns", "target", "missing", "missing_values"}
    first = {key: value for key, value in described.items() if key not in ("preparation", "drawing")}
    first |= {"format": 1, "input": {key: value for key, value in described["input"].items() if key not in since}}
    (tmp_path / manifest.NAME).write_text(json.dumps(first))
    assert manifest.read_manifest(tmp_path) == described


def test_the_same_manifest_gives_the_same_bytes(tmp_path: Path) -> None:
    first = (exported_folder(tmp_path / "first", FILES) / manifest.NAME).read_bytes()
    assert (exported_folder(tmp_path / "second", FILES) / manifest.NAME).read_bytes() == first


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("format", 3, "of format 3. Expected: 1 to 2"),
        ("format", "x", "of format 'x'"),
        ("model_sha256", "../model.keras", "model_sha256: got"),
        ("run", None, "run: got null"),
        ("task", "regression", "input.kind: got \"images\". Expected: a table, for the task regression"),
        ("target", "y", "target: got \"y\". Expected: null"),
        ("class_names", ["0"], "class_names: got"),
        ("outputs", 3, "outputs: got 3. Expected: 10, for 10 classes"),
        ("input.height", 0, "input.height: got 0."),
        ("input.dtype", "<f8", "input.dtype: got "),
        ("input.high", 0.0, "input.high: got 0.0. Expected: more than 0"),
        ("scaling.divisor", 0, "scaling.divisor: got 0"),
        ("formats", {"onnx": {"files": {"model.onnx": {"bytes": 1, "sha256": "x"}}}}, "formats.onnx.files"),
        ("formats", {"onnx": {"files": {}}}, "formats.onnx.files"),
        ("formats", {"onnx": {"files": {"../x": {"bytes": 1, "sha256": "a" * 64}}}}, "formats.onnx.files"),
        ("formats", {"onnx": {"files": {"javascript/x": {"bytes": 1, "sha256": "a" * 64}}}}, "Expected: model.onnx"),
        ("formats", {"pmml": {"files": {"x": {"bytes": 1, "sha256": "a" * 64}}}}, "a format of this version"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused_with_its_place(
    tmp_path: Path, place: str, value: Any, message: str
) -> None:
    damaged = copy.deepcopy(CLASSES)
    *above, last = place.split(".")
    block = damaged
    for part in above:
        block = block[part]
    block[last] = value
    (tmp_path / manifest.NAME).write_text(json.dumps(damaged))
    with pytest.raises(ModelFileError) as caught:
        manifest.read_manifest(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / manifest.NAME}: ")
    assert message in str(caught.value)
    assert "dvc repro export" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format": NaN}'])
def test_what_is_no_json_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / manifest.NAME).write_bytes(content)
    with pytest.raises(ModelFileError, match="Expected"):
        manifest.read_manifest(tmp_path)
    with pytest.raises(ModelFileError, match="not there"):
        manifest.read_manifest(tmp_path / "elsewhere")


def test_a_file_that_is_missing_or_another_one_is_not_given(tmp_path: Path) -> None:
    read = manifest.read_manifest(exported_folder(tmp_path, FILES))
    (tmp_path / "model.onnx").write_bytes(b"onny")
    with pytest.raises(ModelFileError, match=r"model\.onnx: got 4 bytes with the digest .*dvc checkout"):
        manifest.read_format(tmp_path, read, "onnx")
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(ModelFileError, match=r"model\.onnx: not there"):
        manifest.read_format(tmp_path, read, "onnx")
    with pytest.raises(ModelFileError, match=r"got the formats: onnx, javascript\. Expected: litert_int8 among them"):
        manifest.read_format(tmp_path, read, "litert_int8")
