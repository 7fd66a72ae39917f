"""The shipped params on all of MNIST: needs the four files in a folder that KERAS_PIPELINE_MIRRORS names."""

import os
from pathlib import Path

import pytest

import small
from keras_pipeline.checks.params import load_params
from keras_pipeline.core import json_files
from keras_pipeline.records.observer import Observer
from keras_pipeline.stages import evaluate, fetch, normalize, train

pytestmark = pytest.mark.proof

HERE = os.environ.get("KERAS_PIPELINE_MIRRORS", "").split(",")
FOUND = any((Path(mirror or "/nowhere") / "train-images-idx3-ubyte.gz").is_file() for mirror in HERE)


@pytest.mark.skipif(not FOUND, reason="KERAS_PIPELINE_MIRRORS names no folder with the MNIST files")
def test_the_default_network_is_as_good_as_the_readme_says(tmp_path: Path) -> None:
    """The shipped params on all of MNIST reach what the README says: 98.4 % of the test images, well calibrated."""
    shipped = load_params(small.SHIPPED)
    fetch.fetch_dataset(shipped, tmp_path / "raw", tmp_path / "downloads")
    normalize.normalize_dataset(shipped, tmp_path / "raw", tmp_path / "normalized")
    train.train_network(shipped, tmp_path / "normalized", tmp_path / "models", Observer(), tmp_path / "checkpoints")
    evaluate.evaluate_network(shipped, tmp_path / "normalized", tmp_path / "models", tmp_path / "reports")
    scores = json_files.parse_json((tmp_path / "reports" / "metrics.json").read_bytes())
    assert scores["test/accuracy"] >= 0.984
    assert scores["test/calibration_error"] < 0.02
