"""Runs that wait to be sent: what a store could not be told is kept beside its state until any later `track` sends it.

A run's own files do not wait: the next `dvc repro` of other params writes over them. So they are copied before they are
sent, and the copies removed when they have arrived: neither a store that is away nor a kill loses a run. No address is
written down with its password.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.checks.params import load_params
from keras_pipeline.core import files
from keras_pipeline.core.errors import BusyError, DataError, PipelineError, masked
from keras_pipeline.core.json_files import Count, Key, Line, Moment, read_json
from keras_pipeline.core.terminal import shown
from keras_pipeline.records.record import RECORD, RunRecord, read_record
from keras_pipeline.tracking import mirror, runs
from keras_pipeline.tracking.store import check_store, connect_store
from keras_pipeline.tracking.stores import connection
from keras_pipeline.tracking.stores.address import Location
from keras_pipeline.tracking.stores.connection import UnavailableError
from keras_pipeline.tracking.tags import dvc_experiment

MOST_BYTES = 2_000_000_000
"""So much may wait. What comes then is kept without its network, and not at all where even that does not fit."""
MOST_SECONDS = 60.0
"""After so long the rest is left to the next `track`."""


LEFT_SECONDS = 3600
"""What is that old, and not whole, nobody is writing any more."""


class Note(TypedDict):
    """Which run waits, and for which store: `address`, "" for the project's own. `status`: how it ended; `tries`: how
    often the store answered and did not take it."""

    address: Line
    experiment: Line
    dvc_experiment: Line | None
    key: Key
    name: Line
    started: Moment
    status: Annotated[str, StringConstraints(pattern="^(FINISHED|FAILED|KILLED)$")]
    tries: Count


NOTE = TypeAdapter(Note)
NOTE_FILE = "waiting.json"


@dataclass(frozen=True)
class WaitingRun:
    """A run that waits: the folder with its params.yaml, models/ and reports/, or with the record of a training alone
    whose store was lost, models/run.json."""

    folder: Path
    note: Note


def keep_run(
    location: Location, experiment: str, record: RunRecord, params_file: Path, models: Path, reports: Path
) -> bool:
    """Copy all that is sent of a run, so that it may be sent later; whether there was room for it."""
    sources = {Path("params.yaml"): params_file, Path("models/run.json"): models / "run.json"}
    sources |= {Path("reports") / path.relative_to(reports): path for path in mirror.reported_files(reports)}
    sources |= {Path("models") / path.relative_to(models): path for path in mirror.exported_files(models)}
    network, room = models / "model.keras", MOST_BYTES - _size(_folder(location))
    if sum(path.stat().st_size for path in sources.values()) > room:
        return False
    if network.is_file() and sum(path.stat().st_size for path in (network, *sources.values())) <= room:
        sources[Path("models/model.keras")] = network

    def fill(folder: Path) -> None:
        for name, source in sources.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    _write(location, _note(location, experiment, record, "FINISHED"), fill)
    return True


def keep_epochs(location: Location, experiment: str, record: RunRecord, status: str) -> None:
    """Keep what is known of a training whose store was lost; what is kept of it already is of an earlier moment."""
    note = _note(location, experiment, record, status)
    _write(location, note, lambda folder: files.write_json(folder / "models" / "run.json", record))


def flush_run(location: Location, experiment: str, key: str) -> None:
    """See to it that what waits of this run outlives a loss of power."""
    for folder in _folder(location).glob(f"{_identity(location, experiment, key)}.*"):
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())


def forget_run(location: Location, experiment: str, key: str) -> None:
    """The store has it: nothing of this run waits any more."""
    for folder in _folder(location).glob(f"{_identity(location, experiment, key)}.*"):
        _remove(folder)


def waiting_lines(location: Location) -> Iterator[str]:
    """How many runs wait to be sent, and to where; nothing where none does."""
    here, others = _sorted(location)
    if here:
        yield f"{_count(len(here))} waiting to be sent: `keras-pipeline track` sends what waits"
    for address in sorted({run.note["address"] for run in others}):
        number = sum(run.note["address"] == address for run in others)
        way = f"with MLFLOW_TRACKING_URI={shown(address)}" if address else "without MLFLOW_TRACKING_URI"
        yield f"{_count(number)} waiting for another store: `keras-pipeline track` {way} sends what waits"


def send_waiting_runs(location: Location, is_training: Callable[[str], bool]) -> Iterator[str]:
    """Send the runs that wait for this store, the oldest first, but for those that are still trained; lines on what
    came of it. A run that was deleted in MLflow's page is not sent again.

    Raises StoreError where the store stops answering: what it did not take goes on waiting. What it refuses, or what is
    damaged, holds up no other run.
    """
    if not any(not is_training(run.note["key"]) for run in _sorted(location)[0]):
        return
    sent = deleted = 0
    try:
        with suppress(BusyError), files.lock_folder(_folder(location)):  # else another process sends them
            _remove_leftovers(location)
            deadline = time.monotonic() + MOST_SECONDS
            for run in _sorted(location)[0]:
                if is_training(run.note["key"]):
                    continue
                if time.monotonic() > deadline:
                    break
                try:
                    with connection.store_calls(location):
                        arrived = _send(location, run)
                except UnavailableError:
                    raise
                except PipelineError as fault:
                    yield f"track: '{run.note['name']}', key {run.note['key'][:12]}, goes on waiting: {fault}"
                    continue
                sent, deleted = sent + arrived, deleted + (not arrived)
                _remove(run.folder)
    finally:
        if sent:
            yield f"track: {_count(sent)} that waited {'is' if sent == 1 else 'are'} in MLflow now"
        if deleted:
            yield f"track: {_count(deleted)} that waited, and deleted in MLflow meanwhile: not sent"
    if left := len(_sorted(location)[0]):
        yield f"track: {_count(left)} still waiting to be sent"


def _send(location: Location, run: WaitingRun) -> bool:
    """Whether the run was sent: not where it was deleted in the page."""
    note, models = run.note, run.folder / "models"
    check_store(location, note["experiment"])  # where it does not answer, the run is not to blame
    files.write_json(run.folder / NOTE_FILE, {**note, "tries": note["tries"] + 1})
    store = connect_store(location, note["experiment"])
    if runs.is_deleted(store, note["key"]):
        return False
    if (run.folder / "params.yaml").exists():
        params_file, reports = run.folder / "params.yaml", run.folder / "reports"
        record = read_record(models / "run.json", "track")
        state = mirror.mirror_state(location, note["experiment"], params_file, models, reports)
        mirror.synchronise(
            *(location, note["experiment"], load_params(params_file), params_file, models, reports, record, state),
            dvc_name=note["dvc_experiment"],
        )
        return True
    record = read_json(models / "run.json", RECORD, "track")
    run_id = runs.ensure_run(store, record, note["dvc_experiment"])
    runs.log_epochs(store, run_id, record["history"])
    if "diverged" in record:
        store.client.set_tag(run_id, "diverged", record["diverged"])
    last = record["history"][-1]["time"] if record["history"] else record["started"]
    store.client.set_terminated(run_id, note["status"], int(record.get("ended", last) * 1000))
    return True


def _folder(location: Location) -> Path:
    return location.state / "waiting"


def _address(location: Location) -> str:
    return "" if location.own else masked(location.uri)


def _identity(location: Location, experiment: str, key: str) -> str:
    store = sha256(f"{_address(location)}\n{experiment}".encode()).hexdigest()[:8]
    return f"{store}-{key}"


def _note(location: Location, experiment: str, record: RunRecord, status: str) -> Note:
    return {
        "address": _address(location),
        "experiment": experiment,
        "dvc_experiment": dvc_experiment(),
        "key": record["key"],
        "name": record["name"],
        "started": record["started"],
        "status": status,
        "tries": 0,
    }


def _write(location: Location, note: Note, fill: Callable[[Path], None]) -> None:
    """A folder that is there whole or not at all; then an earlier one of the run goes."""
    folder = _folder(location)
    identity = _identity(location, note["experiment"], note["key"])
    earlier = list(folder.glob(f"{identity}.*"))
    new = folder / f".{identity}.{time.time_ns():020}"
    new.mkdir(parents=True)
    try:
        fill(new)
        files.write_json(new / NOTE_FILE, note)
        new.rename(new.with_name(new.name[1:]))
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    for one in earlier:
        _remove(one)


def _remove(folder: Path) -> None:
    """At once, as others see it."""
    hidden = folder.with_name(f".{folder.name}")
    with suppress(OSError):  # another process did it
        folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _remove_leftovers(location: Location) -> None:
    """What processes that were killed have left half written, or half removed."""
    for hidden in _folder(location).glob(".*.*"):
        begun = hidden.name.rpartition(".")[2]
        if begun.isdecimal() and time.time() - int(begun) / 1e9 > LEFT_SECONDS:
            shutil.rmtree(hidden, ignore_errors=True)


def _sorted(location: Location) -> tuple[list[WaitingRun], list[WaitingRun]]:
    """What waits for this store, in the order in which it is sent: what it refused comes last; and for others."""
    found: dict[str, WaitingRun] = {}
    for folder in sorted(_folder(location).glob("[0-9a-f]*.*")):
        with suppress(OSError, DataError):  # of a file that somebody changed
            found[folder.name.partition(".")[0]] = WaitingRun(folder, read_json(folder / NOTE_FILE, NOTE, "track"))
    runs_found = sorted(found.values(), key=lambda run: (run.note["tries"], run.note["started"]))
    own = _address(location)
    return (
        [run for run in runs_found if run.note["address"] == own],
        [run for run in runs_found if run.note["address"] != own],
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _count(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"
