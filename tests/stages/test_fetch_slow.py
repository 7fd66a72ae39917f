"""The stage fetch for whole datasets."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import small
from keras_pipeline.sources import raw
from keras_pipeline.stages import fetch
from small_tasks import LINE
from tiny_mirror import snapshot

pytestmark = pytest.mark.slow


def test_digits_need_neither_files_nor_network(tmp_path: Path) -> None:
    params: Any = SimpleNamespace(fetch=SimpleNamespace(dataset="digits"))
    fetch.fetch_dataset(params, tmp_path / "raw", tmp_path / "downloads")
    assert raw.read_raw(tmp_path / "raw").images["train"].shape == (1437, 28, 28, 1)
    assert not (tmp_path / "downloads").exists()
    before = snapshot(tmp_path / "raw")
    fetch.fetch_dataset(params, tmp_path / "raw", tmp_path / "downloads")
    assert snapshot(tmp_path / "raw") == before


@pytest.mark.skipif(
    not Path(os.environ.get("KERAS_PIPELINE_MIRRORS") or "/nowhere").is_dir(),
    reason="KERAS_PIPELINE_MIRRORS names no local folder with the real MNIST",
)
def test_the_real_mnist_needs_no_heavy_import(tmp_path: Path) -> None:
    program = (
        "import sys, types; from pathlib import Path; from keras_pipeline.stages import fetch\n"
        "params = types.SimpleNamespace(fetch=types.SimpleNamespace(dataset='mnist'))\n"
        "fetch.fetch_dataset(params, Path(sys.argv[1], 'raw'), Path(sys.argv[1], 'downloads'))\n"
        "heavy = {'tensorflow', 'keras', 'mlflow', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, check=True)
    described = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert described["files"]["train_images.npy"]["bytes"] == 47_040_128


def test_another_dataset_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    for changes, names in (
        (LINE, {"train.csv", "test.csv"}),
        ({}, {f"{split}_{what}.npy" for split in ("train", "test") for what in ("images", "labels")}),
        (LINE, {"train.csv", "test.csv"}),
    ):
        fetch.fetch_dataset(small.params(changes), tmp_path / "raw", tmp_path / "downloads")
        assert {path.name for path in (tmp_path / "raw").iterdir()} == {*names, "dataset.json"}
