"""What MLflow learns while a network trains. Nothing here can stop or spoil a training."""

import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from keras_pipeline.core import files, process
from keras_pipeline.core.errors import MachineError, masked
from keras_pipeline.records.observer import Observer
from keras_pipeline.records.record import RunRecord
from keras_pipeline.tracking import runs
from keras_pipeline.tracking.store import Location, Store, connect_store, failure_reason

if TYPE_CHECKING:
    import keras


STATE_OF_LIFE = "alive"
SYSTEM_METRICS_SECONDS = 2
CLOCK_SECONDS = 2
"""How far two readings of one process's start may lie apart: the kernel derives it from the clock of the day."""


class LiveTracker(Observer):
    """Reports a training to MLflow as it goes.

    At the first failure it says so in one line, with what comes `later`, and is silent from then on; the run's
    record on disk is complete without it, and `track` sends what is missing. A file in `alive/` says which process
    trains which run, until the run is closed: `close_dead_runs` closes those whose process is gone.
    """

    def __init__(
        self, location: Location, experiment: str, later: str = "the stage track sends the run when the store is back"
    ) -> None:
        self.where = location
        self.experiment = experiment
        self.later = later
        self.store: Store | None = None
        self.run_id = ""
        self.failed = False
        self.system_metrics: Any = None

    def started(self, run: RunRecord) -> None:
        """Create the run, or open again the one of a training that was interrupted."""

        def start() -> None:
            self.store = connect_store(self.where, self.experiment)
            _mark(self.where, run["key"], self.experiment, "RUNNING")
            self.run_id = runs.ensure_run(self.store, run, os.environ.get("DVC_EXP_NAME"))
            if run["resumed"]:
                runs.reopen_run(self.store, self.run_id, run)

        self._attempt(start)

    def epoch(self, row: dict[str, float]) -> None:
        """Send one epoch's metrics; from the first one on, the machine's too, every two seconds.

        Not earlier: MLflow's page offers a run's metrics in the order of their first value, and compares runs
        by the first of them.
        """

        def send() -> None:
            runs.log_epochs(self._reached, self.run_id, [row])
            if self.system_metrics is None:
                from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

                self.system_metrics = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
                    self.run_id,
                    sampling_interval=SYSTEM_METRICS_SECONDS,
                    resume_logging=True,
                    tracking_uri=self.where.uri,
                )
                self.system_metrics.start()

        self._attempt(send)

    def ended(self, status: str, run: RunRecord, model: "keras.Sequential | None") -> None:
        """Keep the model, if TensorFlow made it (`track` sees to the others), and close the run with the truth."""

        def end() -> None:
            kept = model if run["strategy"]["backend"] == "tensorflow" else None
            if kept is not None and not runs.has_model(self._reached, self.run_id):  # it died after this one thing
                runs.log_model(self._reached, self.run_id, kept, run["dataset"])
            for tag, value in (("debug", run.get("debug")), ("diverged", run.get("diverged"))):
                if value is not None:
                    self._reached.client.set_tag(self.run_id, tag, value)
            if "trace" in run:
                self._reached.client.log_artifacts(self.run_id, run["trace"], "trace")
            self._reached.client.set_terminated(self.run_id, status)
            if self.system_metrics is not None:
                self.system_metrics.finish()
            _marker(self.where, run["key"]).unlink(missing_ok=True)

        def mark() -> None:
            if _marker(self.where, run["key"]).exists():
                _mark(self.where, run["key"], self.experiment, status)

        # Also after a failure: `close_dead_runs` closes the run with this truth.
        self._attempt(mark, always=True)
        self._attempt(end)

    @property
    def _reached(self) -> Store:
        if self.store is None:
            raise ConnectionError("no store was reached")
        return self.store

    def _attempt(self, action: Callable[[], None], *, always: bool = False) -> None:
        if self.failed and not always:
            return
        try:
            # In the middle of a call an interruption would leave MLflow's database locked, and closing it would fail.
            with process.defer_signals(), process.time_part("track"):
                action()
        except Exception as error:  # whatever MLflow raises: a training is worth more than its report
            if self.failed:
                return
            self.failed = True
            if self.system_metrics is not None:  # it waits for its last call, which may take long
                threading.Thread(target=self.system_metrics.finish, daemon=True).start()
            print(
                f"tracking: MLflow at {masked(self.where.uri)} is not available ({failure_reason(error)}). "
                f"Training goes on; {self.later}.",
                file=sys.stderr,
            )


def find_dead_runs(location: Location) -> list[Path]:
    """The files in `alive/` whose process on this machine is gone."""
    return [path for path in sorted((location.state / STATE_OF_LIFE).glob("*.json")) if not _alive(path)]


def close_dead_runs(location: Location) -> int:
    """Close the runs of processes that ended without a word, as KILLED (or as what they said last); how many."""
    closed = 0
    for path in find_dead_runs(location):
        mark = _read(path)
        closed += mark is not None and _close(location, path.stem, mark)
        path.unlink(missing_ok=True)
    return closed


def _close(location: Location, key: str, mark: dict[str, Any]) -> bool:
    """Whether the run was there, and open until now."""
    try:
        store = connect_store(location, mark["experiment"])
    except MachineError:
        return False  # its experiment was deleted, and nothing else may depend on that
    run_id = runs.find_run_id(store, key)
    if run_id is None or store.client.get_run(run_id).info.status != "RUNNING":
        return False
    store.client.set_terminated(run_id, "KILLED" if mark["status"] == "RUNNING" else mark["status"])
    return True


def _marker(location: Location, key: str) -> Path:
    return location.state / STATE_OF_LIFE / f"{key}.json"


def _mark(location: Location, key: str, experiment: str, status: str) -> None:
    process = psutil.Process()
    mark = {
        "experiment": experiment,
        "status": status,
        "pid": process.pid,
        "process_started": process.create_time(),
        "host": socket.gethostname(),
    }
    files.write_json(_marker(location, key), mark)


def _read(path: Path) -> dict[str, Any] | None:
    """What `_mark` wrote; None where a file is torn or somebody else's."""
    try:
        mark = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    expected = {"experiment": str, "status": str, "pid": int, "process_started": float, "host": str}
    whole = isinstance(mark, dict) and all(isinstance(mark.get(key), kind) for key, kind in expected.items())
    return mark if whole else None


def _alive(path: Path) -> bool:
    """Whether the process that wrote the file still runs; a number that another process got since is not it."""
    mark = _read(path)
    if mark is None:
        return False
    if mark["host"] != socket.gethostname():
        return True  # nobody here can tell
    try:
        process = psutil.Process(mark["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(abs(process.create_time() - mark["process_started"]) < CLOCK_SECONDS)
    except (ValueError, OverflowError, psutil.Error):
        return False
