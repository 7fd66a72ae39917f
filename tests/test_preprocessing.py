import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from keras_pipeline.checks.params import load_params
from keras_pipeline.config import params
from keras_pipeline.core import files
from keras_pipeline.core.errors import BusyError, DataError, ParamsError
from keras_pipeline.data.scaling import Scaling, fit_scaling, read_blocks
from keras_pipeline.data.splits import count_overlap, read_split, stratified_part, stratified_split, write_split
from keras_pipeline.sources import formats
from keras_pipeline.stages import normalize

SHIPPED = load_params(Path(__file__).parents[1] / "params.yaml")


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
    assert len(train) == SHIPPED.normalize.model_copy(update={"validation_share": share}).left(len(labels))
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


NOISE = np.random.default_rng(0).integers(0, 256, (50, 5, 4), np.uint8)


@pytest.mark.parametrize(
    ("name", "black", "white"), [("none", 0.0, 255.0), ("unit", 0.0, 1.0), ("symmetric", -1.0, 1.0)]
)
def test_fixed_scalings_have_their_ranges_whatever_the_images(name: str, black: float, white: float) -> None:
    scaling = fit_scaling(name, [NOISE])
    assert scaling == fit_scaling(name, [NOISE[:1]])
    images = np.array([[[0, 255]]], np.uint8)
    scaled = scaling.apply(images)
    assert scaled.dtype == np.float32
    assert scaled.shape == (1, 1, 2, 1)
    assert scaled.reshape(-1).tolist() == [black, white]
    assert images.tolist() == [[[0, 255]]]


def test_standard_scaling_is_numpy_s_mean_and_deviation() -> None:
    scaling = fit_scaling("standard", [NOISE[:7], NOISE[7:]])
    assert scaling.offset == pytest.approx(NOISE.mean(dtype=np.float64), rel=1e-14)
    assert scaling.divisor == pytest.approx(NOISE.std(dtype=np.float64), rel=1e-14)
    scaled = scaling.apply(NOISE)
    assert scaled.shape == (50, 5, 4, 1)
    assert scaled.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert scaled.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_images_of_one_grey_give_zero_and_no_nan(value: int) -> None:
    images = np.full((3, 2, 2), value, np.uint8)
    scaling = fit_scaling("standard", [images])
    assert scaling == Scaling("standard", value, 1.0)
    assert not scaling.apply(images).any()


def test_overlap_counts_each_known_image() -> None:
    known = NOISE[:10]
    changed = known[:1].copy()
    changed[0, 4, 3] ^= 1
    assert count_overlap(known, np.concatenate([NOISE[5:20], changed, NOISE[5:6]])) == 6
    assert count_overlap(known, NOISE[10:]) == 0
    assert count_overlap(known, known) == 10


def written(folder: Path) -> dict[str, str]:
    """NOISE as a training split, block by block; the digests."""
    parts = read_blocks(NOISE, np.arange(20)), read_blocks(NOISE, np.arange(20, 50))
    unit = fit_scaling("unit", [NOISE])
    return write_split(folder, "train", itertools.chain(*parts), np.arange(50, dtype=np.uint8), unit)


