"""The params of the tasks beside the choice of a class, for real trainings too, and their normalized data."""

from pathlib import Path
from typing import Any

import small
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.stages import fetch, normalize

BINARY = {"normalize.positive_class": 3, "model.output_activation": "sigmoid", "train.loss": "binary_crossentropy"}
LINE = {
    "fetch.dataset": "line",
    "normalize.scaling": "standard",
    "model.hidden_units": [],
    "model.output_activation": "linear",
    "train.loss": "mean_squared_error",
}


def normalized_task(folder: Path, changes: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """What `fetch` and `normalize` leave with these params: the folder, and statistics.json."""
    chosen = small.params(changes)
    fetch.fetch_dataset(chosen, folder / "raw", folder / "downloads")
    normalize.normalize_dataset(chosen, folder / "raw", folder / "normalized")
    statistics = read_statistics(folder / "normalized")
    return folder / "normalized", statistics


FEW = {"train.batch_size": 32, "model.dropout": 0.0}
CHANGES: dict[str, dict[str, Any]] = {
    "binary": {**BINARY, **FEW, "train.epochs": 8, "model.hidden_units": [64], "model.l2": 0.001},
    "line": {**LINE, **FEW, "train.epochs": 10, "train.optimizer.learning_rate": 0.03},
    "diabetes": {
        **LINE, **FEW,
        "fetch.dataset": "diabetes", "model.hidden_units": [32], "train.epochs": 20,
        "train.optimizer.learning_rate": 0.01,
    },
}  # fmt: skip
