"""`dataset add`: each kind is recognized, the file can be read and edited, and what the user wrote in it stays."""

import csv
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_pipeline.cli import main
from keras_pipeline.core.errors import DataError
from keras_pipeline.inspection import add
from keras_pipeline.sources.dataset_file import load_dataset, read_dataset
from keras_pipeline.sources.kinds.kind import Kind, Recognized
from keras_pipeline.sources.source_files import Folder
from made_images import CLASSES, clean_images, write_pictures
from places import ROOT


def written(name: str = "own") -> str:
    return Path("datasets", f"{name}.yaml").read_text()


def an_idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def make(kind: str) -> str:
    """Files of this kind: their path."""
    images, labels = clean_images(12, 8)
    match kind:
        case "images":
            write_pictures(images, labels, "own")
        case "arrays":
            np.savez("own.npz", x_train=images[::2], y_train=labels[::2], x_test=images[1::2], y_test=labels[1::2])
            return "own.npz"
        case "idx":
            Path("own").mkdir()
            for split, some in (("train", slice(0, None, 2)), ("t10k", slice(1, None, 2))):
                Path("own", f"{split}-images-idx3-ubyte").write_bytes(an_idx(images[some, :, :, 0]))
                Path("own", f"{split}-labels-idx1-ubyte").write_bytes(an_idx(labels[some]))
        case "records":
            Path("own").mkdir()
            large = clean_images(12, 32)[0].transpose(0, 3, 1, 2).reshape(36, -1)
            rows = np.column_stack([labels.astype(np.uint8), large])
            Path("own", "data_batch_1.bin").write_bytes(rows[::2].tobytes())
            Path("own", "test_batch.bin").write_bytes(rows[1::2].tobytes())
        case "pixels":
            rows = np.column_stack([labels, images[..., 0].reshape(36, -1)])
            with Path("own.csv").open("w", newline="") as file:
                csv.writer(file).writerows([["label", *(f"pixel{index}" for index in range(64))], *rows.tolist()])
            return "own.csv"
        case "table":
            with Path("own.csv").open("w", newline="") as file:
                values = images[:, :3, 0, 0] / 7
                rows = [[*map(repr, row.tolist()), CLASSES[label]] for row, label in zip(values, labels, strict=True)]
                csv.writer(file).writerows([["red", "green", "blue", "label"], *rows])
            return "own.csv"
    return "own"


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("kind", ["images", "arrays", "idx", "records", "pixels", "table"])
def test_each_kind_is_recognized_and_its_file_gives_the_examples(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(kind)
    assert main.main(["dataset", "add", "own", path]) == 0
    said = capsys.readouterr().out
    assert f"{path}: taken for the kind {kind}, because\n  - " in said
    assert "36 " in said
    assert "Next: write `dataset: own` below `fetch:` in params.yaml" in said
    dataset = load_dataset("own")
    assert dataset.kind == kind
    assert dataset.path == path
    assert len(dataset.classes) == 3
    assert dataset.recorded
    assert dataset.recorded.files >= 1
    assert main.main(["dataset", "list"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("own ")]
    assert line.split()[1] == kind
    assert ", 3 classes" in line
    assert main.main(["fetch", "--params", with_dataset("own")]) == 0


def with_dataset(name: str) -> str:
    text = Path("params.yaml").read_text().replace("dataset: mnist ", f"dataset: {name} ")
    text = text.replace("  filters:\n  - 32\n  - 64\n  - 128\n", "  filters:\n  - 32\n")
    Path("own-params.yaml").write_text(text)
    return "own-params.yaml"


@pytest.mark.usefixtures("project")
def test_the_file_says_why_and_how_it_is_divided() -> None:
    make("images")
    assert main.main(["dataset", "add", "own", "own", "--title", "Shapes: drawn, on noise"]) == 0
    lines = written().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../schemas/dataset.json"
    assert lines[1].startswith("# Written by `keras-pipeline dataset add own`")
    assert any(line.startswith("# - 36 pictures in 3 folders, which are the classes") for line in lines)
    assert 'title: "Shapes: drawn, on noise"' in lines
    assert "path: own  # a folder, a file or an archive" in lines
    assert "classes: [disc, square, stripes]" in lines
    assert lines[lines.index("  test: 0.2") - 1].startswith("splits:  # the share that becomes the test split")


@pytest.mark.usefixtures("project")
def test_another_dataset_is_not_written_over_and_own_keys_stay_with_replace(capsys: pytest.CaptureFixture[str]) -> None:
    make("images")
    assert main.main(["dataset", "add", "own", "own"]) == 0
    before = written()
    assert main.main(["dataset", "add", "own", "own"]) == 2
    assert "own.yaml is there already" in capsys.readouterr().err
    assert written() == before
    text = before.replace("title: own\n", "title: Mine\nlicence: CC0\nfit: pad\ndamaged: skip\n")
    text = text.replace("test: 0.2", "test: 0.3").replace("[disc, square, stripes]", "[stripes, square, disc]")
    Path("datasets/own.yaml").write_text(text)
    Path("own/disc/000.png").rename("own/disc/more.png")
    assert main.main(["dataset", "add", "own", "own", "--replace"]) == 0
    now = read_dataset(Path("datasets/own.yaml")).model_dump()
    assert (now["title"], now["licence"], now["fit"], now["damaged"]) == ("Mine", "CC0", "pad", "skip")
    assert now["splits"]["test"] == 0.3
    assert now["classes"] == ("stripes", "square", "disc")
    images, labels = clean_images(13, 8)
    write_pictures(images[-13:], labels[-13:] * 0 + 1, "own2")
    write_pictures(images[:13], labels[:13], "own2")
    assert main.main(["dataset", "add", "own", "own2", "--replace"]) == 0
    assert read_dataset(Path("datasets/own.yaml")).classes == ("disc", "square")


@pytest.mark.usefixtures("project")
def test_a_shipped_dataset_is_not_hidden_by_accident(capsys: pytest.CaptureFixture[str]) -> None:
    make("images")
    assert main.main(["dataset", "add", "mnist", "own"]) == 2
    assert "mnist.yaml is there already" in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_params_that_do_not_fit_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    make("table")
    text = Path("params.yaml").read_text().replace("architecture: mlp ", "architecture: cnn ")
    Path("params.yaml").write_text(text)
    assert main.main(["dataset", "add", "own", "own.csv"]) == 0
    said = capsys.readouterr().out
    assert "With fetch.dataset: own these values of params.yaml do not go together:\n  params.yaml:" in said


@pytest.mark.usefixtures("project")
def test_what_is_no_dataset_is_told_with_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes").mkdir()
    Path("notes/a.txt2").write_text("hello")
    assert main.main(["dataset", "add", "own", "notes"]) == 3
    assert "notes: no kind of dataset is recognized ('a.txt2')" in capsys.readouterr().err
    assert not Path("datasets/own.yaml").exists()


class Sure(Kind):
    @classmethod
    def recognize(cls, source: Any) -> Recognized | None:
        return Recognized({}, ["it is"])


class Unsure(Kind):
    @classmethod
    def recognize(cls, source: Any) -> Recognized | None:
        raise DataError("two tables. Expected: one.")


class Unknowing(Kind):
    @classmethod
    def recognize(cls, source: Any) -> Recognized | None:
        return None


def test_the_first_kind_that_is_sure_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Folder(tmp_path, "own")
    monkeypatch.setattr(add, "kind_name", lambda kind: kind.__name__)
    taken = add.recognize(source, [Unsure, Unknowing, Sure, Sure])
    assert (taken.kind, taken.others) == (Sure, ["Sure"])
    with pytest.raises(DataError, match="two tables"):
        add.recognize(source, [Unknowing, Unsure])
    with pytest.raises(DataError, match=r"no kind of dataset is recognized \(it is empty\)"):
        add.recognize(source, [Unknowing])


@pytest.mark.parametrize("path", sorted((ROOT / "datasets").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_written_of_a_dataset_reads_as_the_same(path: Path, tmp_path: Path) -> None:
    """Of every shipped one."""
    dataset = read_dataset(path)
    keys = dataset.model_dump(mode="json", exclude_unset=True)
    Path(tmp_path, path.name).write_text(add.dataset_text(path.stem, keys, ["a reason: of more than one word"]))
    assert read_dataset(tmp_path / path.name) == dataset


@pytest.mark.usefixtures("project")
def test_what_cannot_be_written_leaves_no_copy_under_dvc(capsys: pytest.CaptureFixture[str]) -> None:
    make("images")
    assert main.main(["dataset", "add", "own", "own", "--dvc", "--title", "two\nlines"]) == 2
    assert "Nothing was changed." in capsys.readouterr().err
    assert not [*Path("datasets").glob("own.*")]
