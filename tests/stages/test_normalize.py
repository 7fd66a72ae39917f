"""The stage normalize: what it writes, and what it refuses."""

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mutated_files
import raw_folder
import small
from keras_pipeline.checks.params import load_params
from keras_pipeline.config import params
from keras_pipeline.core import files
from keras_pipeline.core.errors import BusyError, DataError, ParamsError
from keras_pipeline.data import task_spec
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.splits import read_split, stratified_split
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.stages import normalize
from places import SHIPPED
from small_tasks import LINE, normalized_task

PARAMS = load_params(SHIPPED)


def write_raw(folder: Path, train: int = 60, test: int = 20) -> dict[str, NDArray[Any]]:
    """A raw folder as fetch leaves it, of noise; two test images are the last train image."""
    random = np.random.default_rng(1)
    arrays = {
        "train_images": random.integers(0, 256, (train, 28, 28, 1), np.uint8),
        "train_labels": np.arange(train) % 10,
        "test_images": random.integers(0, 256, (test, 28, 28, 1), np.uint8),
        "test_labels": np.arange(test) % 10,
    }
    arrays["test_images"][:2] = arrays["train_images"][-1]
    raw_folder.write_images(folder, "mnist", arrays, "0123456789")
    return arrays


def with_normalize(**values: Any) -> params.Params:
    return PARAMS.model_copy(update={"normalize": PARAMS.normalize.model_copy(update=values)})


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
    train, validation = stratified_split(raw["train_labels"], 0.2, seed=1)
    pixels = raw["train_images"][train].astype(np.float64)
    assert statistics["scaling"]["offset"] == pytest.approx(pixels.mean())
    assert statistics["scaling"]["divisor"] == pytest.approx(pixels.std())
    assert splits["train"].scaled().mean() == pytest.approx(0, abs=1e-6)
    assert splits["validation"].scaled().mean() != pytest.approx(0, abs=1e-6)
    for name, images, labels in (
        ("train", raw["train_images"][train], raw["train_labels"][train]),
        ("validation", raw["train_images"][validation], raw["train_labels"][validation]),
        ("test", raw["test_images"], raw["test_labels"]),
    ):
        assert splits[name].inputs.shape == (len(labels), 28, 28, 1)
        assert splits[name].inputs.dtype == np.uint8
        assert splits[name].targets.dtype == np.int64
        assert (splits[name].targets == labels).all()
        assert (splits[name].inputs == images).all()
    assert capsys.readouterr().out == (
        "normalize: mnist, 48 train, 12 validation, 20 test images, scaling standard\n"
        "normalize: 2 of the test images are also in the training file\n"
    )


def test_normalize_gives_the_same_bytes_twice_and_others_for_another_seed(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        normalize.normalize_dataset(
            with_normalize(split_seed=seed, validation_share=0.2), tmp_path / "raw", tmp_path / name / "normalized"
        )
        paths = (tmp_path / name / "normalized").iterdir()
        contents.append({path.name: path.read_bytes() for path in paths})
    assert contents[0] == contents[1]
    assert contents[0]["validation_images.npy"] != contents[2]["validation_images.npy"]
    assert contents[0]["test_images.npy"] == contents[2]["test_images.npy"]


@pytest.mark.parametrize("role", ["train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy"])
@pytest.mark.parametrize("damage", ["flip", "missing"])
def test_normalize_refuses_raw_files_that_fetch_did_not_write(damage: str, role: str, tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    path = tmp_path / "raw" / role
    content = path.read_bytes()
    path.unlink()
    if damage == "flip":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError) as refused:
        normalize.normalize_dataset(PARAMS, tmp_path / "raw", tmp_path / "normalized")
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
        {"train": 48, "validation": 12, "test": 20}, {"train": 20, "validation": 12, "test": 20}
    )  # fmt: skip
    assert every["sha256"]["validation_images.npy"] == part["sha256"]["validation_images.npy"]
    with pytest.raises(ParamsError, match="training_images: 49, but of 60 in the training file 48 are left beside"):
        normalized(tmp_path, 49)
    with pytest.raises(ParamsError, match=r"validation_share: 0\.1 of 60 training images are 6, fewer than 10, one of"):
        normalized(tmp_path, "all", share=0.1)


def normalized(folder: Path, training_images: object, share: float = 0.2) -> Any:
    chosen = with_normalize(validation_share=share, training_images=training_images)
    normalize.normalize_dataset(chosen, folder / "raw", folder / "normalized")
    return json.loads((folder / "normalized" / "statistics.json").read_text())


def test_normalize_refuses_a_split_without_the_positive_class(tmp_path: Path) -> None:
    """Before the training, not by the evaluation after it."""
    write_raw(tmp_path / "raw", test=5)
    normalize.normalize_dataset(
        with_normalize(positive_class=4, validation_share=0.2), tmp_path / "raw", tmp_path / "normalized"
    )
    with pytest.raises(DataError, match=r"raw: all 5 test images are of the class 'not 5'\. Expected: both classes"):
        normalize.normalize_dataset(
            with_normalize(positive_class=5, validation_share=0.2), tmp_path / "raw", tmp_path / "normalized"
        )


