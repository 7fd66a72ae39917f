"""Trainings in folders of their own that are interrupted and go on, and what is left of them."""

import hashlib
import json
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import small
from places import PROGRAM
from programs import run_program
from real_workspace import wait_until

CHANGES: dict[str, Any] = {
    "fetch.dataset": "digits",
    "normalize.validation_share": 0.2,
    "model.hidden_units": [64],
    "train.epochs": 10,  # long enough not to be over when a busy machine looks late
    "train.batch_size": 16,
    "train.checkpoint_steps": 7,
}
REPRODUCED = ("model.keras", "history.csv")


class Training:
    """A folder with params.yaml in which `keras-pipeline train` runs, as often as it takes."""

    def __init__(self, folder: Path, normalized: Path, changes: dict[str, Any]) -> None:
        folder.mkdir()
        self.folder, self.normalized, self.log = folder, normalized, folder / "log"
        (folder / "params.yaml").write_bytes(small.params_text({**CHANGES, **changes}))

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        environ = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}
        with self.log.open("w") as log:
            return subprocess.Popen(
                [PROGRAM, "train", "--normalized", self.normalized, *options],
                cwd=self.folder,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def finish(self, *options: str) -> str:
        assert self.start(*options).wait(300) == 0, self.log.read_text()
        return self.log.read_text()

    def interrupted(self, number: int, after: int, options: tuple[str, ...] = ()) -> int:
        """The exit code of a training that gets a signal when `after` more checkpoints were written."""
        training = self.start(*options)
        before = self.generation()
        wait_until(lambda: self.generation() >= before + after or training.poll() is not None, 200, "checkpoints")
        training.send_signal(number)
        return training.wait(60)

    def generation(self) -> int:
        kept = [int(path.stem) for path in self.folder.glob(".checkpoints/*/*.checkpoint")]
        return max(kept, default=0)

    def digests(self) -> dict[str, str]:
        return {name: hashlib.sha256((self.folder / "models" / name).read_bytes()).hexdigest() for name in REPRODUCED}


def runs(folder: Path) -> list[dict[str, Any]]:
    """Each run's status and every value of its series but the machine's own."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        found = []
        for identity, status in database.execute("SELECT run_uuid, status FROM runs").fetchall():
            query = "SELECT key, step, value FROM metrics WHERE run_uuid = ? AND key NOT LIKE 'system/%' ORDER BY 1, 2"
            key = database.execute("SELECT value FROM tags WHERE run_uuid = ? AND key = 'pipeline.key'", (identity,))
            series = database.execute(query, (identity,)).fetchall()
            found.append({"status": status, "series": series, "key": key.fetchone()[0]})
        return found


SHORT = {"fetch.dataset": "digits", "normalize.validation_share": 0.2, "model.hidden_units": [32]}
SHORT |= {"train.epochs": 2, "train.batch_size": 64}
AVERAGES = {"train.optimizer": {"name": "adamw", "learning_rate": 0.01, "use_ema": True, "ema_momentum": 0.9}}
NUMPY = {
    "train.engine": "numpy",
    "train.optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    "model.dropout": 0.0,
    "model.batch_normalization": False,
}
STOPS = {"train.epochs": 9, "train.optimizer.learning_rate": 0.9, "train.early_stopping.patience": 1}
REPLICAS = {"train.strategy": "mirrored", "train.devices": 2, "train.batch_statistics": "per_replica"}
ENGINES: dict[str, dict[str, Any]] = {
    "step by step": {"train.fused": False, **AVERAGES},
    "stopped early": {"train.fused": True, **STOPS},
    "numpy": NUMPY,
    "replicas": REPLICAS,
}
"""Trainings that keep different things beside their weights."""


def check_killed_at_the_end(folder: Path, *names: str) -> None:
    """Of these trainings no epoch is left to do: neither history, best weights nor averages may come from one."""
    small.normalized_digits(folder, validation_share=0.2)
    variants = json.dumps({name: SHORT | ENGINES[name] for name in names})
    printed = run_program("killed_at_the_end.py", folder, variants)
    assert printed.splitlines() == [f"{name}: the same" for name in names]
    early = json.loads((folder / "stopped early killed/models/run.json").read_text())
    assert early["best_epoch"] < len(early["history"]) < 9
    [run], [reference] = (runs(folder / f"stopped early {kind}") for kind in ("killed", "whole"))
    assert (run["status"], run["series"]) == ("FINISHED", reference["series"])
