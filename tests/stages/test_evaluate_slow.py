"""The stage evaluate: its numbers are Keras' own, and its files the same bytes from the same network."""

from pathlib import Path

import numpy as np
import pytest

import small
from keras_pipeline.config.datasets import IMAGE_SHAPE
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, ModelFileError
from keras_pipeline.data.splits import read_split
from keras_pipeline.models import architectures
from keras_pipeline.records.observer import Observer
from keras_pipeline.stages import evaluate, train

pytestmark = pytest.mark.slow

WRITTEN = {
    "predictions.npz",
    "metrics.json",
    "intervals.json",
    *(f"tables/{name}.csv" for name in ("per_class", "calibration", "confusion")),
    *(f"figures/{name}.png" for name in ("confusion_matrix", "learning_curves", "per_class", "reliability")),
    "figures/worst_mistakes.png",
}
CHANGES = {"model.l2": 0.001, "train.epochs": 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    small.normalized_digits(folder)
    train.train_network(
        small.params(CHANGES), folder / "normalized", folder / "models", Observer(), folder / "checkpoints"
    )
    return folder


def test_the_numbers_are_those_of_keras(trained: Path) -> None:
    from keras_pipeline.models import model_file

    evaluate.evaluate_network(small.params(CHANGES), trained / "normalized", trained / "models", trained / "reports")
    scores = files.read_json(trained / "reports" / "metrics.json", "evaluate")
    statistics = files.read_json(trained / "normalized" / "statistics.json", "normalize")
    test = read_split(trained / "normalized", "test", statistics)
    model = architectures.build_network(small.params(CHANGES).model, IMAGE_SHAPE, 10)
    model_file.load_weights(model, trained / "models" / "model.keras")
    model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(test.inputs, np.eye(10)[test.targets], verbose=0)
    assert scores["test/loss"] == pytest.approx(loss, rel=1e-5)
    assert scores["test/accuracy"] == pytest.approx(accuracy, rel=1e-6)
    assert scores["test/loss"] > scores["test/log_loss"]  # the L2 penalty


def test_the_same_network_gives_the_same_bytes(trained: Path) -> None:
    contents = []
    for name in ("once", "again"):
        evaluate.evaluate_network(small.params(CHANGES), trained / "normalized", trained / "models", trained / name)
        found = {path.relative_to(trained / name).as_posix() for path in (trained / name).rglob("*.*")} - {".lock"}
        assert found == WRITTEN
        contents.append({path: (trained / name / path).read_bytes() for path in WRITTEN})
    assert contents[0] == contents[1]


def test_predictions_hold_outputs_labels_and_penalty(trained: Path) -> None:
    evaluate.evaluate_network(small.params(CHANGES), trained / "normalized", trained / "models", trained / "reports")
    with np.load(trained / "reports" / "predictions.npz", allow_pickle=False) as saved:
        assert {name: (saved[name].dtype.str, saved[name].shape) for name in saved} == {
            "outputs": ("<f4", (360, 10)),
            "labels": ("<i8", (360,)),
            "penalty": ("<f8", ()),
        }
        np.testing.assert_allclose(saved["outputs"].sum(axis=1), 1, atol=1e-5)


def test_a_network_that_learned_nothing_is_said(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from keras_pipeline.models import frameworks, model_file

    frameworks.seed_everything(1, "float32")
    model = architectures.build_network(small.params(CHANGES).model, IMAGE_SHAPE, 10)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    (trained / "idle").mkdir()
    (trained / "idle" / "history.csv").write_bytes((trained / "models" / "history.csv").read_bytes())
    model_file.save_network(model, trained / "idle" / "model.keras")
    evaluate.evaluate_network(small.params(CHANGES), trained / "normalized", trained / "idle", trained / "idle_reports")
    assert "no better than always giving the most common answer" in capsys.readouterr().out


def test_what_is_missing_or_damaged_is_named(trained: Path, tmp_path: Path) -> None:
    normalized = trained / "normalized"
    with pytest.raises(DataError, match=r"statistics.json: not there. The stage 'normalize' writes it"):
        evaluate.evaluate_network(small.params(), tmp_path, trained / "models", tmp_path / "reports")
    with pytest.raises(DataError, match=r"history.csv: cannot be read as a training history"):
        evaluate.evaluate_network(small.params(), normalized, tmp_path, tmp_path / "reports")
    (tmp_path / "history.csv").write_bytes((trained / "models" / "history.csv").read_bytes())
    with pytest.raises(ModelFileError, match=r"model.keras: cannot be loaded"):
        evaluate.evaluate_network(small.params(), normalized, tmp_path, tmp_path / "reports")
