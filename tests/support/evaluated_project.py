"""A folder in which everything up to evaluate is done, without a framework."""

from pathlib import Path
from typing import Any

import numpy as np

import made_networks
import small
import small_tasks
from keras_pipeline.core import files
from keras_pipeline.data.splits import read_split
from keras_pipeline.data.statistics import describe_dataset, read_statistics
from keras_pipeline.evaluation.predictions import Predictions, write_predictions
from keras_pipeline.export import manifest
from keras_pipeline.records import record
from keras_pipeline.stages.export import export_network
from recorded_run import recorded


class Project:
    """A folder with data, a network that nobody has trained, its record, and its answers to the test split."""

    def __init__(self, root: Path, changes: dict[str, Any]) -> None:
        self.root, self.params = root, small.params(changes)
        self.normalized, self.models, self.reports = (root / name for name in ("normalized", "models", "reports"))
        small_tasks.normalized_task(root, changes)
        statistics = read_statistics(self.normalized)
        weights = made_networks.draw_weights(made_networks.all_layers(self.params, statistics), statistics["shape"])
        made_networks.write_keras(self.models / "model.keras", weights)
        run = recorded(changes, self.normalized)
        run["dataset"] = describe_dataset(statistics)
        run["sha256"]["model"] = files.file_sha256(self.models / "model.keras")
        record.write_record(self.models / "run.json", run)
        test = read_split(self.normalized, "test", statistics)
        outputs = made_networks.answers(self.params, {**statistics, "target": None}, weights, test.scaled())
        model = run["sha256"]["model"]
        self.reports.mkdir()
        self.answers = Predictions(outputs.astype(np.float32), test.targets, 1.0, None, model)
        self.write_answers()

    def write_answers(self) -> None:
        write_predictions(self.reports / "predictions.npz", self.answers)

    def export(self) -> manifest.Manifest:
        export_network(self.params, self.normalized, self.models, self.reports)
        return manifest.read_manifest(self.models / "export")

    def left(self) -> list[str]:
        """What there is of exports."""
        found = [*self.models.rglob("*"), *self.reports.rglob("*")]
        names = [str(path.relative_to(self.root)) for path in found if path.is_file()]
        return sorted(name for name in names if "export" in name)
