"""What `keras-pipeline predict` wrote, as arrays to be held against reports/predictions.npz."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from keras_pipeline.evaluation.predictions import read_predictions
from keras_pipeline.prediction.predict import predict


def ask(path: Path, output: Path, model: str | None = None) -> list[dict[str, str]]:
    """The answers to what a path holds, a row each."""
    predict(path, model, output, "refuse")
    with output.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_as_evaluated(rows: list[dict[str, str]], reports: Path, statistics: Any) -> None:
    """These are the answers to the test split, in its order, as `evaluate` has them: every bit of every number."""
    saved = read_predictions(reports / "predictions.npz", statistics)
    names = statistics["class_names"]
    assert len(rows) == len(saved.outputs)
    if not names:
        target = statistics["target"]
        [column] = [name for name in rows[0] if name.startswith("predicted ")]
        found = np.array([float(row[column]) for row in rows])
        expected = saved.outputs[:, 0].astype(np.float64) * target["divisor"] + target["offset"]
        np.testing.assert_array_equal(found, expected)
        return
    shares = np.array([[row[f"probability of {name}"] for name in names] for row in rows], np.float32)
    np.testing.assert_array_equal(shares[:, 1:] if len(names) == 2 else shares, saved.outputs)
    labels = (saved.outputs[:, 0] > 0.5).astype(int) if len(names) == 2 else saved.outputs.argmax(axis=1)
    assert [row["label"] for row in rows] == [names[label] for label in labels]
