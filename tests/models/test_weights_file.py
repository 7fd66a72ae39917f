"""A network's file is read as its numbers and nothing else, and refused where it is anything else."""

import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import hostile_models
from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.models import weights_file
from keras_pipeline.models.weights_file import read_weights
from programs import run_program

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)


def weights(change: Callable[[Any], object] = lambda file: None) -> bytes:
    """The member with the numbers, changed."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/dense/vars/0"] = KERNEL
        file.create_group("optimizer")
        change(file)
    return content.getvalue()


def archive(path: Path, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, compression)


def members(numbers: bytes | None = None, config: bytes = b"{}") -> list[tuple[str, bytes]]:
    numbers = weights() if numbers is None else numbers
    return [("config.json", config), ("metadata.json", b"{}"), ("model.weights.h5", numbers)]


def test_every_array_is_read_by_its_name(tmp_path: Path) -> None:
    archive(tmp_path / "model.keras", members())
    [(name, array)] = read_weights(tmp_path / "model.keras").items()
    assert name == "layers/dense/vars/0"
    np.testing.assert_array_equal(array, KERNEL)


@pytest.mark.parametrize("config", [b"[" * 10_000, b'{"a": NaN}', b'{"class_name": "Lambda"}', b"\xff"])
def test_a_config_of_any_kind_is_not_read(config: bytes, tmp_path: Path) -> None:
    archive(tmp_path / "model.keras", members(config=config))
    assert list(read_weights(tmp_path / "model.keras")) == ["layers/dense/vars/0"]


def huge(file: Any) -> None:
    file.create_dataset("huge", (2**30, 2**10), np.float32)  # nothing of it is written


def in_circles(file: Any) -> None:
    file["layers/dense/again"] = file["layers"]


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((2, 3), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "secret", (2, 3))
    file.create_virtual_dataset("virtual", layout)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (members()[:2], "members 'config.json', 'metadata.json'. Expected"),
        ([*members(), ("config.json", b"{}")], "each once"),
        ([*members(), ("../../canary", b"")], "each once"),
        ([*members(), ("/tmp/canary", b"")], "each once"),
        ([*members(), ("assets/vocabulary.txt", b"")], "each once"),
        (members(b""), "no network of ours: "),
        (members(b"no HDF5"), "no network of ours: "),
        (members(weights()[:-40]), "no network of ours: "),
        (members(weights(huge)), "huge is no plain array"),
        (members(weights(in_circles)), "nested deeper than 16"),
        (members(weights(lambda file: file.create_dataset("text", data=b"words"))), "text is no plain array"),
        (members(weights(lambda file: file.create_dataset("zip", data=KERNEL, compression="gzip"))), "no plain array"),
        (b"", "no network of ours: "),
        (b"<html>", "no network of ours: "),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_no_network_of_ours_is_refused(content: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content) if isinstance(content, bytes) else archive(path, content)
    tracemalloc.start()
    with pytest.raises(ModelFileError) as refused:
        read_weights(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert str(refused.value).startswith(f"{path}: ")
    assert told in str(refused.value)
    assert str(refused.value).endswith(weights_file.REMEDY.format(path=path))
    assert list(tmp_path.iterdir()) == [path]


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    archive(tmp_path / "model.keras", members(bytes(50_000_000)), zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelFileError, match="compressed members"):
        read_weights(tmp_path / "model.keras")


@pytest.mark.parametrize("kind", ["external link", "soft link", "external data", "virtual"])
def test_what_leads_out_of_the_file_is_not_followed(kind: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = KERNEL
    (tmp_path / "raw").write_bytes(KERNEL.tobytes())
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        if kind == "external link":
            file["out"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "secret")
        elif kind == "soft link":
            file["out"] = h5py.SoftLink("/nowhere")
        elif kind == "external data":
            file.create_dataset("out", (2, 3), np.float32, external=[(str(tmp_path / "raw"), 0, 24)])
        else:
            virtual(file)
    archive(tmp_path / "model.keras", members((tmp_path / "weights.h5").read_bytes()))
    with pytest.raises(ModelFileError, match=r"is a link\. Expected|is no plain array of numbers"):
        read_weights(tmp_path / "model.keras")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    import os

    path = tmp_path / "model.keras"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    told = {"missing": "not there", "folder": "a folder. Expected: a file", "pipe": "a pipe or a device"}[kind]
    with pytest.raises(ModelFileError, match=rf"model\.keras: {told}.*`dvc repro train`"):
        read_weights(path)


FLIPS = 300


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process that may use little memory made of every hostile file, and what it was seen to do."""
    folder: Path = tmp_path_factory.mktemp("hostile") / "files"
    names = hostile_models.write(folder)
    printed = json.loads(run_program("hostile_models.py", str(folder), str(FLIPS), seconds=60))
    assert set(printed) == {*names, "memory", "flipped", "seen"}
    left = {path.name for path in folder.iterdir()}
    assert left == {*names, hostile_models.CANARY, "first"}
    return {**printed, "names": names}


def test_of_a_hostile_file_nothing_is_opened_called_or_run(told: dict[str, Any]) -> None:
    """The canary is a pipe: whatever opened it in C would wait until the time is over."""
    assert told["seen"] == []
    assert told["memory"] < 50e6


def test_a_hostile_file_is_refused_or_only_its_numbers_are_read(told: dict[str, Any]) -> None:
    for name in told["names"]:
        row = name.split()[0]
        numbers_only = row in ("J1", "J2", "J3", "J9")  # what the harm is in is not read
        if numbers_only:
            assert told[name] == "read: layers/dense/vars/0", name
        else:
            assert told[name].startswith("refused: "), (name, told[name])
            assert told[name].endswith("to get the old one back."), name


def test_flipped_bits_end_no_process(told: dict[str, Any]) -> None:
    """Without the digest, which is looked at before: a number may be another, or the file is refused."""
    assert sum(told["flipped"].values()) == FLIPS
    assert min(told["flipped"].values()) > 0
