"""models/run.json: which training made a model, from what, and how it went; also what a resumed one takes over."""

import os
import platform
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, FiniteFloat, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.config.params import Params
from keras_pipeline.core import files, limits
from keras_pipeline.core.errors import DataError, ModelFileError
from keras_pipeline.core.json_files import Count, Digest, Key, Line, Moment, Scalar, Seconds, Size, read_json, refuse
from keras_pipeline.data import earlier
from keras_pipeline.data.history import read_history
from keras_pipeline.data.statistics import DatasetDescription, check_description, describe_dataset
from keras_pipeline.models import settings
from keras_pipeline.records import provenance
from keras_pipeline.records.git import Git, git_state

FORMAT = 3
"""Of models/run.json. A change that an older reader would misread counts it up; 1 had no `format`, until 2 images
were scaled on disk."""
BLOCKS = ("seed", "fetch", "normalize", "model", "train")
"""The blocks of params.yaml that a run records: all that decides its network."""
SETTINGS = {
    "onednn": "TF_ENABLE_ONEDNN_OPTS",
    "threads": "OMP_NUM_THREADS",
    "intra_op_threads": "TF_NUM_INTRAOP_THREADS",
    "inter_op_threads": "TF_NUM_INTEROP_THREADS",
    "blas_threads": "OPENBLAS_NUM_THREADS",
    "xla": "XLA_FLAGS",
}
"""The environment variables that most often change the last bits of a result; the others are together `settings`."""


Requirement = Annotated[Line, StringConstraints(pattern="^[^=]+==.")]
"""An installed package, as pip's requirements are written."""


class StrategyRecord(TypedDict):
    """Where and how a training really computed; `asked`: the strategy of the params."""

    name: Line
    asked: Line
    backend: Line
    devices: Annotated[list[Line], Field(min_length=1)]
    workers: Size
    replicas: Size
    batch_per_replica: NotRequired[Size]
    batch_statistics: NotRequired[Line]
    fused: NotRequired[bool]


class RunRecord(TypedDict):
    """models/run.json. What is not required is known at the end, when all of `IN_EVERY_FILE` is, or of some runs.

    `key`: 32 random hexadecimal digits; `started`, `ended`: seconds since 1970; `resumed`: where the training went on;
    `sha256`: of `params`, `data`, `code` and, where there is a network, the file `model`; `machine`: see
    `describe_machine`; `history`: the rows of `fit.fit_network`; `best_epoch`: whose weights the network has, counted
    from 1, None without a network; `weights`: how many; `seconds`: of each part of the process; `diverged`, `pruned`:
    why there is no network; `together`: how many trained as one program; `debug`: the mode of a debugging run, `trace`:
    the folder of its profile.
    """

    format: NotRequired[int]
    key: Key
    name: Line
    started: Moment
    ended: NotRequired[Moment]
    train_seconds: NotRequired[Seconds]
    resumed: list[Line]
    params: dict[str, Scalar]
    dataset: DatasetDescription
    sha256: dict[str, Digest]
    git: Git
    host: NotRequired[Line]
    machine: dict[str, str]
    versions: dict[str, Line]
    environment: list[Requirement]
    strategy: NotRequired[StrategyRecord]
    weights: NotRequired[Count]
    reproducibility: Line
    history: list[dict[str, FiniteFloat]]
    best_epoch: NotRequired[Size | None]
    seconds: NotRequired[dict[str, FiniteFloat]]
    diverged: NotRequired[str]
    pruned: NotRequired[str]
    together: NotRequired[Size]
    debug: NotRequired[Line]
    trace: NotRequired[str]


IN_EVERY_FILE = (
    "key", "name", "started", "ended", "train_seconds", "params", "dataset", "sha256", "git", "history", "best_epoch",
    "weights", "strategy", "resumed", "reproducibility",
)  # fmt: skip
"""What every reader of models/run.json relies on."""


RECORD = TypeAdapter(RunRecord)


