"""An ONNX file is taken with the digest of its manifest, and even then nothing that it names is opened."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import served_network
from exported import CLASSES, exported_folder
from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.serving import network

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
