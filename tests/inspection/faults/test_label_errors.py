"""Wrong labels are found among many right ones; a shift of all of them is told as one."""

import numpy as np
import pytest

from keras_pipeline.inspection.faults import label_errors
from keras_pipeline.inspection.faults.label_errors import find_label_errors
from made_images import CLASSES, clean_images


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = clean_images(60, 12)
    return pixels.reshape(len(pixels), -1) / np.float32(255), labels


def looked(features: np.ndarray, labels: np.ndarray, splits: list[str] | None = None) -> tuple[list, list]:
    places = [f"{index}.png" for index in range(len(labels))]
    splits = splits or ["train"] * len(labels)
    return find_label_errors(lambda chosen: features[chosen], labels, splits, places, CLASSES)


def test_two_swapped_labels_are_named_and_a_clean_set_has_none(images: tuple) -> None:
    pixels, labels = images
    assert looked(pixels, labels)[0] == []
    wrong = labels.copy()
    wrong[[5, 150]] = wrong[[150, 5]]
    [finding] = looked(pixels, wrong)[0]
    assert sorted(finding.examples) == [["150.png (disc, looks like stripes)"], ["5.png (stripes, looks like disc)"]]
    assert finding.text == "2 examples whose label looks wrong, the surest first"


def test_it_says_the_same_each_time(images: tuple) -> None:
    pixels, labels = images
    wrong = labels.copy()
    wrong[5] = 2
    assert looked(pixels, wrong) == looked(pixels, wrong)


def test_the_labels_of_a_split_that_count_from_one(images: tuple) -> None:
    pixels, labels = images
    order = np.random.default_rng(0).permutation(len(labels))
    pixels, labels = pixels[order], labels[order].copy()
    splits = ["train"] * 120 + ["test"] * 60
    kept = np.flatnonzero((np.arange(180) < 120) | (labels < 2))
    labels[120:] += 1
    [finding] = looked(pixels[kept], labels[kept], [splits[one] for one in kept])[0]
    assert finding.text.startswith("the labels of the split test seem to be one greater than those of the others")


def test_labels_that_belong_to_the_neighbours(images: tuple) -> None:
    pixels, labels = images
    order = np.random.default_rng(0).permutation(len(labels))
    [finding] = looked(pixels[order], np.roll(labels[order], 1))[0]
    assert finding.text.startswith("each label seems to belong to the example before its own")
    [finding] = looked(pixels[order], labels)[0]
    assert finding.text.startswith("the labels do not seem to belong to these examples")


def test_what_is_not_looked_at_is_said(images: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = images
    monkeypatch.setattr(label_errors, "MOST_EXAMPLES", 90)
    few = np.concatenate([np.arange(120), [120, 121]])
    findings, facts = looked(pixels[few], labels[few])
    assert findings == []
    assert facts[0] == "wrong labels: not looked for in classes with fewer than 10 examples (stripes)"
    assert facts[1] == "wrong labels: looked for in 90 of 120 examples, drawn by class"
    assert looked(pixels[:60], labels[:60])[1] == [
        "wrong labels: not looked for, because two classes with enough examples are needed"
    ]
