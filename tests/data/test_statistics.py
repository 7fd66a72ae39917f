"""statistics.json: what contradicts itself, or is of another version, is refused with its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import small
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.data import statistics
from keras_pipeline.data.statistics import is_table, read_statistics, things

Change = Callable[[dict[str, Any]], object]


def images() -> dict[str, Any]:
    return small.statistics({"train": 4, "validation": 2, "test": 2})


def rows() -> dict[str, Any]:
    """Of a table with classes."""
    names = [f"{split}_{kind}.npy" for split in ("train", "validation", "test") for kind in ("features", "labels")]
    scaling = {"name": "none", "offset": [0.0, 0.0], "divisor": [1.0, 1.0]}
    return {**images(), **small.table("ab"), "scaling": scaling, "sha256": dict.fromkeys(names, "0" * 64)}


def test_images_and_tables_may_both_have_classes(tmp_path: Path) -> None:
    for made, called in ((images(), "images"), (rows(), "rows")):
        statistics.write_statistics(tmp_path, made)  # type: ignore[arg-type]
        found = read_statistics(tmp_path)
        assert (is_table(found), things(found)) == (called == "rows", called)
        assert statistics.describe_dataset(found) == {key: made[key] for key in statistics.DESCRIPTION}


@pytest.mark.parametrize(
    ("made", "change", "said"),
    [
        (images, lambda one: one.update(format=1), "of format 1, which an earlier version wrote. Expected: 2"),
        (images, lambda one: one.pop("format"), "of format 1, which an earlier version wrote"),
        (images, lambda one: one.update(format=3), "of format 3, which a newer version wrote"),
        (images, lambda one: one.update(shape=[28, 28, 3]), r"shape: got \[28, 28, 3\]\. Expected: \[28, 28, 1\]"),
        (images, lambda one: one["input"].update(low=255.0), r"input\.low: got 255\.0\. Expected: less than high"),
        (images, lambda one: one["input"].update(dtype="<f8"), r"input\.dtype"),
        (images, lambda one: one["class_counts"]["test"].append(1), r"class_counts\.test: .*2 images of 10 classes"),
        (rows, lambda one: one["class_counts"]["test"].append(1), r"class_counts\.test: .*2 rows of 10 classes"),
        (rows, lambda one: one.update(shape=[3]), r"shape: got \[3\]\. Expected: \[2\]"),
        (rows, lambda one: one["input"]["features"].append("c"), r"input\.features: got "),
        (rows, lambda one: one["scaling"].update(offset=0.0), r"scaling\.offset: got 0\.0\. Expected: 2 numbers"),
        (rows, lambda one: one.update(task="regression"), "class_names: got "),
        (rows, lambda one: one["sha256"].update({"train_images.npy": "0" * 64}), "sha256: got "),
    ],
)
def test_what_contradicts_itself_is_refused(made: Any, change: Change, said: str, tmp_path: Path) -> None:
    content = made()
    change(content)
    files.write_json(tmp_path / "statistics.json", content)
    with pytest.raises(DataError, match=rf"statistics\.json: {said}"):
        read_statistics(tmp_path)
