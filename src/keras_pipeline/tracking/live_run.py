"""What MLflow learns while a network trains. Nothing here can stop or spoil a training."""

import copy
import os
import queue
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psutil
from pydantic import StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.core import files, process
from keras_pipeline.core.errors import DataError, PipelineError, keep_traceback, masked
from keras_pipeline.core.json_files import Line, Moment, Size, read_json
from keras_pipeline.records.observer import Observer
from keras_pipeline.records.record import RunRecord
from keras_pipeline.tracking import runs, waiting
from keras_pipeline.tracking.store import DeletedExperimentError, Store, check_store, connect_store, open_store
from keras_pipeline.tracking.stores import connection
from keras_pipeline.tracking.stores.address import Location
from keras_pipeline.tracking.stores.connection import StoreError

if TYPE_CHECKING:
    import keras


STATE_OF_LIFE = "alive"
PATIENCE_SECONDS = 4.5
"""For how long a training waits for a server, all in all."""
SYSTEM_METRICS_SECONDS = 2
CLOCK_SECONDS = 2
"""How far two readings of one process's start may lie apart: the kernel derives it from the clock of the day."""


class Mark(TypedDict):
    """Which process trains a run, and what it said last of how that ended."""

    experiment: Line
    status: Annotated[str, StringConstraints(pattern="^(RUNNING|FINISHED|FAILED|KILLED)$")]
    pid: Size
    process_started: Moment
    host: Line


MARK = TypeAdapter(Mark)


