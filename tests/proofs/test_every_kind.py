"""MNIST through every kind of dataset file: needs its four files in a folder that KERAS_PIPELINE_MIRRORS names."""

import os
from pathlib import Path

import numpy as np
import pytest

from every_kind import EVERY, normalized, write
from keras_pipeline.sources.raw import read_raw

HERE = os.environ.get("KERAS_PIPELINE_MIRRORS", "").split(",")
FOUND = any((Path(mirror or "/nowhere") / "train-images-idx3-ubyte.gz").is_file() for mirror in HERE)
pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(not FOUND, reason="KERAS_PIPELINE_MIRRORS names no folder with the MNIST files"),
]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("shipped")
    return folder, normalized("mnist", folder)


@pytest.mark.parametrize("name", EVERY)
def test_mnist_is_the_same(
    name: str, shipped: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arrays in data/normalized are those of the shipped mnist, byte for byte: its 70,000 images as such files."""
    raw = read_raw(shipped[0] / "data" / "raw")
    given = {split: (images[..., 0], np.asarray(raw.labels[split])) for split, images in raw.images.items()}
    write(name, tmp_path, given)
    monkeypatch.chdir(tmp_path)
    assert normalized(f"own_{name}", tmp_path) == shipped[1]
