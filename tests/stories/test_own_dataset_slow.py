"""A new dataset is a file: it is trained on and evaluated."""

import csv
import json
from pathlib import Path

import pytest

import asked_network
from keras_pipeline.data.statistics import read_statistics
from own_dataset import LETTERS, TEST, OwnDataset

pytestmark = pytest.mark.slow


def test_letters_are_learned(tmp_path: Path) -> None:
    letters = OwnDataset(tmp_path)
    for stage in ("fetch", "normalize", "train", "evaluate"):
        done = letters.run(stage)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "reports" / "metrics.json").read_text())["test/accuracy"] > 0.9
    done = letters.run("predict", "data/raw/test_images.npy", "--output", "answers.csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"predict: answers.csv: {len(LETTERS) * TEST} answers of models/, run {letters.key()[:12]}"
    ]
    with (tmp_path / "answers.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    asked_network.assert_as_evaluated(answers, tmp_path / "reports", read_statistics(tmp_path / "data" / "normalized"))
    refused = letters.run("predict", "letters/test-images", "--output", "answers.csv")
    assert (refused.returncode, "Traceback" in refused.stderr) == (3, False)
    assert "letters/test-images: got no picture" in refused.stderr
    rows = (tmp_path / "reports" / "tables" / "per_class.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == list(LETTERS)
