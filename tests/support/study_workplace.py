"""A folder with params.yaml and a study, in which commands run as a user runs them."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import small
from keras_pipeline.runs.run import Run
from keras_pipeline.studies import study
from keras_pipeline.studies.study import Study


class Tracked(NamedTuple):
    """A run as MLflow has it: `parent` by name."""

    status: str
    accuracy: float | None
    parent: str | None
    tags: dict[str, str]


class Workplace:
    """`changes`: what params.yaml has that the shipped one has not."""

    def __init__(self, folder: Path, changes: Mapping[str, Any]) -> None:
        self.folder = folder
        (folder / "dvc.yaml").write_text("stages: {}\n")
        (folder / "params.yaml").write_bytes(small.params_text(changes))

    def ask(self, name: str, **asked: Any) -> Study:
        """Write studies/NAME.yaml; the study."""
        (self.folder / "studies").mkdir(exist_ok=True)
        path = self.folder / "studies" / f"{name}.yaml"
        path.write_text(json.dumps({"question": "Which?", **asked}, indent=1))
        return self.asked(name)

    def asked(self, name: str) -> Study:
        """The study studies/NAME.yaml with params.yaml as it is."""
        return study.load_study(self.folder / "studies" / f"{name}.yaml", self.folder / "params.yaml")

    def start(self, *arguments: str, log: Path) -> "subprocess.Popen[bytes]":
        """A command as the leader of a process group; LOG in its environment, and in all that it begins, is `log`."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_"))}
        command = [sys.executable, "-m", "keras_pipeline.cli.main", *arguments]
        environment["LOG"] = str(log)
        with log.open("wb") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and what was printed."""
        log = self.folder / "printed.txt"
        process = self.start(*arguments, log=log)
        try:
            code = process.wait(timeout=500)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return code, log.read_text()

    def own(self, run: Run) -> Path:
        """The run's folder."""
        return self.folder / "studies" / "runs" / run.key

    def history(self, models: Path) -> list[list[float]]:
        """history.csv, without its heads."""
        rows = list(csv.reader((models / "history.csv").read_text().splitlines()))
        return [[float(value) for value in row] for row in rows[1:]]

    def tracked(self, study: str) -> dict[str, Tracked]:
        """A study's runs in MLflow by their names, no two alike; those of children without the time at their end."""
        with closing(sqlite3.connect(self.folder / "mlruns" / "mlflow.db", timeout=30)) as store:
            scores = dict(store.execute("SELECT run_uuid, value FROM latest_metrics WHERE key = 'test/accuracy'"))
            found = store.execute("SELECT run_uuid, name, status FROM runs").fetchall()
            tags: dict[str, dict[str, str]] = {run: {} for run, _, _ in found}
            for run, key, value in store.execute("SELECT run_uuid, key, value FROM tags"):
                tags[run][key] = value
        found = [one for one in found if tags[one[0]].get("study") == study]
        names = {run: name if "pipeline.study" in tags[run] else name.rsplit(" ", 2)[0] for run, name, _ in found}
        assert len(set(names.values())) == len(names), names
        return {
            names[run]: Tracked(status, scores.get(run), names.get(tags[run].get("mlflow.parentRunId", "")), tags[run])
            for run, _, status in found
        }


JAX = {"train.backend": "jax"}
CHANGES = {**small.QUICK, "train.epochs": 3, "train.checkpoint_steps": 5}
ASKED = {
    "question": "Does the activation matter?",
    "seeds": [1, 2],
    "baseline": "relu",
    "variants": {"relu": {}, "linear": {"model.activation": "linear"}},
}
