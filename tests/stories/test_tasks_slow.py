"""One class against the rest, and a predicted number, through the stages: what is learned, written and tracked."""

import contextlib
import csv
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asked_network
import small
from exported import ask_formats_here
from keras_pipeline.cli.overviews import status
from keras_pipeline.config.params import Params
from keras_pipeline.core import json_files
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.splits import Split, read_split
from keras_pipeline.debugging import modes
from keras_pipeline.export import manifest
from keras_pipeline.records.observer import Observer
from keras_pipeline.stages import evaluate, export, fetch, normalize, track, train
from places import SUPPORT
from small_tasks import CHANGES
from tracking_fixtures import MLFLOW_WARNINGS

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]

FIGURES = {
    "binary": {
        "confusion_matrix", "learning_curves", "per_class", "precision_recall", "reliability", "roc", "worst_mistakes",
    },
    "line": {"learning_curves", "predicted", "residuals"},
    "diabetes": {"learning_curves", "predicted", "residuals"},
}  # fmt: skip
TABLES = {
    "binary": {"calibration", "confused_pairs", "confusion", "per_class", "precision_recall", "roc"},
    "line": {"coefficients", "predicted"},
    "diabetes": {"predicted"},
}


@dataclass
class Trained:
    """What the stages fetch to evaluate left in a folder, and what evaluate said."""

    name: str
    folder: Path
    params: Params
    said: str

    @property
    def scores(self) -> dict[str, float]:
        scores: dict[str, float] = json_files.parse_json((self.folder / "reports" / "metrics.json").read_bytes())
        return scores

    @property
    def statistics(self) -> dict[str, Any]:
        statistics: dict[str, Any] = json_files.parse_json(
            (self.folder / "data/normalized/statistics.json").read_bytes()
        )
        return statistics

    def split(self, name: str) -> Split:
        return read_split(self.folder / "data" / "normalized", name, self.statistics)

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.folder / "reports" / "tables" / f"{name}.csv").open() as file:
            return list(csv.DictReader(file))


def run(folder: Path, changes: dict[str, Any]) -> Params:
    """The stages fetch to evaluate in a folder."""
    chosen = small.params(changes)
    data, models = folder / "data", folder / "models"
    fetch.fetch_dataset(chosen, data / "raw", folder / "downloads")
    normalize.normalize_dataset(chosen, data / "raw", data / "normalized")
    train.train_network(chosen, data / "normalized", models, Observer(), folder / "checkpoints")
    evaluate.evaluate_network(chosen, data / "normalized", models, folder / "reports")
    return chosen


@pytest.fixture(scope="module", params=list(CHANGES))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    with (folder / "said").open("w") as said, contextlib.redirect_stdout(said):
        chosen = run(folder, CHANGES[request.param])
    (folder / "params.yaml").write_bytes(small.params_text({**small.QUICK, **CHANGES[request.param]}))
    return Trained(request.param, folder, chosen, (folder / "said").read_text())


def test_each_learns_what_is_to_be_learned(trained: Trained) -> None:
    scores = trained.scores
    if trained.name == "binary":
        assert scores["test/roc_auc"] > 0.99
        assert scores["test/average_precision"] > 0.95
        assert f"test/roc_auc {scores['test/roc_auc']:.4f} on 360 images" in trained.said
        assert "no better" not in trained.said
    if trained.name == "line":
        assert scores["test/r2"] > 0.99
        (slope, intercept) = (float(row["value"]) for row in trained.table("coefficients"))
        assert slope == pytest.approx(2, abs=0.05)
        assert intercept == pytest.approx(0, abs=0.05)
        assert f"evaluate: the network is the line y = {slope:.4f} x " in trained.said
    if trained.name == "diabetes":
        assert 0.2 < scores["test/r2"] < 0.6
        assert 35 < scores["test/mean_absolute_error"] < 55  # in the target's units, 25 … 346


