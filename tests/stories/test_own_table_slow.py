"""A table of one's own with three classes through training, evaluation, export and MLflow."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asked_network
import example_table
import small
from keras_pipeline.core import json_files
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.export import manifest
from keras_pipeline.records.observer import Observer
from keras_pipeline.stages import evaluate, export, fetch, normalize, track, train
from tracking_fixtures import MLFLOW_WARNINGS

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]

TABLE = {
    "fetch.dataset": "flowers", "normalize.scaling": "standard", "train.batch_size": 32, "train.epochs": 8,
    "train.optimizer.learning_rate": 0.02,
}  # fmt: skip


def test_a_table_with_classes_is_trained_evaluated_exported_and_tracked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example_table.write_project(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    chosen = small.params(TABLE)
    Path("params.yaml").write_bytes(small.params_text({**small.QUICK, **TABLE}))
    normalized, models, reports = Path("data/normalized"), Path("models"), Path("reports")
    fetch.fetch_dataset(chosen, Path("data/raw"), Path("downloads"))
    normalize.normalize_dataset(chosen, Path("data/raw"), normalized)
    train.train_network(chosen, normalized, models, Observer(), Path("checkpoints"))
    evaluate.evaluate_network(chosen, normalized, models, reports)
    scores: Any = json_files.parse_json((reports / "metrics.json").read_bytes())
    assert scores["test/accuracy"] > 0.85
    assert " rows; figures in reports/figures/" in capsys.readouterr().out
    assert {path.stem for path in (reports / "figures").iterdir()} == {
        "confusion_matrix", "learning_curves", "per_class", "reliability",
    }  # fmt: skip
    with (reports / "tables" / "worst_mistakes.csv").open(newline="") as file:
        mistakes = list(csv.DictReader(file))
    with Path("data/raw/test.csv").open(newline="") as file:
        raw = list(csv.DictReader(file))
    assert 0 < len(mistakes) == round((1 - scores["test/accuracy"]) * len(raw)) <= 36
    assert [float(row["probability"]) for row in mistakes] == sorted((float(row["probability"]) for row in mistakes),
                                                                     reverse=True)  # fmt: skip
    for row in mistakes:
        own = raw[int(row["row"]) - 1]
        assert (row["actual"], row["site"], row["colour"]) == (
            own["species"],
            own["site"],
            own["colour"] or "(missing)",
        )
        if own["height"]:
            assert float(row["height"]) == pytest.approx(float(own["height"]), rel=1e-5)
    export.export_network(chosen, normalized, models, reports)
    exported = manifest.read_manifest(models / "export")
    assert exported["input"]["kind"] == "table"
    assert [column["name"] for column in exported["input"]["columns"]] == list(raw[0])[:-1]
    assert set(exported["formats"]) == {"onnx", "javascript"}
    assert np.isfinite(scores["test/loss"])
    track.track_run(chosen, Path("params.yaml"), models, reports, Path("checkpoints"))
    assert "is in MLflow" in capsys.readouterr().out
    # Asked about the test split, in any order of columns, with others among them, it answers as it was evaluated.
    statistics = read_statistics(normalized)
    rows = asked_network.ask(Path("data/raw/test.csv"), tmp_path / "answers.csv")
    asked_network.assert_as_evaluated(rows, reports, statistics)
    columns = [*raw[0]][::-1]
    with (tmp_path / "asked.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["id", *columns])
        writer.writerows([number, *(row[column] for column in columns)] for number, row in enumerate(raw))
    key = json_files.parse_json((models / "run.json").read_bytes())["key"]  # the same network, as MLflow keeps it
    assert asked_network.ask(tmp_path / "asked.csv", tmp_path / "again.csv", key) == rows
