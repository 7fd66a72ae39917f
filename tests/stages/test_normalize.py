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
import small
from keras_pipeline.checks.params import load_params
from keras_pipeline.config import params
from keras_pipeline.core import files
from keras_pipeline.core.errors import BusyError, DataError, ParamsError
from keras_pipeline.data import task_spec
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.splits import read_split, stratified_split
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.sources import formats
from keras_pipeline.stages import normalize
from places import SHIPPED
from small_tasks import LINE, normalized_task

PARAMS = load_params(SHIPPED)


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
    (raw / "dataset.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("role", "array", "message"),
    [
        ("train-labels", np.full(60, 200, np.uint8), r"train-labels: got the label 200 at index 0"),
        ("test-labels", np.arange(20, dtype=np.uint8), r"test-labels: got the label 10 at index 10"),
        ("train-labels", np.zeros(59, np.uint8), "train-labels: got 60 images and 59 labels"),
        ("test-labels", np.zeros(21, np.uint8), "test-labels: got 20 images and 21 labels"),
        ("train-labels", np.zeros((60, 1), np.uint8), "got images of 3 and labels of 2 dimensions"),
        ("test-images", np.zeros((20, 784), np.uint8), "got images of 2 and labels of 1 dimensions"),
        ("train-images", np.zeros((60, 28, 27), np.uint8), r"the shape \(28, 27\)\. Expected: \(28, 28\)"),
    ],
)
def test_normalize_refuses_raw_files_that_are_no_pair_though_their_digests_are_named(
    role: str, array: NDArray[np.uint8], message: str, tmp_path: Path
) -> None:
    write_raw(tmp_path / "raw")
    edited(tmp_path / "raw", role, formats.write_idx(array))
    with pytest.raises(DataError, match=rf"{message}.*`dvc repro fetch`"):
        normalize.normalize_dataset(with_normalize(validation_share=0.2), tmp_path / "raw", tmp_path / "normalized")
    assert not list((tmp_path / "normalized").glob("*"))


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
