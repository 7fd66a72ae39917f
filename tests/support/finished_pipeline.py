"""A project in which every stage has run, small: with real data, and files of models/ and reports/ made by hand, or
all of it by the stages' own processes."""

import io
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import small
from exported import CLASSES, exported_folder
from keras_pipeline.core import files
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.records import record
from keras_pipeline.records.provenance import TRAINING
from keras_pipeline.stages import fetch, normalize
from places import PROGRAM
from recorded_run import rows

PARAMS: dict[str, Any] = {
    **small.QUICK,
    "normalize.training_images": 100,
    "normalize.scaling": "unit",
    "train.batch_size": 20,
    "train.schedule.name": "constant",
    "train.schedule.warmup_epochs": 0,
    "train.early_stopping.patience": 0,
    "train.device_type": "cpu",
    "evaluate.calibration_bins": 15,
}
"""Of its params.yaml, what is not as shipped: a hundred digits, two epochs of five steps."""


def with_data(root: Path) -> None:
    """Up to normalize."""
    root.mkdir(parents=True)
    (root / "params.yaml").write_bytes(small.params_text(PARAMS))
    (root / "dvc.yaml").write_text("stages: {}\n")
    chosen = small.params(PARAMS)
    fetch.fetch_dataset(chosen, root / "data" / "raw", root / "data" / "downloads")
    normalize.normalize_dataset(
        chosen, root / "data" / "raw", root / "data" / "normalized", root / "reports" / "dataset.html"
    )


def by_hand(root: Path) -> None:
    """All of it, without a framework: the network is no trained one, and the store is not there."""
    with_data(root)
    normalized, models, reports = root / "data" / "normalized", root / "models", root / "reports"
    statistics = read_statistics(normalized)
    run: dict[str, Any] = record.begin_record(small.params(PARAMS), normalized, statistics, TRAINING)
    _write_network(models / "model.keras")
    run["sha256"]["model"] = files.file_sha256(models / "model.keras")
    run["strategy"] = {
        "name": "none", "asked": "none", "backend": "tensorflow", "devices": ["/cpu:0"], "workers": 1, "replicas": 1,
        "batch_per_replica": 20, "fused": True,
    }  # fmt: skip
    history = [
        {name: row.get(name, 0.5) for name in ("epoch", *_COLUMNS)} | {"time": row["time"]} for row in rows(1.5, 0.75)
    ]
    run |= {"weights": 12_858, "ended": run["started"] + 1, "train_seconds": 1.0, "best_epoch": 2, "history": history}
    files.write_json(models / "run.json", run)
    lines = [",".join(str(row[name]) for name in ("epoch", *_COLUMNS)) for row in history]
    files.write_atomically(models / "history.csv", "\n".join([",".join(("epoch", *_COLUMNS)), *lines, ""]).encode())
    _write_reports(reports, np.load(normalized / "test_labels.npy"))
    described = {"run": run["key"], "model_sha256": run["sha256"]["model"], "dataset": "digits"}
    exported_folder(models / "export", {"model.onnx": b"no network"}, {**CLASSES, **described})


_COLUMNS = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/learning_rate")


def _write_network(path: Path) -> None:
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w") as weights:
        weights["layers/dense/vars/0"] = np.zeros(3, np.float32)
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "metadata.json"):
            archive.writestr(zipfile.ZipInfo(name), "{}")
        archive.writestr(zipfile.ZipInfo("model.weights.h5"), content.getvalue())


def _write_reports(reports: Path, labels: Any) -> None:
    from keras_pipeline.evaluation import multiclass

    chance = np.random.default_rng(0)
    outputs = chance.dirichlet(np.ones(10), len(labels)) + 3 * np.eye(10)[labels]
    outputs = (outputs / outputs.sum(axis=1, keepdims=True)).astype(np.float32)
    reports.mkdir(exist_ok=True)
    np.savez(reports / "predictions.npz", outputs=outputs, labels=labels, loss=0.5)
    files.write_json(reports / "metrics.json", multiclass.class_scores(outputs, labels, 0.5, 15))
    files.write_json(reports / "intervals.json", {})


def by_its_stages(root: Path) -> None:
    """All of it, by processes of the command line."""
    with_data(root)
    for stage in ("train", "evaluate", "export", "track"):
        run = subprocess.run(
            [PROGRAM, stage],
            cwd=root,
            env={**os.environ, **environment(root, root.parent)},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr


def environment(root: Path, temporary: Path) -> dict[str, str]:
    """What its processes see: a home of their own, no git repository, this folder for temporary files."""
    home = root.parent / "home"
    home.mkdir(exist_ok=True)
    return {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "GIT_CEILING_DIRECTORIES": str(root.parent),
        "MLFLOW_TRACKING_URI": "",
        "KERAS_PIPELINE_MIRRORS": "",
    }
