"""The stage evaluate: its numbers are Keras' own, and its files the same bytes from the same network."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.core import json_files
from keras_pipeline.core.errors import DataError, ModelFileError
from keras_pipeline.data.history import read_history
from keras_pipeline.data.splits import read_split
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.models import architectures
from keras_pipeline.records.observer import Observer
from keras_pipeline.stages import evaluate, train
from small import IMAGE_SHAPE

pytestmark = pytest.mark.slow

WRITTEN = {
    "predictions.npz",
    "metrics.json",
    "intervals.json",
    *(f"tables/{name}.csv" for name in ("per_class", "calibration", "confusion", "confused_pairs")),
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


@pytest.mark.parametrize("scale", [1, 1e3, 1e8])
def test_the_numbers_are_those_of_keras(trained: Path, scale: float) -> None:
    """Also of a network whose outputs are rounded to 0 and 1, because its output layer has exploded."""
    from keras_pipeline.models import frameworks, model_file

    frameworks.seed_everything(1, "float32")
    model = architectures.build_network(small.params(CHANGES).model, IMAGE_SHAPE, 10)
    model_file.load_weights(model, trained / "models" / "model.keras")
    model.layers[-1].set_weights([scale * one for one in model.layers[-1].get_weights()])
    models = trained / f"models {scale:g}"
    models.mkdir()
    (models / "history.csv").write_bytes((trained / "models" / "history.csv").read_bytes())
    model_file.save_network(model, models / "model.keras")
    evaluate.evaluate_network(small.params(CHANGES), trained / "normalized", models, trained / "reports")
    scores = json_files.parse_json((trained / "reports" / "metrics.json").read_bytes())
    statistics = read_statistics(trained / "normalized")
    test = read_split(trained / "normalized", "test", statistics)
    model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(test.scaled(), np.eye(10)[test.targets], verbose=0)
    assert scores["test/loss"] == pytest.approx(loss, rel=1e-6)
    assert scores["test/accuracy"] == pytest.approx(accuracy, rel=1e-6)
    assert scores["test/loss"] > scores["test/log_loss"]  # the L2 penalty
    with np.load(trained / "reports" / "predictions.npz", allow_pickle=False) as saved:
        assert saved["outputs"].tobytes() == model.predict(test.scaled(), batch_size=1000, verbose=0).tobytes()


EXPLODED = {
    "model.batch_normalization": False, "model.dropout": 0.0, "model.l2": 0.0, "train.epochs": 1,
    "train.optimizer": {"name": "sgd", "learning_rate": 1000.0}, "train.schedule.name": "constant",
}  # fmt: skip


@pytest.mark.parametrize("changes", [CHANGES, EXPLODED, {**EXPLODED, "train.engine": "numpy"}])
def test_the_loss_of_the_history_is_that_of_the_same_weights(
    trained: Path, changes: dict[str, Any], tmp_path: Path
) -> None:
    """val/loss of the epoch whose weights the network has is what stock Keras evaluates on the validation images."""
    from keras_pipeline.models import model_file

    chosen, models = small.params(changes), tmp_path / "models"
    train.train_network(chosen, trained / "normalized", models, Observer(), tmp_path / "checkpoints")
    model = architectures.build_network(chosen.model, IMAGE_SHAPE, 10)
    model_file.load_weights(model, models / "model.keras")
    model.compile(loss="categorical_crossentropy")
    validation = read_split(trained / "normalized", "validation", read_statistics(trained / "normalized"))
    loss = model.evaluate(validation.scaled(), np.eye(10)[validation.targets], verbose=0)
    best = min(read_history(models / "history.csv"), key=lambda row: row["val/loss"])
    assert best["val/loss"] == pytest.approx(loss, rel=1e-5)
    assert (best["val/loss"] > 16.2) == (changes is not CHANGES)  # to which clipped probabilities would bind it


def test_the_same_network_gives_the_same_bytes(trained: Path) -> None:
    contents = []
    for name in ("once", "again"):
        evaluate.evaluate_network(small.params(CHANGES), trained / "normalized", trained / "models", trained / name)
        found = {path.relative_to(trained / name).as_posix() for path in (trained / name).rglob("*.*")} - {".lock"}
        assert found == WRITTEN
        contents.append({path: (trained / name / path).read_bytes() for path in WRITTEN})
    assert contents[0] == contents[1]


def test_predictions_hold_outputs_labels_and_loss(trained: Path) -> None:
    evaluate.evaluate_network(small.params(CHANGES), trained / "normalized", trained / "models", trained / "reports")
    with np.load(trained / "reports" / "predictions.npz", allow_pickle=False) as saved:
        assert {name: (saved[name].dtype.str, saved[name].shape) for name in saved} == {
            "outputs": ("<f4", (360, 10)),
            "labels": ("<i8", (360,)),
            "loss": ("<f8", ()),
            "model": ("|u1", (32,)),
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
    said = capsys.readouterr().out
    assert ", no better than a constant answer on 360 images;" in said
    assert re.search(
        r"no better than always giving the most common answer, \d \(10.3%\); it gives the same outputs to every image "
        r"\(0\), as dead units",
        said,
    )


def test_what_is_missing_or_damaged_is_named(trained: Path, tmp_path: Path) -> None:
    normalized = trained / "normalized"
    with pytest.raises(DataError, match=r"statistics.json: not there. The stage 'normalize' writes it"):
        evaluate.evaluate_network(small.params(), tmp_path, trained / "models", tmp_path / "reports")
    with pytest.raises(DataError, match=r"history.csv: not there"):
        evaluate.evaluate_network(small.params(), normalized, tmp_path, tmp_path / "reports")
    (tmp_path / "history.csv").write_bytes((trained / "models" / "history.csv").read_bytes())
    with pytest.raises(ModelFileError, match=r"model.keras: not there"):
        evaluate.evaluate_network(small.params(), normalized, tmp_path, tmp_path / "reports")