class LiveTracker(Observer):
    """Reports a training to MLflow as it goes.

    A thread imports MLflow and tells it, so that the training waits twice only: at its start for a server's answer, and
    at its end for what is not told yet; for a server PATIENCE_SECONDS in all (and a little more for a large network),
    for a database of this machine as long as SQLite's locks take. At the first failure
    it says so in one line, with what comes `later`, and is silent from then on; each epoch then waits in a file, and
    `track` sends it, also of a training that does not end well. A file in `alive/` says which process trains which run,
    until the run is closed: `close_dead_runs` closes those whose process is gone.
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
        self.failing = threading.Lock()
        self.system_metrics: Any = None
        self.patience = PATIENCE_SECONDS
        self.untold: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self.record: RunRecord | None = None
        self.status = "RUNNING"
        self.keeping = threading.Lock()
        self.sender: threading.Thread | None = None

    def started(self, run: RunRecord) -> None:
        """Create the run, or open again the one of a training that was interrupted."""
        known = copy.deepcopy(run)
        self.record = copy.deepcopy(run)

        def check() -> None:
            began = time.monotonic()
            check_store(self.where, self.experiment)
            self.patience -= time.monotonic() - began

        def start() -> None:
            self.store = open_store(self.where, self.experiment)
            _mark(self.where, known["key"], self.experiment, "RUNNING")
            self.run_id = runs.ensure_run(self.store, known, os.environ.get("DVC_EXP_NAME"))
            if known["resumed"]:
                runs.reopen_run(self.store, self.run_id, known)

        with self._heard():
            self._attempt(check)
            self.sender = threading.Thread(target=self._send, daemon=True, name="live tracking")
            self.sender.start()
            self._tell(connection.start_mlflow)
            self._tell(start)

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

        with self._heard():
            with self.keeping:
                if self.record:
                    self.record["history"].append(row)
            self._tell(send)
            if self.failed:
                self._keep()

    def ended(self, status: str, run: RunRecord, model: "keras.Sequential | None") -> None:
        """Keep the model, if TensorFlow made it (`track` sees to the others), and close the run with the truth."""
        known = copy.deepcopy(run)
        with self.keeping:
            self.record, self.status = copy.deepcopy(run), status
        network: runs.ServedNetwork | None = None

        def mark() -> None:
            if _marker(self.where, known["key"]).exists():
                _mark(self.where, known["key"], self.experiment, status)

        def make_ready(made: ExitStack, trained: "keras.Sequential") -> None:
            nonlocal network
            network = made.enter_context(runs.served_network(trained, known["dataset"]))
            self.patience += connection.SECONDS_A_MEGABYTE * network.file.stat().st_size / 1e6

        def end() -> None:
            if network and not runs.has_model(self._reached, self.run_id):  # it died after this one thing
                runs.log_model(self._reached, self.run_id, network)
            for tag, value in (("debug", known.get("debug")), ("diverged", known.get("diverged"))):
                if value is not None:
                    self._reached.client.set_tag(self.run_id, tag, value)
            if "trace" in known:
                self._reached.client.log_artifacts(self.run_id, known["trace"], "trace")
            self._reached.client.set_terminated(self.run_id, status)
            if self.system_metrics is not None:
                self.system_metrics.finish()
            _marker(self.where, known["key"]).unlink(missing_ok=True)

        with self._heard(), ExitStack() as made:
            # Also after a failure: `close_dead_runs` closes the run with this truth.
            self._attempt(mark, always=True)
            if model is not None and known["strategy"]["backend"] == "tensorflow":
                # Not by the thread: what Keras is set to, it knows in the thread that it was set in.
                trained = model
                self._attempt(lambda: make_ready(made, trained))
            self._tell(end)
            self._wait()
            if self.failed:
                self._keep()
            else:
                waiting.forget_run(self.where, self.experiment, known["key"])

    def _keep(self) -> None:
        """Let what is known of the training wait to be sent."""
        with suppress(OSError, ValueError), self.keeping:  # no disk may take it
            if self.record is None:
                return
            if not _marker(self.where, self.record["key"]).exists():
                _mark(self.where, self.record["key"], self.experiment, self.status)
            status = "KILLED" if self.status == "RUNNING" else self.status  # if this process says nothing more
            waiting.keep_epochs(self.where, self.experiment, self.record, status)

    @property
    def _reached(self) -> Store:
        if self.store is None:
            raise ConnectionError("no store was reached")
        return self.store

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Let a request to end wait: in the middle of a call it would leave MLflow's database locked, and closing it
        would fail."""
        with process.defer_signals(), process.time_part("track"):
            yield

    def _tell(self, action: Callable[[], None]) -> None:
        """Do it now, or let the thread do it when its turn comes."""
        self.untold.put(action) if self.sender else self._attempt(action)

    def _send(self) -> None:
        while action := self.untold.get():
            self._attempt(action)

    def _wait(self) -> None:
        """Wait for the thread to have told all."""
        if self.sender and not self.failed:
            self.untold.put(None)
            self.sender.join(None if self.where.kind == "sqlite" else max(self.patience, 0))
            if self.sender.is_alive():
                process.leave_alone(self.sender)
                late = f"it did not take all there was to tell within {PATIENCE_SECONDS:g} s"
                self._fail(StoreError(f"MLflow at {self.where.shown} is not available ({late})"))

    def _attempt(self, action: Callable[[], None], *, always: bool = False) -> None:
        if self.failed and not always:
            return
        try:
            with connection.store_calls(self.where):
                action()
        except Exception as error:  # whatever it is: a training is worth more than its report
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        with self.failing:
            if self.failed:
                return
            self.failed = True
        if self.system_metrics is not None:  # it waits for its last call, which may take long
            threading.Thread(target=self.system_metrics.finish, daemon=True).start()
        with suppress(OSError, ValueError):  # nobody may be there to be told, and no disk may take a traceback
            what = str(error)
            if not isinstance(error, PipelineError):
                what = (
                    f"this is a bug of keras-pipeline, please report it ({type(error).__name__}); the traceback is in "
                    f"{keep_traceback(error)}"
                )
            print(masked(f"tracking: {what}. Training goes on; {self.later}."), file=sys.stderr)
        self._keep()


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


def _close(location: Location, key: str, mark: Mark) -> bool:
    """Whether the run was there, and open until now."""
    try:
        store = connect_store(location, mark["experiment"])
    except DeletedExperimentError:
        return False  # its experiment was deleted, and nothing else may depend on that
    run_id = runs.find_run_id(store, key)
    if run_id is None or store.client.get_run(run_id).info.status != "RUNNING":
        return False
    store.client.set_terminated(run_id, "KILLED" if mark["status"] == "RUNNING" else mark["status"])
    return True


def is_training(location: Location, key: str) -> bool:
    """Whether a process trains the run with this key now."""
    mark = _read(_marker(location, key))
    return mark is not None and mark["status"] == "RUNNING" and _alive(_marker(location, key))


def _marker(location: Location, key: str) -> Path:
    return location.state / STATE_OF_LIFE / f"{key}.json"


def _mark(location: Location, key: str, experiment: str, status: str) -> None:
    process = psutil.Process()
    mark: Mark = {
        "experiment": experiment,
        "status": status,
        "pid": process.pid,
        "process_started": process.create_time(),
        "host": socket.gethostname(),
    }
    files.write_json(_marker(location, key), mark)


def _read(path: Path) -> Mark | None:
    """What `_mark` wrote; None where a file is torn or somebody else's."""
    try:
        return read_json(path, MARK, "train") if re.fullmatch("[0-9a-f]{32}", path.stem) else None
    except (OSError, DataError):
        return None


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