def read_record(path: Path, written_by: str = "train") -> RunRecord:
    """The record in a file, of this version or an earlier one; `written_by`: the command that would write it again.

    Raises DataError where the file is missing, damaged, contradicts itself, or is of a newer version.
    """

    def upgraded(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if (found := value.get("format", 1)) not in range(1, FORMAT + 1):
            raise DataError(
                f"{path}: a record of format {found!a}, which a newer version wrote. Expected: {FORMAT} at most. Read "
                "it with that version, or run `dvc repro train`."
            )
        if isinstance(value.get("dataset"), dict) and found < FORMAT:
            first = earlier.FIRST if found == 1 else {}
            value["dataset"] = earlier.upgrade_description({**first, **value["dataset"]})
        return value

    return read_json(path, RECORD, written_by, upgrade=upgraded, check=_check_whole)


def _check_whole(record: RunRecord) -> None:
    """Raise ValueError where a record lacks what every reader relies on, or contradicts itself."""
    for key in IN_EVERY_FILE:
        if key not in record:
            raise ValueError(f"{key} is missing.")
    check_description(record["dataset"], "dataset.")
    networkless = bool(record.keys() & {"diverged", "pruned"})
    for name in ("params", "data", "code", *(() if networkless else ("model",))):
        if name not in record["sha256"]:
            raise ValueError(f"sha256.{name} is missing.")
    history, best = record["history"], record["best_epoch"]
    if (best is None) != networkless or (best or 0) > len(history):
        refuse("best_epoch", best, "null without a network" if networkless else f"an epoch, 1 to {len(history)}")
    for number, row in enumerate(history):
        if row.get("epoch") != number + 1 or not isinstance(row["epoch"], int):
            refuse(f"history[{number}].epoch", row.get("epoch"), f"{number + 1}")
        if lacking := {*history[0], "train/loss", "val/loss"} - set(row):
            raise ValueError(f"history[{number}].{min(lacking)} is missing.")


def check_model(record: RunRecord, model: Path) -> None:
    """Raise ModelFileError where the file is there and not the network that the run wrote."""
    expected = record["sha256"].get("model", "none")
    if model.is_file() and (found := files.file_sha256(model)) != expected:
        raise ModelFileError(
            f"{model}: got the network {found[:12]}…. Expected: {expected[:12]}, which the run's "
            "record run.json names: one of them was exchanged. `dvc checkout --force` gets back those that belong "
            "together, `dvc repro train` makes them anew."
        )


def check_belongings(models: Path, normalized: Path) -> None:
    """Raise DataError or ModelFileError where the network, its history or the data are not those of the record beside
    the network; where there is none, nothing is known of them."""
    path = models / "run.json"
    if not path.exists():
        return
    record = read_record(path)
    check_model(record, models / "model.keras")
    if files.file_sha256(normalized / "statistics.json") != record["sha256"]["data"]:
        raise DataError(
            f"{normalized}: not the data that {path} names, on which the network was trained. Run `dvc repro`, which "
            "makes the data and trains."
        )
    rows = [{name: value for name, value in row.items() if name != "time"} for row in record["history"]]
    if read_history(models / "history.csv") != rows:
        raise DataError(
            f"{models / 'history.csv'}: not the epochs that {path} has: one of them was exchanged. "
            "`dvc checkout --force` gets back those that belong together, `dvc repro train` makes them anew."
        )


def write_record(path: Path, record: RunRecord) -> None:
    """Write the record into a file, atomically."""
    files.write_json(path, record)


def recorded_params(params: Params) -> dict[str, bool | int | float | str]:
    """The values of the blocks that a run records, by dotted key, lists as JSON text."""
    return provenance.flat_params({name: getattr(params, name) for name in BLOCKS})


def begin_record(params: Params, normalized: Path, statistics: DatasetDescription, stage: str) -> RunRecord:
    """The record of a training that begins now: what is known before any framework is imported.

    `statistics`: those of the folder `normalized`; `stage`: the module whose imports are the training's code.
    """
    values = recorded_params(params)
    return {
        "format": FORMAT,
        "key": uuid.uuid4().hex,
        "name": f"{statistics['dataset']} {params.model.architecture}",
        "started": time.time(),
        "resumed": [],
        "params": values,
        "dataset": describe_dataset(statistics),
        "sha256": {
            "params": provenance.params_digest(values),
            "data": files.file_sha256(normalized / "statistics.json"),
            "code": provenance.code_digest(stage),
        },
        "git": git_state(),
        "host": socket.gethostname(),
        "machine": describe_machine(),
        "versions": provenance.library_versions(),
        "environment": provenance.installed_packages(),
        "reproducibility": params.train.reproducibility,
        "history": [],
    }


def resume_fields(record: RunRecord) -> dict[str, Any]:
    """What of its record a training that is resumed keeps; see `apply_resume_fields`."""
    return {"key": record["key"], "started": record["started"], "resumed": record["resumed"]}


def apply_resume_fields(record: RunRecord, fields: Mapping[str, Any]) -> None:
    """Let the record be that of the run of which `fields` holds what `resume_fields` gave, and more."""
    record["key"], record["started"], record["resumed"] = fields["key"], fields["started"], fields["resumed"]


def best_row(record: RunRecord) -> dict[str, float]:
    """The row of the epoch whose weights the network has; there is none without a network."""
    return record["history"][(record["best_epoch"] or 0) - 1]


def batch_size(record: RunRecord) -> int | str:
    """How many images a step took, of all devices together; where earlier versions did not say it, what was asked."""
    strategy = record["strategy"]
    on_each = strategy.get("batch_per_replica")
    return on_each * strategy["replicas"] if on_each else str(record["params"]["train.batch_size"])


def training_identity(record: RunRecord) -> dict[str, Any]:
    """What decides a training's result: a checkpoint is only of use where all of it is the same."""
    return {
        "params": record["params"],
        "data": record["sha256"]["data"],
        "code": record["sha256"]["code"],
        "versions": {
            name: version for name, version in record["versions"].items() if name not in provenance.UNUSED_BY_TRAINING
        },
        "machine": record["machine"],
    }


def describe_machine() -> dict[str, str]:
    """What of the machine and its settings can change the last bits of a result."""
    cores = str(limits.available_cores())
    known = {key: os.environ.get(name, "default") for key, name in SETTINGS.items()}
    others = {name: value for name, value in _recorded_settings().items() if name not in SETTINGS.values()}
    return {
        "processor": _processor(), "cores": cores, **known, "settings": settings.as_text(others) or "default"
    }  # fmt: skip


def settings_of(machine: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, with the settings that a record's `machine` says in place of its own.

    Raises DataError where they cannot be read.
    """
    told = {variable: machine[name] for name, variable in SETTINGS.items() if name in machine}
    replaced = set(told)
    if "settings" in machine:
        try:
            told |= settings.from_text(machine["settings"])
        except ValueError as error:
            raise DataError(
                f"the run's record (run.json) has the machine's settings {machine['settings'][:100]!r} ({error}). "
                "Expected: variables and their values as a shell takes them. It was edited: take another run."
            ) from None
        replaced |= set(_recorded_settings()) - set(SETTINGS.values())
    inherited = {name: value for name, value in os.environ.items() if name not in replaced}
    return inherited | {name: value for name, value in told.items() if value != "default"}


def _recorded_settings() -> dict[str, str]:
    return settings.variables("recorded", os.environ)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


SETTING_TITLES = {
    "onednn": "oneDNN",
    "intra_op_threads": "threads",
    "inter_op_threads": "threads",
    "blas_threads": "threads",
    "xla": "XLA",
}
MACHINE_TITLES = {
    "processor": "processor",
    "cores": "cores",
    **{name: f"{SETTING_TITLES.get(name, name)} ({variable})" for name, variable in SETTINGS.items()},
    "settings": "other settings",
}


COMPARED: dict[str, set[str]] = {
    "machine": {"processor", "cores", "onednn", "threads"},
    "sha256": {"model"},
}
"""What two runs are compared by, beyond what every record has."""


def check_record(record: RunRecord) -> None:
    """Raise DataError naming what a record of a run with a network lacks of all that two runs are compared by."""
    values: Mapping[str, Any] = record
    if lacking := [name for name, keys in COMPARED.items() if not keys <= set(values[name])]:
        raise DataError(
            f"the run's record (run.json) lacks what is needed of {', '.join(lacking)}: an older version wrote it, or "
            "it was damaged. Expected: a record as this version's train writes it. Train again, and take that run."
        )