def test_each_writes_its_tables_and_figures_and_no_other(trained: Trained) -> None:
    reports = trained.folder / "reports"
    assert {path.stem for path in (reports / "figures").iterdir()} == FIGURES[trained.name]
    assert {path.stem for path in (reports / "tables").iterdir()} == TABLES[trained.name]
    assert {path.name for path in reports.iterdir()} - {".lock"} == {
        "figures", "tables", "intervals.json", "metrics.json", "predictions.npz",
    }  # fmt: skip
    intervals = json_files.parse_json((reports / "intervals.json").read_bytes())
    for name, (low, high) in intervals.items():
        assert low <= trained.scores[name] <= high, name


def test_asked_about_the_test_split_it_answers_as_it_was_evaluated(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.folder)
    given = Path("data/raw", "test_images.npy" if trained.name == "binary" else "test.csv")
    rows = asked_network.ask(given, tmp_path / "answers.csv")
    asked_network.assert_as_evaluated(rows, Path("reports"), trained.statistics)


def test_the_numbers_are_those_of_keras_over_all_images(trained: Trained) -> None:
    """Of the kept weights: test/loss by Keras' evaluate, and the history's validation row, whose last batch was filled
    up with images that do not count."""
    import keras

    from keras_pipeline.data import task_spec
    from keras_pipeline.models import architectures, model_file

    question = task_spec.task_spec_from(trained.statistics)
    model = architectures.build_network(trained.params.model, question.shape, question.outputs)
    model_file.load_weights(model, trained.folder / "models" / "model.keras")
    binary = trained.name == "binary"
    metric = keras.metrics.BinaryAccuracy() if binary else keras.metrics.MeanAbsoluteError()
    model.compile(loss=trained.params.train.loss, metrics=[metric])
    test, validation = trained.split("test"), trained.split("validation")
    loss, _ = model.evaluate(test.scaled(), test.targets[:, np.newaxis].astype(np.float32), verbose=0)
    assert trained.scores["test/loss"] == pytest.approx(loss, rel=1e-5)
    loss, value = model.evaluate(validation.scaled(), validation.targets[:, np.newaxis].astype(np.float32), verbose=0)
    record = json_files.parse_json((trained.folder / "models" / "run.json").read_bytes())
    best = record["history"][record["best_epoch"] - 1]
    assert best["val/loss"] == pytest.approx(loss, rel=1e-5)
    if binary:
        assert best["val/accuracy"] == pytest.approx(value, rel=1e-6)
    else:  # told in the target's units
        assert best["val/mean_absolute_error"] == pytest.approx(value * question.target.divisor, rel=1e-5)


def test_a_binary_network_filled_up_counts_its_images_only() -> None:
    """Most of the batch is filling, whose target 0 an idle network would have right."""
    from keras_pipeline.training import compilation

    weights = np.array([0.1, 0.2, 0, 0, 0, 0], np.float32)
    targets, outputs = np.array([[1], [1], [0], [0], [0], [0]], np.float32), np.full((6, 1), 0.2, np.float32)
    accuracy = compilation.BinaryAccuracy(name="accuracy")
    accuracy.update_state(targets, outputs, weights)
    assert float(accuracy.result()) == 0
    error = compilation.MeanAbsoluteError("mean_absolute_error", unit=10.0)
    error.update_state(targets, outputs, weights)
    assert float(error.result()) == pytest.approx(8)


def test_the_history_has_the_columns_of_its_task(trained: Trained) -> None:
    metric = "accuracy" if trained.name == "binary" else "mean_absolute_error"
    with (trained.folder / "models" / "history.csv").open() as file:
        columns = next(csv.reader(file))
    expected = ["epoch", "train/loss", f"train/{metric}", "val/loss", f"val/{metric}", "train/learning_rate"]
    assert columns == expected
    assert f"  val/{metric} " in trained.said
    assert f", val/{metric} " in trained.said.split("train: ")[-1]


