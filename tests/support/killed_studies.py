"""Studies that are killed, and all that they are in files and in MLflow."""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from keras_pipeline.studies.study import Study
from study_workplace import Workplace

VOLATILE = {"started", "ended", "train_seconds", "key", "seconds", "resumed", "history", "git"}


def numbers(place: Workplace, study: Study) -> dict[str, object]:
    """All that a study's runs are: their files' digests, their records without times, and MLflow's view of them."""
    found: dict[str, object] = {}
    for run in study.runs:
        own = place.own(run)
        paths = ["models/model.keras", "models/history.csv", "reports/metrics.json", "reports/predictions.npz"]
        found[run.name] = {path: hashlib.sha256((own / path).read_bytes()).hexdigest() for path in paths}
        record = json.loads((own / "models" / "run.json").read_text())
        found[f"{run.name} record"] = {key: value for key, value in record.items() if key not in VOLATILE}
    names = {study.name, *(run.name for run in study.runs)}
    for name, tracked in place.tracked(study.name).items():
        if name in names:
            found[f"{name} in MLflow"] = (tracked.status, tracked.accuracy, tracked.parent)
    return found


def kill(place: Workplace, name: str, seconds: Iterable[float]) -> None:
    """Run the study, each time killed after so many seconds, until one run of it is faster.

    SIGKILL of the study's process alone, as a crash would: its runs must end by themselves.
    """
    for attempt, moment in enumerate(seconds):
        log = place.folder / f"attempt {attempt}.txt"
        process = place.start("study", "run", name, "--jobs", "2", log=log)
        try:
            process.wait(moment)
            assert process.returncode == 0, log.read_text()
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        _wait_for_the_end_of(log)


def _wait_for_the_end_of(log: Path) -> None:
    """Until no process is left of those that the command with this log began."""
    mark = f"LOG={log}".encode()
    deadline = time.monotonic() + 60
    while any(mark in found for found in map(_environment, Path("/proc").glob("[0-9]*"))):
        assert time.monotonic() < deadline, "the runs of a killed study go on"
        time.sleep(0.1)


def _environment(process: Path) -> list[bytes]:
    with suppress(OSError):
        return (process / "environ").read_bytes().split(b"\0")
    return []
