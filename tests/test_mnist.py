"""The shipped params on all of MNIST: needs the four files in a folder that KERAS_PIPELINE_MIRRORS names."""

import os
from pathlib import Path

import pytest

import small
from keras_pipeline import files, params
from keras_pipeline.observer import Observer
from keras_pipeline.stages import evaluate, fetch, normalize, train

HERE = os.environ.get("KERAS_PIPELINE_MIRRORS", "").split(",")
FOUND = any((Path(mirror or "/nowhere") / "train-images-idx3-ubyte.gz").is_file() for mirror in HERE)


@pytest.mark.slow
@pytest.mark.skipif(not FOUND, reason="KERAS_PIPELINE_MIRRORS names no folder with the MNIST files")
def test_the_default_network_is_as_good_as_the_readme_says(tmp_path: Path) -> None:
    shipped = params.load(small.SHIPPED)
    fetch.run(shipped, tmp_path / "raw", tmp_path / "downloads")
    normalize.run(shipped, tmp_path / "raw", tmp_path / "normalized")
    train.run(shipped, tmp_path / "normalized", tmp_path / "models", Observer(), tmp_path / "checkpoints")
    evaluate.run(shipped, tmp_path / "normalized", tmp_path / "models", tmp_path / "reports")
    scores = files.read_json(tmp_path / "reports" / "metrics.json", "evaluate")
    assert scores["test/accuracy"] >= 0.984
    assert scores["test/calibration_error"] < 0.02
