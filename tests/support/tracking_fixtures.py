"""A checkout as the stages leave it, made by hand, and ways to look into the store that tracking writes."""

import contextlib
import json
import shutil
import sqlite3
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fault_server
import small
from keras_pipeline.checks.params import load_params
from keras_pipeline.records import provenance
from keras_pipeline.stages import track
from keras_pipeline.tracking.stores import address, relocation

MLFLOW_WARNINGS = pytest.mark.filterwarnings(
    "ignore:The .*noload.* loader strategy is deprecated",  # MLflow with SQLAlchemy 2.1
    "ignore:.*Any type hint is inferred as AnyType",  # MLflow, of its own functions
    "ignore:__array__ implementation doesn't accept a copy keyword",  # Keras with NumPy 2
    "ignore:Operation with range is deprecated",  # MLflow with pandas 3, of a DataFrame as an example
)
EXPERIMENT = "keras-pipeline"
STRANGE_NAMES = [
    "plain",
    "what?",
    "a#b",
    "100%",
    "50%20off",
    "two words",
    "-x",
    "ümläut 数",
    "a@b:c",
    "semi;colon",
    "a&b=c+d",
    "'\"$x`",
]
"""What people call folders, and what an address has to quote, or must not."""
STARTED = 1_700_000_000.25
SECRET = "open-sesame"
PARAMS = {
    "model.hidden_units": [512, 256],
    "model.filters": [32, 64, 128],
    "model.dropout": 0.3,
    "train.batch_size": 128,
    "train.optimizer.learning_rate": 0.001,
    "evaluate.calibration_bins": 15,
}
MAKER_THAT_IS_KILLED = """\
import os, signal, sys
import mlflow, sqlalchemy
count = 0

def after(connection, cursor, statement, *more):
    global count
    count += 1
    if count > 700 and statement.strip().startswith("DROP TABLE"):
        os.kill(os.getpid(), signal.SIGKILL)

sqlalchemy.event.listen(sqlalchemy.engine.Engine, "after_cursor_execute", after)
mlflow.MlflowClient(sys.argv[1])
"""
"""A program that lets MLflow alone make a store, and dies in the middle of it, in the middle of a change."""
SPLITS = {"train": 90, "validation": 10, "test": 20}


