"""The split into training and validation: even, complete, a function of its seed, and safe on disk."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import small
from keras_pipeline.checks.params import load_params
from keras_pipeline.core import array_files, files
from keras_pipeline.core.errors import DataError
from keras_pipeline.data.scaling import fit_scaling
from keras_pipeline.data.splits import (
    count_overlap,
    grouped_split,
    latest_split,
    prediction_batch,
    read_blocks,
    read_split,
    stratified_part,
    stratified_split,
    write_split,
)
from places import SHIPPED

PARAMS = load_params(SHIPPED)


def labels_of(*counts: int) -> NDArray[np.uint8]:
    """That many labels of each class, in an order without pattern."""
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    return np.random.default_rng(0).permutation(labels)


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=10).filter(any),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_a_split_is_disjoint_complete_rounded_and_even(counts: list[int], share: float, seed: int) -> None:
    labels = labels_of(*counts)
    train, validation = stratified_split(labels, share, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert list(train) == sorted(train)
    assert list(validation) == sorted(validation)
    assert len(validation) == round(len(labels) * share)
    # What `params check` reckons with before there are any labels.
    assert len(train) == PARAMS.normalize.model_copy(update={"validation_share": share}).left(len(labels))
    taken = np.bincount(labels[validation], minlength=len(counts))
    assert (abs(taken - np.array(counts) * share) < 1 + 1e-9).all()


def test_a_part_is_even_and_fewer_are_among_more() -> None:
    labels = labels_of(300, 200, 100)
    few, more = (stratified_part(labels, count, 7) for count in (60, 300))
    assert np.bincount(labels[few]).tolist() == [30, 20, 10]
    assert np.bincount(labels[more]).tolist() == [150, 100, 50]
    assert set(few) < set(more)
    assert list(few) == sorted(few)
    assert set(few) != set(stratified_part(labels, 60, 8))
    assert len(stratified_part(labels, 599, 7)) == 599


def test_a_split_by_hand() -> None:
    # 10 % of 30, 20 and 5 are 3, 2 and 0.5; of the total, 5.5, half goes to the even number: 6.
    labels = labels_of(30, 20, 5)
    _, validation = stratified_split(labels, 0.1, seed=1)
    assert np.bincount(labels[validation]).tolist() == [3, 2, 1]


def test_a_split_is_a_function_of_its_seed() -> None:
    labels = labels_of(*[100] * 10)
    first, again, other = (stratified_split(labels, 0.1, seed)[1] for seed in (1, 1, 2))
    assert (first == again).all()
    # Two independent draws of 10 % share a tenth of their images, give or take.
    assert 0 <= len(np.intersect1d(first, other)) < 40


def test_a_split_is_the_same_on_every_machine() -> None:
    _, validation = stratified_split(np.arange(100, dtype=np.uint8) % 10, 0.1, seed=1)
    assert validation.tolist() == [1, 3, 32, 34, 46, 58, 67, 69, 75, 80]


@pytest.mark.parametrize("labels", [[3], [3, 3], [0, 9], [0, 0, 1]])
def test_tiny_sets_are_split_too(labels: list[int]) -> None:
    train, validation = stratified_split(np.array(labels, np.uint8), 0.5, seed=0)
    assert len(validation) == round(len(labels) / 2)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert train.dtype == validation.dtype == np.int64


def test_every_image_can_be_drawn() -> None:
    labels = labels_of(10, 10)
    drawn = {int(one) for seed in range(100) for one in stratified_split(labels, 0.1, seed)[1]}
    assert drawn == set(range(20))


NOISE = np.random.default_rng(0).integers(0, 256, (50, 5, 4, 1), np.uint8)


def test_overlap_counts_each_known_image() -> None:
    known = NOISE[:10]
    changed = known[:1].copy()
    changed[0, 4, 3, 0] ^= 1
    assert count_overlap(known, np.concatenate([NOISE[5:20], changed, NOISE[5:6]])) == 6
    assert count_overlap(known, NOISE[10:]) == 0
    assert count_overlap(known, known) == 10


def written(folder: Path) -> dict[str, str]:
    """NOISE as a training split, block by block; the digests."""
    parts = read_blocks(NOISE, np.arange(20)), read_blocks(NOISE, np.arange(20, 50))
    return write_split(folder, "train", itertools.chain(*parts), np.arange(50, dtype=np.uint8))


def described(digests: dict[str, str], **changes: Any) -> Any:
    """What statistics.json says of `written`, whose 50 images are each of a class of its own."""
    names = [str(number) for number in range(50)]
    counts = {"train": [1] * 50}
    about = small.described(shape=(5, 4, 1))
    made = small.statistics({"train": 50}, **about, class_names=names, sha256=digests, class_counts=counts)
    return {**made, **changes}


def test_a_split_is_written_as_numpy_writes_it_and_survives_the_disk(tmp_path: Path) -> None:
    digests = written(tmp_path)
    scaled = fit_scaling("unit", [NOISE]).apply(NOISE)
    np.save(tmp_path / "numpy", NOISE)
    assert (tmp_path / "train_images.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    (tmp_path / "numpy.npy").unlink()
    assert digests == {path.name: files.file_sha256(path) for path in tmp_path.iterdir()}
    assert sorted(digests) == ["train_images.npy", "train_labels.npy"]
    read = read_split(tmp_path, "train", described(digests))
    assert (read.inputs == NOISE).all()
    assert (read.scaled() == scaled).all()
    assert (read.part(slice(3, 9)).scaled([1, 4]) == scaled[[4, 7]]).all()
    assert (read.scaled().dtype, read.scaled_bytes) == (np.float32, scaled.nbytes)
    assert isinstance(read.inputs, np.memmap)
    assert (read.targets == np.arange(50)).all()
    assert (read.inputs.dtype, read.targets.dtype) == (np.uint8, np.int64)


@pytest.mark.parametrize("name", ["train_images.npy", "train_labels.npy"])
@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "directory"])
def test_a_split_that_changed_on_disk_is_refused(damage: str, name: str, tmp_path: Path) -> None:
    digests = written(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage == "directory":
        path.mkdir()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "flip":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError) as refused:
        read_split(tmp_path, "train", described(digests))
    assert str(refused.value) == (
        f"{path}: not the file that the stage 'normalize' wrote (its SHA-256 should be {digests[name][:12]}…). "
        "Run `dvc repro normalize` to have it written again."
    )


IN_COLUMNS = np.asfortranarray(np.zeros((50, 5, 4, 1), np.uint8))


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (
            "images",
            lambda array: array.astype(np.float64),
            r": got <f8 of the shape \(50, 5, 4, 1\)\. Expected: \|u1 of",
        ),
        ("images", lambda array: array.astype(">f4"), r": got >f4 of"),
        ("images", lambda array: array[:-1], r": got \|u1 of the shape \(49, 5, 4, 1\)\. Expected: .*\(50, 5, 4, 1\)"),
        ("images", lambda array: array[..., 0], r": got \|u1 of the shape \(50, 5, 4\)"),
        ("images", lambda array: IN_COLUMNS, r": got .* in the order of columns"),
        ("images", lambda array: np.array([{}]), r": got \|O of the shape"),
        ("labels", lambda array: array.astype(np.float32), r": got <f4 of the shape \(50,\)\. Expected: <i8"),
        ("labels", lambda array: array + 1, r"\[49\]: got 50\. Expected: a number from 0 to 49\. "),
        ("labels", lambda array: array - 1, r"\[0\]: got -1"),
        ("labels", lambda array: array // 2, r": got 2 of the class '0'\. Expected: 1, as "),
    ],
)
def test_a_split_that_no_scaling_gives_is_refused_though_its_digest_is_named(
    name: str, change: Callable[[NDArray[Any]], NDArray[Any]], told: str, tmp_path: Path
) -> None:
    digests = written(tmp_path)
    path = tmp_path / f"train_{name}.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(DataError, match=rf"train_{name}\.npy{told}.*run `dvc repro normalize`"):
        read_split(tmp_path, "train", described({**digests, path.name: files.file_sha256(path)}))


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("<f4", math.nan, r"got nan\. Expected: a number from 0 to 0\.7\. "),
        ("<f4", math.inf, "got inf"),
        ("<f4", -0.25, r"got -0\.25"),
        ("<f4", 0.75, r"got 0\.75"),
        ("<u2", 1024, r"got 1024\. Expected: a number from 0 to 1023\. "),
    ],
)
def test_a_pixel_out_of_the_stated_range_is_refused(kind: str, value: float, told: str, tmp_path: Path) -> None:
    high = 0.7 if kind == "<f4" else 1023.0
    pixels = np.full((50, 5, 4, 1), high, kind)
    about = small.described(shape=(5, 4, 1))
    about["input"] |= {"dtype": kind, "high": high}
    digests = write_split(tmp_path, "train", [pixels], np.arange(50))
    unit = fit_scaling("unit", [], 0.0, high)
    read = read_split(tmp_path, "train", described(digests, **about, scaling=unit.constants()))
    assert read.scaled().max() == pytest.approx(1)
    pixels[3, 2, 1, 0] = value
    digests = write_split(tmp_path, "train", [pixels], np.arange(50))
    with pytest.raises(DataError, match=rf"train_images\.npy\[3, 2, 1, 0\]: {told}"):
        read_split(tmp_path, "train", described(digests, **about))


def test_no_group_is_divided_and_classes_are_near_their_share() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(100, 300, 3000) * 7
    labels = random.integers(0, 3, 3000)
    train, validation = grouped_split(labels, groups, 0.2, seed=1)
    assert sorted([*train, *validation]) == list(range(3000))
    assert not set(groups[train]) & set(groups[validation])
    taken, every = np.bincount(labels[validation]), np.bincount(labels)
    assert (abs(taken / every - 0.2) < 0.02).all()
    assert (grouped_split(labels, groups, 0.2, seed=1)[1] == validation).all()
    assert set(grouped_split(labels, groups, 0.2, seed=2)[1]) != set(validation)


def test_few_groups_are_divided_too_where_there_are_two() -> None:
    groups = np.array([0, 0, 0, 1, 1])
    assert grouped_split(np.zeros(5, np.int64), groups, 0.1, seed=1)[1].tolist() == [3, 4]
    assert grouped_split(np.zeros(5, np.int64), np.zeros(5, np.int64), 0.5, seed=1)[1].tolist() == []


def test_the_latest_are_held_out() -> None:
    train, validation = latest_split(np.array([5.0, 1, 9, 5, 2]), 0.4)
    assert (train.tolist(), validation.tolist()) == ([0, 1, 4], [2, 3])


@pytest.mark.parametrize(
    ("shape", "together"), [((28, 28, 1), 1000), ((96, 96, 3), 151), ((2000, 2000, 3), 1), ((10,), 1000)]
)
def test_as_many_are_predicted_together_as_take_little_memory(shape: tuple[int, ...], together: int) -> None:
    assert prediction_batch(shape) == together


def test_what_is_read_of_a_large_array_does_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "KEPT_BYTES", 2**20)
    pixels = np.zeros((20, 1024, 1024, 1), np.uint8)
    digests = write_split(tmp_path, "train", [pixels], np.arange(20))
    names = [str(number) for number in range(20)]
    about = {**small.described(shape=(1024, 1024, 1)), "images": {"train": 20}, "class_names": names}
    split = read_split(tmp_path, "train", described(digests, **about, class_counts={"train": [1] * 20}))
    before = resident()
    for number in range(20):
        assert not split.scaled([number]).any()
    assert resident() - before < 10 * 2**20


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
