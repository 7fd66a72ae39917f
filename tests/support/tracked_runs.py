"""Processes that track, and what MLflow has of their runs."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

import tracking_fixtures
from keras_pipeline.checks.params import load_params
from keras_pipeline.tracking import live_run, mirror, runs, store
from tracking_fixtures import EXPERIMENT, Checkout

KEY = "a" * 32
CURVES = runs.epoch_metrics(tracking_fixtures.history(1)[0])
TRACK = "import sys; from keras_pipeline.cli import main; code = main.main(['track']); "


def python(code: str, folder: Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: "subprocess.Popen[str]") -> str:
    """What the process said, once it is done without an error."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def run_of(checkout: Checkout, key: str = KEY) -> Any:
    """MLflow's run."""
    reached = store.connect_store(checkout.where, EXPERIMENT)
    found = reached.client.search_runs([reached.experiment], f"tags.`pipeline.key` = '{key}'")
    assert len(found) == 1
    return found[0]


def series(checkout: Checkout, run: Any) -> dict[str, list[tuple[int, float, int]]]:
    """Each of the training's metrics as (step, value, milliseconds)."""
    client = store.connect_store(checkout.where, EXPERIMENT).client
    return {
        name: [(one.step, one.value, one.timestamp) for one in client.get_metric_history(run.info.run_id, name)]
        for name in CURVES
    }


def artifacts(checkout: Checkout, run: Any, folder: str | None = None) -> list[str]:
    """Every file that MLflow lists, except the images with a key, whose names are random."""
    found = store.connect_store(checkout.where, EXPERIMENT).client.list_artifacts(run.info.run_id, folder)
    paths: list[str] = []
    for one in found:
        paths += artifacts(checkout, run, one.path) if one.is_dir else [one.path]
    return [path for path in paths if not path.startswith("images/")]


def state_of(checkout: Checkout) -> str:
    models, reports = checkout.root / "models", checkout.root / "reports"
    values = load_params(checkout.params_file)
    return mirror.mirror_state(checkout.where, values.tracking.experiment, checkout.params_file, models, reports)


def mark(**changes: Any) -> dict[str, Any]:
    process = psutil.Process()
    return {
        "experiment": EXPERIMENT,
        "status": "RUNNING",
        "pid": process.pid,
        "process_started": process.create_time(),
        "host": socket.gethostname(),
        **changes,
    }


def write_mark(checkout: Checkout, text: str, key: str = KEY) -> Path:
    path = checkout.root / "mlruns" / "alive" / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def observe(
    tracker: live_run.LiveTracker, record: dict[str, Any], status: str = "FINISHED", at_epoch: Any = None
) -> None:
    """A training as the stage train reports it: the record grows as it goes."""
    known = {key: value for key, value in record.items() if key not in ("ended", "train_seconds", "best_epoch")}
    if not record["resumed"]:
        known["history"] = []
    tracker.started(known)
    for row in record["history"]:
        if at_epoch:
            wait_until_told(tracker)
            at_epoch(row["epoch"])
        tracker.epoch(row)
    if at_epoch:
        wait_until_told(tracker)
        at_epoch(len(record["history"]) + 1)
    tracker.ended(status, record, None)


def wait_until_told(tracker: live_run.LiveTracker) -> None:
    """Wait for the tracker's thread to have told a database all; no training waits for a server."""
    told = threading.Event()
    tracker.untold.put(told.set)
    while tracker.where.kind == "sqlite" and not tracker.failed and not told.wait(0.05):
        pass