def test_the_same_params_give_the_same_bytes(trained: Trained, tmp_path: Path) -> None:
    run(tmp_path, CHANGES[trained.name])
    for path in sorted(trained.folder.glob("reports/**/*.*")):
        if path.name != ".lock":
            assert path.read_bytes() == (tmp_path / path.relative_to(trained.folder)).read_bytes(), path
    for name in ("model.keras", "history.csv"):
        assert (trained.folder / "models" / name).read_bytes() == (tmp_path / "models" / name).read_bytes()


def test_each_is_exported_in_every_format_that_it_can_have(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_formats_here(monkeypatch)
    formats = [name for name in manifest.PATHS if trained.name == "binary" or name != "litert_int8"]
    chosen = small.params({**CHANGES[trained.name], "export.formats": formats, "export.accuracy_loss": 2.0})
    shutil.copytree(trained.folder / "models", tmp_path / "models")
    shutil.copytree(trained.folder / "reports", tmp_path / "reports")
    export.export_network(chosen, trained.folder / "data/normalized", tmp_path / "models", tmp_path / "reports")
    assert list(manifest.read_manifest(tmp_path / "models" / "export")["formats"]) == formats


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"train.fused": False}, id="step by step"),
        pytest.param({"train.backend": "jax"}, id="jax", marks=pytest.mark.needs_jax),
        pytest.param({"train.backend": "torch"}, id="torch", marks=pytest.mark.needs_torch),
    ],
)
def test_other_ways_to_compute_give_the_same_network(
    trained: Trained, tmp_path: Path, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = small.params({**CHANGES[trained.name], **other})
    if "train.backend" in other:
        code = (
            "import small, sys; from pathlib import Path; from keras_pipeline.records.observer import Observer; "
            "from keras_pipeline.stages import train; from small_tasks import CHANGES; "
            f"chosen = small.params({{**CHANGES[{trained.name!r}], **{other!r}}}); "
            f"train.train_network(chosen, Path({str(trained.folder / 'data/normalized')!r}), Path({str(tmp_path)!r}), "
            f"Observer(), Path({str(tmp_path / 'checkpoints')!r}))"
        )
        _in_a_process(code)
    else:
        train.train_network(chosen, trained.folder / "data/normalized", tmp_path, Observer(), tmp_path / "checkpoints")
    before, after = (_history(folder) for folder in (trained.folder / "models", tmp_path))
    np.testing.assert_allclose(after[:2], before[:2], rtol=2e-3)  # later rounding grows
    ask_formats_here(monkeypatch)
    evaluate.evaluate_network(chosen, trained.folder / "data/normalized", tmp_path, tmp_path / "reports")
    export.export_network(chosen, trained.folder / "data/normalized", tmp_path, tmp_path / "reports")


def _in_a_process(code: str) -> None:
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", code], cwd=SUPPORT, check=True, capture_output=True, timeout=600)


def _history(models: Path) -> Any:
    return np.genfromtxt(models / "history.csv", delimiter=",", skip_header=1)


@pytest.fixture
def alone(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A copy with a store of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # which MLflow sets, and which is put back after the test
    folder = tmp_path / "checkout"
    shutil.copytree(trained.folder, folder)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(folder)
    return Trained(trained.name, folder, trained.params, trained.said)


def test_a_run_in_mlflow_says_what_the_files_say(alone: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    from keras_pipeline.tracking import store
    from keras_pipeline.tracking.stores import address

    track.track_run(alone.params, Path("params.yaml"), Path("models"), Path("reports"), Path(".checkpoints"))
    assert "is in MLflow" in capsys.readouterr().out
    where = address.store_location(alone.folder)
    reached = store.connect_store(where, alone.params.tracking.experiment)
    [found] = reached.client.search_runs([reached.experiment])
    assert found.info.status == "FINISHED"
    assert found.data.metrics.items() >= alone.scores.items()
    metric = "accuracy" if alone.name == "binary" else "mean_absolute_error"
    record = json_files.parse_json(Path("models/run.json").read_bytes())
    sent = reached.client.get_metric_history(found.info.run_id, f"val/{metric}")
    assert [one.value for one in sent] == [row[f"val/{metric}"] for row in record["history"]]
    assert found.data.metrics[f"best/val_{metric}"] == record["history"][record["best_epoch"] - 1][f"val/{metric}"]
    note, scores = found.data.tags["mlflow.note.content"], alone.scores
    if alone.name == "binary":
        assert "of the 360 test images right [" in note
        assert f", ROC AUC {scores['test/roc_auc']:.4f}, loss" in note
    else:
        assert note.startswith(f"**R² {scores['test/r2']:.4f}** over ")
    kept = {one.path for one in reached.client.list_artifacts(found.info.run_id, "reports/tables")}
    assert kept == {f"reports/tables/{name}.csv" for name in TABLES[alone.name]}
    view = reached.client.get_experiment(reached.experiment).tags["mlflow.sharedViewState.main"]
    assert ("metrics.`test/accuracy`" in view, "metrics.`test/r2`" in view) == (
        (True, False) if alone.name == "binary" else (False, True)
    )
    status.show_status(alone.params, Path("data/normalized"), Path("models"), Path("reports"))
    shown = capsys.readouterr().out
    assert ("test/roc_auc" if alone.name == "binary" else "result:   test/r2 ") in shown


def test_what_mlflow_serves_takes_what_is_raw(alone: Trained) -> None:
    import mlflow

    from keras_pipeline.tracking import store
    from keras_pipeline.tracking.stores import address

    track.track_run(alone.params, Path("params.yaml"), Path("models"), Path("reports"), Path(".checkpoints"))
    where = address.store_location(alone.folder)
    reached = store.connect_store(where, alone.params.tracking.experiment)
    [found] = reached.client.search_runs([reached.experiment])
    mlflow.set_tracking_uri(where.uri)
    served = mlflow.pyfunc.load_model(f"runs:/{found.info.run_id}/model")
    test, statistics = alone.split("test"), alone.statistics
    with np.load("reports/predictions.npz") as saved:
        outputs = saved["outputs"][:20]
    if alone.name == "binary":
        raw: Any = test.inputs[:20, ..., 0]
        expected: Any = outputs
    else:
        raw = Scaling(**statistics["scaling"]).undo(test.inputs[:20]).astype(np.float32)
        expected = Scaling(**statistics["target"]).undo(outputs)
    np.testing.assert_allclose(served.predict(raw), expected, rtol=1e-3, atol=1e-4)


def test_debug_says_what_it_can_and_what_not(trained: Trained, tmp_path: Path) -> None:
    normalized = trained.folder / "data" / "normalized"
    modes.run_mode(trained.params, normalized, tmp_path, Observer(), "one-batch", 1.0)
    assert (tmp_path / "one-batch" / "model.keras").is_file()
    assert (tmp_path / "one-batch" / "images.png").is_file() == (trained.name == "binary")
    modes.run_mode(trained.params, normalized, tmp_path, Observer(), "limited", 0.5)
    if trained.name == "binary":
        modes.run_mode(trained.params, normalized, tmp_path, Observer(), "overfit", 1.0)
    else:
        with pytest.raises(ParamsError, match="debug overfit looks whether all answers are right"):
            modes.run_mode(trained.params, normalized, tmp_path, Observer(), "overfit", 1.0)


def test_balanced_weights_count_both_classes_alike() -> None:
    from keras_pipeline.training import batches

    labels = np.array([0] * 9 + [1])
    weights = batches.class_weights(labels, 2, "balanced")
    np.testing.assert_allclose(weights, [10 / 18, 5])
    splits = [Split(np.zeros((len(own), 2), np.float32), own) for own in (labels, labels[:1])]
    data = batches.Data(*splits, weights, seed=1, batch_size=10, validation_batch=1)
    assert data.training_weights().sum() == pytest.approx(10)
    assert data.training_weights()[labels == 1].sum() == pytest.approx(5)