def test_normalize_refuses_the_raw_files_of_another_dataset(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    chosen = PARAMS.model_copy(update={"fetch": params.Fetch(dataset="digits")})
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
        normalize.normalize_dataset(PARAMS, tmp_path / "raw", tmp_path / "normalized")


def test_normalize_waits_for_nobody(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    with files.lock_folder(tmp_path), pytest.raises(BusyError, match="is being written by process"):
        normalize.normalize_dataset(PARAMS, tmp_path / "raw", tmp_path / "normalized")


def test_normalize_writes_scaled_features_and_targets(tmp_path: Path) -> None:
    folder, statistics = normalized_task(tmp_path, LINE)
    assert (statistics["task"], statistics["shape"], statistics["class_names"]) == ("regression", [1], [])
    assert statistics["images"] == {"train": 720, "validation": 80, "test": 200}
    splits = {name: read_split(folder, name, statistics) for name in ("train", "validation", "test")}
    train = splits["train"]
    assert {path.name for path in folder.glob("*.npy")} == {
        f"{split}_{kind}.npy" for split in splits for kind in ("features", "targets")
    }
    assert (train.inputs.dtype, train.inputs.shape) == (np.float32, (720, 1))
    assert (train.targets.dtype, train.targets.shape) == (np.float32, (720,))
    assert (train.inputs.mean(), train.targets.mean()) == pytest.approx((0, 0), abs=1e-6)
    assert (train.inputs.std(), train.targets.std()) == pytest.approx((1, 1), abs=1e-6)
    inputs, target = Scaling(**statistics["scaling"]), Scaling(**statistics["target"])
    with (tmp_path / "raw" / "test.csv").open() as file:
        rows = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    test = splits["test"]
    back = np.column_stack([inputs.undo(test.inputs)[:, 0], target.undo(test.targets)])
    np.testing.assert_allclose(back, rows, atol=1e-6)
    question = task_spec.task_spec_from(statistics)
    assert question == TaskSpec("regression", (1,), 1, target)
    assert question.outputs == 1


def edited(raw: Path, role: str, content: bytes) -> None:
    """Another content of a raw file, and its digest in dataset.json too."""
    (raw / role).write_bytes(content)
    manifest = json.loads((raw / "dataset.json").read_text())
    manifest["files"][role]["sha256"] = hashlib.sha256(content).hexdigest()
    if role == "train.csv":
        manifest["images"]["train"] = max(1, sum(map(bool, content.splitlines())) - 1)
    (raw / "dataset.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("role", "array", "message"),
    [
        ("train_labels", np.full(60, 200), r"train_labels\.npy: labels outside of 0 to 9"),
        ("test_labels", np.arange(20), r"test_labels\.npy: labels outside of 0 to 9"),
        ("train_labels", np.zeros(59, np.int64), r"train_labels\.npy: got <i8 of the shape \(59,\)\. Expected: .*60"),
        ("test_labels", np.zeros(20, np.uint8), r"test_labels\.npy: got \|u1 of"),
        ("test_images", np.zeros((20, 784), np.uint8), r"the shape \(20, 784\)\. Expected: .*\(20, 28, 28, 1\)"),
    ],
)
def test_normalize_refuses_raw_files_that_are_no_pair_though_their_digests_are_named(
    role: str, array: NDArray[Any], message: str, tmp_path: Path
) -> None:
    write_raw(tmp_path / "raw")
    np.save(tmp_path / "raw" / f"{role}.npy", array)
    edited(tmp_path / "raw", f"{role}.npy", (tmp_path / "raw" / f"{role}.npy").read_bytes())
    with pytest.raises(DataError, match=rf"{message}.*`dvc repro fetch`"):
        normalize.normalize_dataset(with_normalize(validation_share=0.2), tmp_path / "raw", tmp_path / "normalized")
    assert not list((tmp_path / "normalized").glob("*"))


def test_a_validation_split_of_the_source_is_taken_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = write_raw(tmp_path / "raw")
    own = {"validation_images": arrays["test_images"][::-1], "validation_labels": arrays["test_labels"][::-1]}
    raw_folder.write_images(tmp_path / "raw", "mnist", {**arrays, **own}, "0123456789")
    normalize.normalize_dataset(with_normalize(), tmp_path / "raw", tmp_path / "normalized")
    statistics = json.loads((tmp_path / "normalized" / "statistics.json").read_text())
    assert statistics["images"] == {"train": 60, "validation": 20, "test": 20}
    read = read_split(tmp_path / "normalized", "validation", statistics)
    assert (read.inputs == own["validation_images"]).all()
    assert (read.targets == own["validation_labels"]).all()
    assert "the validation split is the dataset's own" in capsys.readouterr().out


def test_groups_stay_together_and_the_latest_are_held_out(tmp_path: Path) -> None:
    arrays = write_raw(tmp_path / "raw")
    groups = np.arange(60) // 6
    raw_folder.write_images(tmp_path / "raw", "mnist", {**arrays, "train_groups": groups}, "0123456789")
    normalize.normalize_dataset(with_normalize(validation_share=0.2), tmp_path / "raw", tmp_path / "groups")
    held = held_out(tmp_path / "groups", arrays)
    assert len(held) == 12
    assert set(groups[held]).isdisjoint(np.delete(groups, held))

    times = np.arange(60.0)[::-1]
    raw_folder.write_images(tmp_path / "raw", "mnist", {**arrays, "train_times": times}, "0123456789")
    normalize.normalize_dataset(with_normalize(validation_share=0.1), tmp_path / "raw", tmp_path / "times")
    assert held_out(tmp_path / "times", arrays) == [0, 1, 2, 3, 4, 5]

    one = {**arrays, "train_groups": np.zeros(60, np.int64)}
    raw_folder.write_images(tmp_path / "raw", "mnist", one, "0123456789")
    with pytest.raises(DataError, match=r"raw: none of 60 examples is left for validation.*Expected: two groups"):
        normalize.normalize_dataset(with_normalize(), tmp_path / "raw", tmp_path / "one")


def held_out(folder: Path, arrays: dict[str, NDArray[Any]]) -> list[int]:
    """Which images of the training file are the validation split."""
    held = np.load(folder / "validation_images.npy")
    return [int((arrays["train_images"] == one).all(axis=(1, 2, 3)).argmax()) for one in held]


@pytest.mark.parametrize("dtype", ["<u2", "<f4"])
def test_images_keep_their_type_and_colours(dtype: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    high = {"<u2": 4095.0, "<f4": 0.5}[dtype]
    arrays = {
        f"{split}_images": (random.random((count, 4, 5, 3)) * high).astype(dtype)
        for split, count in (("train", 30), ("test", 10))
    }
    arrays |= {f"{split}_labels": np.arange(count) % 3 for split, count in (("train", 30), ("test", 10))}
    raw_folder.write_images(tmp_path / "raw", "own", arrays, ["a", "b", "c"], high=high)
    chosen = with_normalize(scaling="unit", validation_share=0.2)
    chosen = chosen.model_copy(update={"fetch": params.Fetch.model_construct(dataset="own")})
    normalize.normalize_dataset(chosen, tmp_path / "raw", tmp_path / "normalized")
    statistics = json.loads((tmp_path / "normalized" / "statistics.json").read_text())
    test = read_split(tmp_path / "normalized", "test", statistics)
    assert test.inputs.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(test.inputs, arrays["test_images"])
    np.testing.assert_array_equal(test.scaled(), arrays["test_images"].astype(np.float32) / np.float32(high))
    assert statistics["scaling"] == {"name": "unit", "offset": 0.0, "divisor": high}
    assert statistics["title"] == "The title of own"


@pytest.mark.parametrize("scaling", ["none", "unit", "symmetric", "standard"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("column", [0, 1])
def test_normalize_refuses_a_number_that_no_network_can_be_given(
    column: int, split: str, scaling: str, tmp_path: Path
) -> None:
    normalized_task(tmp_path, LINE)
    path = tmp_path / "raw" / f"{split}.csv"
    lines = path.read_text().splitlines()
    for number in range(1, len(lines), 2):  # in the training split whatever the seed
        cells = lines[number].split(",")
        cells[column] = "1e308" if number % 4 == 1 else "-1e308"
        lines[number] = ",".join(cells)
    edited(tmp_path / "raw", f"{split}.csv", "\n".join([*lines, ""]).encode())
    before = (tmp_path / "normalized" / "statistics.json").read_bytes()
    chosen = small.params({**LINE, "normalize.scaling": scaling})
    with pytest.raises(DataError, match=rf"{split}\.csv: line \d+: {'xy'[column]}: got .*scaling: {scaling} makes "):
        normalize.normalize_dataset(chosen, tmp_path / "raw", tmp_path / "normalized")
    assert (tmp_path / "normalized" / "statistics.json").read_bytes() == before


TABLES = list(mutated_files.text_mutants("train.csv", b"x,y\n" + b"0.5,-1.25\n" * 40))


@pytest.mark.parametrize("mutant", TABLES, ids=[one.what for one in TABLES])
def test_a_changed_table_is_refused_with_a_remedy_or_read(mutant: mutated_files.Mutant, tmp_path: Path) -> None:
    normalized_task(tmp_path, LINE)
    edited(tmp_path / "raw", "train.csv", mutant.content)
    try:
        normalize.normalize_dataset(small.params(LINE), tmp_path / "raw", tmp_path / "normalized")
    except (DataError, ParamsError) as fault:
        said = str(fault)
    else:
        said = "read"
    expected = {"cut": "read", "a line twice": "are the same", "without its end": "read"}
    assert re.search(expected.get(mutant.what, "Expected: "), said), said