def history(epochs: int = 3) -> list[dict[str, float]]:
    """Rows as stages/train.py writes them, each epoch ten seconds after the last."""
    return [
        {
            "epoch": epoch,
            "train/loss": 1 / epoch,
            "train/accuracy": 1 - 0.5 / epoch,
            "val/loss": 1.5 / epoch,
            "val/accuracy": 1 - 0.625 / epoch,
            "train/learning_rate": 0.001 / epoch,
            "time": STARTED + 10 * epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def record(params_file: Path, key: str = "a" * 32, **changes: Any) -> dict[str, Any]:
    """models/run.json of a finished training."""
    values = load_params(params_file)
    blocks = {name: getattr(values, name) for name in ("seed", "fetch", "normalize", "model", "train")}
    return {
        "format": 3,
        "key": key,
        "name": "digits mlp",
        "started": STARTED,
        "params": provenance.flat_params(blocks),
        "dataset": {
            **small.described(),
            "task": "classes",
            "target": None,
            "class_names": [str(digit) for digit in range(10)],
            "images": SPLITS,
            "scaling": {"name": "standard", "offset": 33.5, "divisor": 78.25},
            "sha256": {
                f"{split}_{kind}.npy": f"{number}{kind[0].encode().hex()}" + 61 * "0"
                for number, split in enumerate(SPLITS)
                for kind in ("images", "labels")
            },
        },
        "sha256": {"params": "1" * 64, "data": "2" * 64, "code": "3" * 64, "model": "4" * 64},
        "git": {"commit": "c" * 40, "dirty": False},
        "machine": {},
        "versions": {"python": "3.11.7", "keras": "3.15.1"},
        "environment": ["keras==3.15.1", "numpy==2.4.6"],
        "strategy": {
            "name": "none",
            "asked": "none",
            "backend": "tensorflow",
            "devices": ["/cpu:0"],
            "workers": 1,
            "replicas": 1,
            "batch_per_replica": 256,
        },
        "resumed": [],
        "host": "laptop",
        "weights": 538_122,
        "history": history(),
        "ended": STARTED + 31,
        "train_seconds": 31.0,
        "best_epoch": 3,
        "reproducibility": "seeded",
        **changes,
    }


def scores(accuracy: float = 0.95) -> dict[str, float]:
    """reports/metrics.json, as far as tracking knows it."""
    return {
        "test/loss": 0.25,
        "test/accuracy": accuracy,
        "test/accuracy_low": accuracy - 0.0625,
        "test/accuracy_high": accuracy + 0.03125,
    }


@dataclass
class Checkout:
    """A project folder with params.yaml, dvc.yaml, models/ and reports/."""

    root: Path

    @property
    def params_file(self) -> Path:
        return self.root / "params.yaml"

    @property
    def where(self) -> address.Location:
        return address.store_location(self.root)

    @property
    def database(self) -> Path:
        return self.root / "mlruns" / "mlflow.db"

    def write(self, run: dict[str, Any] | None = None, accuracy: float = 0.95, shade: int = 0) -> dict[str, Any]:
        """The outputs of train and evaluate; the shade is the confusion matrix's. The record is given back."""
        run = run or record(self.params_file)
        models, reports = self.root / "models", self.root / "reports"
        models.mkdir(exist_ok=True)
        (models / "run.json").write_text(json.dumps(run))
        (reports / "figures").mkdir(parents=True, exist_ok=True)
        (reports / ".lock").write_text("1 2")
        (reports / "metrics.json").write_text(json.dumps(scores(accuracy)))
        labels = np.arange(SPLITS["test"]) % 10
        outputs = np.eye(10, dtype=np.float32)[labels]
        outputs[round(accuracy * len(labels)) :] = np.roll(outputs[round(accuracy * len(labels)) :], 1, axis=1)
        np.savez(reports / "predictions.npz", outputs=outputs, labels=labels, loss=0.25)
        (reports / "tables").mkdir(exist_ok=True)
        (reports / "tables" / "per_class.csv").write_text("class,support\n0,20\n")
        for name in ("confusion_matrix", "reliability"):
            Image.new("L", (8, 8), shade).save(reports / "figures" / f"{name}.png")
        return run

    def set_params(self, changes: dict[str, Any]) -> None:
        """The project's own params.yaml with PARAMS and these changes."""
        self.params_file.write_bytes(small.params_text({**PARAMS, **changes}))

    def track(self, *, again: bool = False) -> None:
        """What `keras-pipeline track` does."""
        values = load_params(self.params_file)
        with contextlib.chdir(self.root):
            models, reports, checkpoints = (self.root / name for name in ("models", "reports", ".checkpoints"))
            track.track_run(values, self.params_file, models, reports, checkpoints, again=again)


def checkout(folder: Path, template: Path | None = None) -> Checkout:
    """A fresh one; its store is a copy of the template's, if one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    made = Checkout(folder)
    made.set_params({})
    if template:
        made.database.parent.mkdir()
        shutil.copy(template, made.database)
        relocation.relocate_artifacts(made.where)
    return made


def contents(database: Path) -> dict[str, list[Any]]:
    """Every row of every table, in order."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}


def leaks(folder: Path, secret: str = SECRET) -> list[Path]:
    """The files that hold the secret."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert found
    return [path for path in found if secret.encode() in path.read_bytes()]


class Handler(fault_server.Handler):
    """As MLflow's client speaks: most calls are POST."""

    def do_POST(self) -> None:  # noqa: N802 (the name that http.server looks for)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_PUT(self) -> None:  # noqa: N802
        self.do_POST()

    def do_PATCH(self) -> None:  # noqa: N802
        self.do_POST()


def answer(value: Any) -> fault_server.Answer:
    return fault_server.whole(json.dumps(value).encode(), Content_Type="application/json")


class TrackingServer(fault_server.FaultServer):
    """Says to each call of MLflow's client what a server of one empty experiment and one run says."""

    def __init__(self) -> None:
        # Of its own: within a process, MLflow remembers where a run's files are.
        info = {"run_id": uuid.uuid4().hex, "status": "RUNNING", "artifact_uri": "mlflow-artifacts:/1"}
        run = {"info": info, "data": {}}
        experiment = {"experiment_id": "1", "name": EXPERIMENT, "lifecycle_stage": "active"}
        super().__init__(
            {
                "get-by-name": answer({"experiment": experiment}),
                "create": answer({"run": run}),
                "get": answer({"run": run}),
                "update": answer({"run_info": info}),
                **dict.fromkeys(("search", "log-batch", "log-inputs", "set-tag", "trace.json"), answer({})),
            }
        )
        self.answers = dict(self.answers)
        self.RequestHandlerClass = Handler

    @property
    def calls(self) -> list[str]:
        """The last part of each request's path."""
        return [path.partition("?")[0].rpartition("/")[2] for path, _ in self.requests]

    @property
    def uri(self) -> str:
        """With a password, as some people give it."""
        return self.url.replace("://", f"://somebody:{SECRET}@")
