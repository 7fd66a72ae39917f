"""The command as a whole, its network replaced: what is written, when nothing is, and in which batches it is asked."""

import csv
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluated_project import Project
from keras_pipeline.cli.main import make_parser
from keras_pipeline.core.errors import DataError, ModelFileError, ParamsError
from keras_pipeline.prediction import predict as predicting
from keras_pipeline.prediction.predict import predict, regrouped


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"), {"model.hidden_units": [4]})


@pytest.fixture
def asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the network was given; its answers are the mean pixel of each image, for the first class."""
    given: list[Any] = []

    def answer(inputs: Any) -> Any:
        given.append(inputs)
        outputs = np.zeros((len(inputs), 10), np.float32)
        outputs[:, 0] = inputs.mean(axis=(1, 2, 3))
        return outputs

    monkeypatch.setattr(predicting, "open_network", lambda trained, size: answer)
    monkeypatch.chdir(project.root)
    return given


def saved(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


IMAGES = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)


def test_inputs_are_scaled_as_in_training_and_answers_written(
    asked: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(saved(tmp_path / "x.npy", IMAGES), None, tmp_path / "answers.csv", "refuse")
    [inputs] = asked
    np.testing.assert_array_equal(inputs, IMAGES[..., None].astype(np.float32) / np.float32(255))
    rows = rows_of(tmp_path / "answers.csv")
    assert [row["index"] for row in rows] == list(map(str, range(30)))
    found = np.array([row["probability of 0"] for row in rows], np.float32)
    np.testing.assert_array_equal(found, inputs.mean(axis=(1, 2, 3)))
    assert capsys.readouterr().out.startswith(f"predict: {tmp_path}/answers.csv: 30 answers of models/, run ")


def test_without_an_output_they_go_to_standard_output_alone(
    asked: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(saved(tmp_path / "x.npy", IMAGES[:2]), None, None, "refuse")
    out, err = capsys.readouterr()
    assert [line.split(",")[:2] for line in out.splitlines()] == [["index", "label"], ["0", "0"], ["1", "0"]]
    assert err == ""
    chosen = make_parser().parse_args(["predict", "x.npy", "--output", "-"])
    assert (chosen.output, chosen.damaged, chosen.model) == (None, "refuse", None)


def test_of_an_archive_that_is_unpacked_standard_output_has_the_answers_alone(
    asked: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "x.npy", IMAGES[:2])
    with tarfile.open(tmp_path / "own.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x.npy", "x.npy")
    predict(tmp_path / "own.tar.gz", None, None, "refuse")
    out, err = capsys.readouterr()
    assert [line.split(",")[:2] for line in out.splitlines()] == [["index", "label"], ["0", "0"], ["1", "0"]]
    assert "own.tar.gz: unpacked" in err


def test_what_is_wrong_is_said_first_and_nothing_is_written(asked: list[Any], tmp_path: Path) -> None:
    output = tmp_path / "answers.csv"
    output.write_text("before")
    wrong = IMAGES.astype(int)
    wrong[7, 3, 2] = 999
    with pytest.raises(DataError, match=r"x\.npy: index 7, row 3, column 2"):
        predict(saved(tmp_path / "x.npy", wrong), None, output, "refuse")
    with pytest.raises(DataError, match=r"got .*Expected: the shape"):
        predict(saved(tmp_path / "x.npy", IMAGES[:, :9]), None, output, "refuse")
    assert (asked, output.read_text()) == ([], "before")


def test_an_answer_that_is_no_number_ends_it_and_nothing_is_written(
    asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = np.full((30, 10), np.nan, np.float32)
    monkeypatch.setattr(predicting, "open_network", lambda trained, size: lambda inputs: outputs)
    with pytest.raises(ModelFileError, match=r"models/: got no finite number for index 0\."):
        predict(saved(tmp_path / "x.npy", IMAGES), None, tmp_path / "answers.csv", "refuse")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_what_is_read_is_not_written_over(asked: list[Any], tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npy", IMAGES)
    with pytest.raises(ParamsError, match="it is what is to be read"):
        predict(path, None, path, "refuse")
    np.testing.assert_array_equal(np.load(path), IMAGES)


@pytest.mark.parametrize("sizes", [[1] * 23, [23], [10, 13], [7, 1, 15], []])
def test_inputs_are_asked_in_batches_of_one_size_whatever_blocks_they_come_in(sizes: list[int]) -> None:
    numbers = np.arange(sum(sizes), dtype=np.uint8)
    parts = np.split(numbers, np.cumsum(sizes)[:-1]) if sizes else []
    blocks = iter([([str(one) for one in part], part) for part in parts])
    found = list(regrouped(blocks, 5))
    assert [len(places) for places, _ in found] == ([5, 5, 5, 5, 3] if sizes else [])
    assert [place for places, _ in found for place in places] == list(map(str, numbers))
    assert [one for _, raw in found for one in raw] == numbers.tolist()
