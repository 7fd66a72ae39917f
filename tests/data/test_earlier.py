"""Descriptions of datasets as earlier versions recorded them."""

from typing import Any

import pytest

import small
from keras_pipeline.data.earlier import FACTS, upgrade_description
from keras_pipeline.data.statistics import DESCRIPTION, check_description, describe_dataset

ADDED = ("title", "licence", "source", "facts", "input", "drawing", "preparation")


def recorded(**changes: Any) -> dict[str, Any]:
    """As format 2 of run.json had it."""
    whole = describe_dataset(small.statistics({"train": 4, "validation": 2, "test": 2}))  # type: ignore[arg-type]
    return {key: value for key, value in whole.items() if key not in ADDED} | changes


def test_images_were_grey_and_of_8_bits() -> None:
    found: Any = upgrade_description(recorded(dataset="mnist"))
    assert set(found) == set(DESCRIPTION)
    check_description(found)
    assert found["input"] == {"kind": "images", "shape": [28, 28, 1], "dtype": "|u1", "low": 0.0, "high": 255.0}
    assert (found["title"][:6], found["licence"], found["facts"]) == ("MNIST:", "CC BY-SA 3.0", FACTS)


@pytest.mark.parametrize(("name", "features", "target"), [("line", 1, "y"), ("diabetes", 10, "progression")])
def test_a_table_had_the_columns_that_its_name_said(name: str, features: int, target: str) -> None:
    numbers = {"name": "none", "offset": [0.0] * features, "divisor": [1.0] * features}
    names = [f"{split}_{kind}.npy" for split in ("train", "validation", "test") for kind in ("features", "targets")]
    files = dict.fromkeys(names, "0" * 64)
    found: Any = upgrade_description(
        recorded(
            dataset=name, task="regression", shape=[features], class_names=[], scaling=numbers,
            target={"name": "none", "offset": 0.0, "divisor": 1.0}, sha256=files,
        )
    )  # fmt: skip
    check_description(found)
    assert found["input"]["target"] == target
    assert len(found["input"]["features"]) == features


def test_what_a_record_says_itself_is_kept() -> None:
    assert upgrade_description(recorded(title="mine"))["title"] == "mine"
    assert upgrade_description({"dataset": 7, "shape": None})["title"] == "7"
