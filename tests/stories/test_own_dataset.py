"""A new dataset is a file: what the pipeline knows and refuses of one, as far as no framework is needed."""

import json
from pathlib import Path

from own_dataset import LETTERS, OwnDataset
from small_tasks import BINARY


def test_a_file_is_a_dataset(tmp_path: Path) -> None:
    letters = OwnDataset(tmp_path)
    good = letters.run("params", "check")
    assert good.returncode == 0, good.stderr
    for stage in ("fetch", "normalize"):
        done = letters.run(stage)
        assert done.returncode == 0, done.stderr
    statistics = json.loads((tmp_path / "data" / "normalized" / "statistics.json").read_text())
    assert (statistics["task"], statistics["class_names"]) == ("classes", list(LETTERS))
    assert statistics["class_counts"]["test"] == [4] * 26


def test_each_of_its_classes_may_be_against_the_rest(tmp_path: Path) -> None:
    letters = OwnDataset(tmp_path)
    last = letters.run("params", "check", **{**BINARY, "normalize.positive_class": 25})
    assert last.returncode == 0, last.stderr
    beyond = letters.run("params", "check", **{**BINARY, "normalize.positive_class": 26})
    assert beyond.returncode == 2
    said = "normalize.positive_class: '26' is no class of the dataset. Its 26 classes are 'A', 'B',"
    assert said in beyond.stderr


def test_a_split_without_an_image_of_each_class_is_refused(tmp_path: Path) -> None:
    changes = {"normalize.validation_share": 0.05, "normalize.training_images": 20, "train.batch_size": 10}
    done = OwnDataset(tmp_path).run("params", "check", **changes)
    assert done.returncode == 2
    assert "normalize.validation_share: 0.05 of 312 training images are 16, fewer than 26, one of each" in done.stderr
    assert "Use 0.09 at least." in done.stderr
    assert "normalize.training_images: 20, but the dataset has 26 classes. Use 26 at least, or all." in done.stderr


def test_labels_from_1_on_are_refused_with_the_reason(tmp_path: Path) -> None:
    done = OwnDataset(tmp_path, first=1).run("fetch")
    assert done.returncode == 3
    assert "letters/train-labels: label 25: got the label 26 (and 11 more that are no class's)." in done.stderr
    assert "They seem to count from 1: write `label_values: [1, 2, …, 26]`." in done.stderr
    assert not (tmp_path / "data" / "raw").exists()