def test_a_split_is_written_as_numpy_writes_it_and_survives_the_disk(tmp_path: Path) -> None:
    digests = written(tmp_path)
    scaled = fit_scaling("unit", [NOISE]).apply(NOISE)
    np.save(tmp_path / "numpy", scaled)
    assert (tmp_path / "train_images.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    (tmp_path / "numpy.npy").unlink()
    assert digests == {path.name: files.file_sha256(path) for path in tmp_path.iterdir()}
    assert sorted(digests) == ["train_images.npy", "train_labels.npy"]
    read = read_split(tmp_path, "train", {"sha256": digests})
    assert (read.inputs == scaled).all()
    assert isinstance(read.inputs, np.memmap)
    assert (read.targets == np.arange(50)).all()
    assert (read.inputs.dtype, read.targets.dtype) == (np.float32, np.int64)


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
        read_split(tmp_path, "train", {"sha256": digests})
    assert str(refused.value) == (
        f"{path}: not the file that the stage 'normalize' wrote (its SHA-256 should be {digests[name][:12]}…). "
        "Run `dvc repro normalize` to have it written again."
    )


def write_raw(folder: Path, train: int = 60, test: int = 20) -> dict[str, NDArray[np.uint8]]:
    """A raw folder as fetch leaves it, of noise; two test images are the last train image."""
    random = np.random.default_rng(1)
    arrays = {
        "train-images": random.integers(0, 256, (train, 28, 28), np.uint8),
        "train-labels": np.arange(train, dtype=np.uint8) % 10,
        "test-images": random.integers(0, 256, (test, 28, 28), np.uint8),
        "test-labels": np.arange(test, dtype=np.uint8) % 10,
    }
    arrays["test-images"][:2] = arrays["train-images"][-1]
    for role, array in arrays.items():
        files.write_atomically(folder / role, formats.write_idx(array))
    entries = {role: {"sha256": hashlib.sha256(formats.write_idx(array)).hexdigest()} for role, array in arrays.items()}
    files.write_json(folder / "dataset.json", {"name": "mnist", "files": entries})
    return arrays


def with_normalize(**values: Any) -> params.Params:
    return SHIPPED.model_copy(update={"normalize": SHIPPED.normalize.model_copy(update=values)})


def test_normalize_writes_what_the_raw_files_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_raw(tmp_path / "raw")
    normalize.normalize_dataset(
        with_normalize(scaling="standard", validation_share=0.2), tmp_path / "raw", tmp_path / "normalized"
    )
    statistics = json.loads((tmp_path / "normalized" / "statistics.json").read_text())
    splits = {name: read_split(tmp_path / "normalized", name, statistics) for name in ("train", "validation", "test")}

    assert statistics["dataset"] == "mnist"
    assert statistics["class_names"] == list("0123456789")
    assert statistics["images"] == {"train": 48, "validation": 12, "test": 20}
    assert {name: sum(counts) for name, counts in statistics["class_counts"].items()} == statistics["images"]
    assert statistics["class_counts"]["test"] == [2] * 10
    assert statistics["test_images_also_in_train"] == 2
    assert sorted(statistics["sha256"]) == sorted(path.name for path in (tmp_path / "normalized").glob("*.npy"))

    # The constants are those of the training split, and of it only.
    train, validation = stratified_split(raw["train-labels"], 0.2, seed=1)
    pixels = raw["train-images"][train].astype(np.float64)
    assert statistics["scaling"]["offset"] == pytest.approx(pixels.mean())
    assert statistics["scaling"]["divisor"] == pytest.approx(pixels.std())
    assert splits["train"].inputs.mean() == pytest.approx(0, abs=1e-6)
    assert splits["validation"].inputs.mean() != pytest.approx(0, abs=1e-6)
    for name, images, labels in (
        ("train", raw["train-images"][train], raw["train-labels"][train]),
        ("validation", raw["train-images"][validation], raw["train-labels"][validation]),
        ("test", raw["test-images"], raw["test-labels"]),
    ):
        assert splits[name].inputs.shape == (len(labels), 28, 28, 1)
        assert splits[name].inputs.dtype == np.float32
        assert splits[name].targets.dtype == np.int64
        assert (splits[name].targets == labels).all()
        again = splits[name].inputs[..., 0] * statistics["scaling"]["divisor"] + statistics["scaling"]["offset"]
        assert (np.round(again) == images).all()
    assert capsys.readouterr().out == (
        "normalize: mnist, 48 train, 12 validation, 20 test images, scaling standard\n"
        "normalize: 2 of the test images stand in the training file too\n"
    )


def test_normalize_gives_the_same_bytes_twice_and_others_for_another_seed(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        normalize.normalize_dataset(with_normalize(split_seed=seed), tmp_path / "raw", tmp_path / name / "normalized")
        paths = (tmp_path / name / "normalized").iterdir()
        contents.append({path.name: path.read_bytes() for path in paths})
    assert contents[0] == contents[1]
    assert contents[0]["validation_images.npy"] != contents[2]["validation_images.npy"]
    assert contents[0]["test_images.npy"] == contents[2]["test_images.npy"]


@pytest.mark.parametrize("role", ["train-images", "train-labels", "test-images", "test-labels"])
@pytest.mark.parametrize("damage", ["flip", "missing"])
def test_normalize_refuses_raw_files_that_fetch_did_not_write(damage: str, role: str, tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    path = tmp_path / "raw" / role
    content = path.read_bytes()
    path.unlink()
    if damage == "flip":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError) as refused:
        normalize.normalize_dataset(SHIPPED, tmp_path / "raw", tmp_path / "normalized")
    digest = hashlib.sha256(content).hexdigest()[:12]
    assert str(refused.value) == (
        f"{path}: not the file that the stage 'fetch' wrote (its SHA-256 should be {digest}…). "
        "Run `dvc repro fetch` to have it written again."
    )
    assert not (tmp_path / "normalized").exists()


def test_normalize_takes_as_many_training_images_as_are_asked_for(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    every, part = (normalized(tmp_path, images) for images in ("all", 20))
    assert (every["images"], part["images"]) == (
        {"train": 54, "validation": 6, "test": 20}, {"train": 20, "validation": 6, "test": 20}
    )  # fmt: skip
    assert every["sha256"]["validation_images.npy"] == part["sha256"]["validation_images.npy"]
    with pytest.raises(ParamsError, match="training_images: 55, but of 60 in the training file 54 are left beside"):
        normalized(tmp_path, 55)


def normalized(folder: Path, training_images: object) -> Any:
    chosen = with_normalize(validation_share=0.1, training_images=training_images)
    normalize.normalize_dataset(chosen, folder / "raw", folder / "normalized")
    return json.loads((folder / "normalized" / "statistics.json").read_text())


def test_normalize_refuses_the_raw_files_of_another_dataset(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    chosen = SHIPPED.model_copy(update={"fetch": params.Fetch(dataset="digits")})
    with pytest.raises(DataError) as refused:
        normalize.normalize_dataset(chosen, tmp_path / "raw", tmp_path / "normalized")
    assert refused.value.exit_code == 3
    assert str(refused.value) == (
        f"{tmp_path}/raw: holds the dataset mnist, the params say fetch.dataset: digits. "
        "Run `dvc repro normalize`, which fetches it first, or `keras-pipeline fetch`."
    )
    assert not list((tmp_path / "normalized").glob("*"))


def test_normalize_without_raw_files_names_the_stage_that_writes_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset.json: not there. The stage 'fetch' writes it: run `dvc repro fetch`"):
        normalize.normalize_dataset(SHIPPED, tmp_path / "raw", tmp_path / "normalized")


def test_normalize_waits_for_nobody(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    with files.lock_folder(tmp_path), pytest.raises(BusyError, match="is being written by process"):
        normalize.normalize_dataset(SHIPPED, tmp_path / "raw", tmp_path / "normalized")
