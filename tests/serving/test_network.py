"""Which exports are served: an ONNX file with the digest of its manifest and the network that this describes; even then
nothing that it names is opened."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import served_network
from exported import CLASSES, exported_folder, image_input
from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.data.encoding import number_columns
from keras_pipeline.serving import network
from keras_pipeline.serving.network import find_export, load_network, predictions
from served_network import BINARY, TABLE, onnx_network, write_network

LOAD = """
import os, sys; from pathlib import Path
from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.serving.network import load_network
for number in range(int(sys.argv[2])):
    os.chdir(Path(sys.argv[1], str(number)))
    try:
        print("taken", load_network(Path("model")))
    except ModelFileError as refused:
        print("refused:", refused)
"""


def naming(content: bytes, location: str) -> bytes:
    """The network with its first matrix in the file at this location."""
    model = onnx.load_from_string(content)
    weights = next(one for one in model.graph.initializer if one.name == "w0")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return model.SerializeToString()


LOCATIONS = ("{root}/canary", "../canary", "canary", "model/../canary", "linked")


def test_a_file_that_names_another_is_refused_and_the_other_is_not_opened(tmp_path: Path) -> None:
    """Whoever exchanges the manifest too gets past the digest. The other file is a pipe: an open one would wait."""
    content = served_network.onnx_network(CLASSES, 0, [])
    for number, location in enumerate(LOCATIONS):
        folder = tmp_path / f"{number}" / "model"
        exported_folder(folder, {"model.onnx": naming(content, location.format(root=folder.parent))})
        for place in (folder.parent, folder):
            os.mkfifo(place / "canary")
            (place / "linked").symlink_to(folder.parent / "canary")
    command = [sys.executable, "-c", LOAD, tmp_path, f"{len(LOCATIONS)}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(LOCATIONS)
    for line in lines:
        assert line.startswith("refused: model/model.onnx: ONNX Runtime cannot load it: "), line


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "gone"])
def test_a_file_of_another_digest_is_not_loaded(harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = served_network.write_network(tmp_path / "model")
    path = folder / "model.onnx"
    content = path.read_bytes()
    changed = {"cut": content[:-1], "flip": bytes([content[0] ^ 1]) + content[1:], "empty": b"", "gone": None}[harm]
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)
    monkeypatch.setattr(network, "_session", lambda path, content: pytest.fail("it was loaded"))
    with pytest.raises(ModelFileError, match=r"model\.onnx: (got \d+ bytes with the digest|not there)"):
        network.load_network(folder)


def test_another_network_under_a_manifest_is_not_taken_for_its_own(tmp_path: Path) -> None:
    folder = served_network.write_network(tmp_path / "ten")
    described = {**CLASSES, "class_names": ["a", "b", "c"], "outputs": 3}
    content = (folder / "model.onnx").read_bytes()
    with pytest.raises(ModelFileError, match=r"takes and gives .*10.*\. Expected: .*3"):
        network.load_network(exported_folder(tmp_path / "three", {"model.onnx": content}, described))
    shutil.rmtree(folder)
    with pytest.raises(ModelFileError, match=r"export\.json: not there"):
        network.load_network(folder)


def test_what_a_network_says_of_each_task(tmp_path: Path) -> None:
    classes = load_network(write_network(tmp_path / "a"))
    [one] = predictions(classes, np.eye(10, dtype=np.float32)[[3]])
    assert one == {"label": "3", "probabilities": [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]}
    binary = load_network(write_network(tmp_path / "b", BINARY))
    answers = predictions(binary, np.array([[0.25], [0.5], [0.75]], np.float32))
    assert [(one["label"], one["probabilities"]) for one in answers] == [
        ("no", [0.75, 0.25]), ("no", [0.5, 0.5]), ("yes", [0.25, 0.75]),
    ]  # fmt: skip
    table = load_network(write_network(tmp_path / "c", TABLE))
    assert predictions(table, np.array([[1.5]], np.float32)) == [{"value": 1.5}]
    assert table.outputs(np.zeros(3, "<f4").tobytes()).shape == (1, 1)


def test_the_answers_of_a_batch_are_those_of_each(tmp_path: Path) -> None:
    network = load_network(write_network(tmp_path, hidden=[32]))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    together = network.outputs(pixels.tobytes())
    each = np.concatenate([network.outputs(one.tobytes()) for one in pixels])
    assert np.allclose(together, each, rtol=0, atol=1e-6)
    assert np.array_equal(network.outputs(pixels.tobytes()), together)


def test_it_is_called_as_the_registry_has_it_or_as_its_data(tmp_path: Path) -> None:
    folder = write_network(tmp_path)
    assert load_network(folder).told() == {"name": "mnist-mlp", "version": "a" * 12, "run": "b" * 32}
    assert load_network(folder, "digits", "3").told() == {"name": "digits", "version": "3", "run": "b" * 32}


def test_a_folder_or_the_file_in_it_is_named(tmp_path: Path) -> None:
    assert find_export(tmp_path) == tmp_path
    assert find_export(tmp_path / "model.onnx") == tmp_path
    with pytest.raises(ModelFileError, match=r"got another name\. Expected: model\.onnx"):
        find_export(tmp_path / "other.onnx")


def other_bytes(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "export.json").unlink(), "export.json: not there"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx: not there"),
        (other_bytes, "one of them was changed"),
        (lambda folder: (folder / "export.json").write_text("{}"), "of format"),
    ],
)  # fmt: skip
def test_what_is_not_as_export_json_says_is_refused_before_it_is_read(tmp_path: Path, harm: Any, said: str) -> None:
    folder = write_network(tmp_path)
    harm(folder)
    with pytest.raises(ModelFileError, match=said):
        load_network(folder)


def changed(**changes: Any) -> bytes:
    return onnx_network({**CLASSES, **changes}, 0, [])


def foreign_operator() -> bytes:
    model = onnx.load_from_string(onnx_network(CLASSES, 0, []))
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Run", "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return bytes(model.SerializeToString())


def no_number() -> bytes:
    model = onnx.load_from_string(onnx_network(CLASSES, 0, []))
    weights = next(one for one in model.graph.initializer if one.name == "b0")
    weights.raw_data = np.full(10, np.nan, np.float32).tobytes()
    return bytes(model.SerializeToString())


CANNOT = "ONNX Runtime cannot load it"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no network", CANNOT), (b"", CANNOT),
        (onnx_network(CLASSES, 0, [])[:1000], CANNOT),
        (foreign_operator(), CANNOT),
        (no_number(), "gives no 10 numbers for inputs of zeros"), (changed(outputs=7), "takes and gives"),
        (changed(input=image_input(28, 27)), "takes and gives"),
        (changed(input=number_columns(["a"], "y")), "takes and gives"),
    ],
)  # fmt: skip
def test_another_network_than_is_described_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """Its digest is right: whoever made the folder made both."""
    folder = exported_folder(tmp_path, {"model.onnx": content})
    with pytest.raises(ModelFileError, match=said):
        load_network(folder)


def test_a_format_that_was_not_exported_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="Expected: onnx among them"):
        load_network(exported_folder(tmp_path, {"model.float32.tflite": b"x"}))


def test_an_input_that_is_too_large_to_serve_is_refused(tmp_path: Path) -> None:
    shape = image_input(4096, 4096)
    folder = exported_folder(tmp_path, {"model.onnx": b"x"}, {**CLASSES, "input": shape})
    with pytest.raises(ModelFileError, match=r"an input of 16777216 bytes\. Expected: 4194304 at most"):
        load_network(folder)
