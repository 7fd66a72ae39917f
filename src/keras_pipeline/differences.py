"""What a run recorded against what is here now, without training anything."""

import csv
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from keras_pipeline import files, params, provenance, record, repetition
from keras_pipeline.errors import DataError, ParamsError
from keras_pipeline.preprocessing import STATISTICS
from keras_pipeline.status import TRAINING

LOSSES = ("train/loss", "val/loss")
FRAMEWORKS = ("tensorflow", "jax", "torch")
BENEATH = ("jaxlib", "jax-", "nvidia-", "triton", "ml_dtypes", "ml-dtypes")
"""How the names of packages begin that compute for a framework."""
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""On Linux without any of them there is no GPU that a framework could use."""
TITLES = {
    "onednn": "oneDNN",
    "intra_op_threads": "threads",
    "inter_op_threads": "threads",
    "blas_threads": "threads",
    "xla": "XLA",
}
MACHINE = {
    "processor": "processor",
    "cores": "cores",
    **{name: f"{TITLES.get(name, name)} ({variable})" for name, variable in record.SETTINGS.items()},
}


# What is needed of a record, and of which type; it may hold more.
_Row = TypedDict("_Row", {"epoch": int, "train/loss": FiniteFloat, "val/loss": FiniteFloat})


class _Digests(TypedDict):
    params: str
    data: str
    code: str
    model: str


class _Git(TypedDict):
    commit: str | None
    dirty: bool


class _Machine(TypedDict):
    processor: str
    cores: str
    onednn: str
    threads: str


class _Dataset(TypedDict):
    dataset: str
    class_names: list[str]
    images: dict[str, int]
    scaling: dict[str, Any]
    sha256: dict[str, str]


class _Strategy(TypedDict):
    name: str
    asked: str
    backend: str
    devices: list[str]
    workers: int
    replicas: int


class _Record(TypedDict):
    key: str
    name: str
    params: dict[str, bool | int | float | str]
    dataset: _Dataset
    sha256: _Digests
    git: _Git
    machine: _Machine
    versions: dict[str, str]
    environment: list[str]
    strategy: _Strategy
    history: Annotated[list[_Row], Field(min_length=1)]


@dataclass(frozen=True)
class Difference:
    """`fault`: what belongs together does not fit; `cause`: it can change a result; `aside`: it cannot.
    `text` begins with the name of what differs."""

    kind: Literal["fault", "cause", "aside"]
    text: str


def check(run: dict[str, Any]) -> None:
    """Raise DataError naming what a record lacks of all that is compared here."""
    try:
        TypeAdapter(_Record).validate_python(run, strict=True)
    except ValidationError as error:
        lacking = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors())
        raise DataError(
            f"the run's record (run.json) lacks what is needed of {', '.join(lacking)}: an older version wrote it, or "
            "it was damaged. Expected: a record as this version's train writes it. Train again, and take that run."
        ) from None


def of_the_record(run: dict[str, Any]) -> Iterator[Difference]:
    """Where a record contradicts itself, as after an edit."""
    values, where = run["params"], run["strategy"]
    digest = provenance.params_digest(values)
    if digest != run["sha256"]["params"]:
        yield Difference(
            "fault",
            f"params: their digest is {digest[:12]}, recorded is {run['sha256']['params'][:12]}: run.json was edited",
        )
    stands_in = where["name"] == "none" != where["asked"]
    devices, workers = (values.get("train.devices"), values.get("train.workers")) if not stands_in else (1, 1)
    by_keras = values.get("train.engine", "keras") == "keras"
    told = {
        "strategy": (where["name"], values.get("train.strategy") if not stands_in else "none"),
        "backend": (where["backend"], values.get("train.backend" if by_keras else "train.engine")),
        "devices": (len(where["devices"]), devices),
        "workers": (where["workers"], workers),
        "replicas": (where["replicas"], len(where["devices"]) * where["workers"]),
        "reproducibility": (run["reproducibility"], values.get("train.reproducibility")),
    }
    for name, (recorded, asked) in told.items():
        if recorded != asked:
            yield Difference(
                "fault", f"{name}: {recorded} in the record, {asked} by its own params: run.json was edited"
            )


def of_the_history(run: dict[str, Any], logged: list[dict[str, float]], source: str) -> Iterator[Difference]:
    """Where the epochs kept in `source`, rows as those of the record, are not the record's."""
    rows = run["history"]
    if len(rows) != len(logged):
        yield Difference("fault", f"history: {len(rows)} epochs in run.json, {len(logged)} in {source}")
        return
    for row, other in zip(rows, logged, strict=True):
        for name in (name for name in row if name != "time"):
            if row[name] != other.get(name):
                text = f"history: epoch {row['epoch']} {name} is {row[name]} in run.json, {other.get(name)} in {source}"
                yield Difference("fault", f"{text}: one of them was edited")


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of history.csv; one that cannot be read has none."""
    try:
        with path.open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError):
        return []


def of_the_files(run: dict[str, Any], models: Path, raw: Path, normalized: Path) -> Iterator[Difference]:
    """Where the files of this checkout are not those of the run whose models/run.json stands here."""
    yield from of_the_history(run, read_history(models / "history.csv"), str(models / "history.csv"))
    model = models / "model.keras"
    if not model.is_file():
        yield Difference("aside", f"model: {model} is not here, so its weights cannot be compared")
    elif files.sha256(model) != run["sha256"]["model"]:
        yield Difference("fault", f"model: {model} is not the network that this run wrote (`dvc checkout`)")
    try:
        fetched = files.read_json(raw / "dataset.json", written_by="fetch", keys=("files",))["files"]
        expected = {raw / role: entry["sha256"] for role, entry in fetched.items()}
    except (DataError, TypeError, KeyError, AttributeError):
        expected = {}
    statistics = normalized / "statistics.json"
    if statistics.is_file() and files.sha256(statistics) != run["sha256"]["data"]:
        yield Difference("aside", f"data: {normalized} here is not what the network was trained on (`dvc repro`)")
    elif statistics.is_file():
        expected |= {normalized / name: digest for name, digest in run["dataset"]["sha256"].items()}
    for path, digest in expected.items():
        if path.is_file() and files.sha256(path) != digest:
            yield Difference("fault", f"data: {path} is not the file that was recorded for it: it was altered")


def of_the_machine(run: dict[str, Any]) -> Iterator[Difference]:
    """What of this machine and of what is installed differs from where the run was trained."""
    there, here = run["machine"], record.machine()
    for name, title in MACHINE.items():
        if name in there and there[name] != here[name]:  # an older version did not record all of them
            set_again = "; it is trained again as there" if name in record.SETTINGS else ""
            yield Difference(
                "cause", f"{title}: {there[name]} there, {here[name]} here{set_again}; the last bits may differ"
            )
    devices = run["strategy"]["devices"]
    gpu_here = platform.system() != "Linux" or any(Path(path).exists() for path in GPU_FILES)
    if any("gpu" in str(device) for device in devices) and not gpu_here:
        yield Difference("cause", f"devices: {', '.join(map(str, devices))} there, no GPU here")
    yield from _of_what_is_installed(run)


def _of_what_is_installed(run: dict[str, Any]) -> Iterator[Difference]:
    there, here = run["versions"], provenance.versions()
    unused = {*provenance.BESIDE_TRAINING, *FRAMEWORKS} - {run["strategy"]["backend"]}
    missing = []
    for name in (name for name in {**there, **here} if there.get(name) != here.get(name)):
        text = f"{name}: {there.get(name, 'not installed')} there, {here.get(name, 'not installed')} here"
        if name in unused:
            yield Difference("aside", f"{text}; the training does not use it")
        else:
            yield Difference("cause", text)
        if name in there and name not in ("python", "system"):
            missing.append(f"{name}=={there[name]}")
    others = set(run["environment"]) - set(provenance.environment())
    others = {line for line in others if line.partition("==")[0] not in {*there, provenance.PACKAGE.replace("_", "-")}}
    computing = sorted(line for line in others if line.startswith(BENEATH))
    if computing:
        yield Difference("cause", f"packages: {', '.join(computing)} there, not so here")
    if count := len(others) - len(computing):
        yield Difference("aside", f"packages: {count} that compute nothing here have other versions, or are missing")
    if missing or computing:
        yield Difference("aside", f"versions: pip install {' '.join([*missing, *computing])} brings them back")


def of_the_commit(run: dict[str, Any], project: Path) -> Iterator[Difference]:
    """Where the code and the params.yaml of the run's commit, in the folder `project`, are not those of the run."""
    commit, dirty = run["git"]["commit"][:12], run["git"]["dirty"]
    digest = repetition.code_digest(project, TRAINING)
    if digest == run["sha256"]["code"]:
        if dirty:
            yield Difference("aside", f"commit: {commit} and uncommitted changes, none of them in the code that trains")
    elif dirty:
        yield Difference(
            "cause",
            f"code: trained with uncommitted changes beside commit {commit}, so git cannot repeat it. "
            "Commit them, train again, and certify that run",
        )
    else:
        yield Difference(
            "cause",
            f"code: {run['sha256']['code'][:12]} there, {digest[:12] or 'not to be run'} in commit {commit}, although "
            "nothing was uncommitted: another checkout's code was imported, or run.json was edited",
        )
    if not dirty:
        yield from _of_its_params(run, project / "params.yaml")


def _of_its_params(run: dict[str, Any], path: Path) -> Iterator[Difference]:
    try:
        stated = params.load(path)
    except ParamsError:
        return  # of a version with other knobs
    there = run["params"]
    here = provenance.flat_params({name: getattr(stated, name) for name in repetition.BLOCKS})
    for key in (key for key in {**there, **here} if there.get(key) != here.get(key)):
        yield Difference(
            "cause",
            f"params: {key} is {there.get(key, 'not given')} in the record, {here.get(key, 'not given')} in the "
            "commit's params.yaml, although nothing was uncommitted: --params or --workers, or run.json was edited",
        )


def of_the_data(run: dict[str, Any], normalized: Path) -> Iterator[Difference]:
    """Where the data that fetch and normalize made anew in `normalized` are not those of the run."""
    made = files.read_json(normalized / "statistics.json", written_by="normalize", keys=STATISTICS)
    there, here = run["dataset"], {key: made[key] for key in STATISTICS}
    digests = {**there["sha256"], **here["sha256"]}
    differing = [name for name in digests if there["sha256"].get(name) != here["sha256"].get(name)]
    differing += [key for key in STATISTICS if key != "sha256" and there[key] != here[key]]
    what = ", ".join(differing)
    if files.sha256(normalized / "statistics.json") != run["sha256"]["data"]:
        yield Difference(
            "cause",
            f"data: fetch and normalize make other data than those recorded ({what or 'statistics.json'}): fetch "
            "or normalize in the record, the code, or the dataset's files were others",
        )
    elif differing:
        yield Difference("fault", f"data: {what} in the record are not of the recorded data: run.json was edited")


def of_the_strategy(run: dict[str, Any], again: dict[str, Any]) -> Iterator[Difference]:
    """What computed otherwise in the record `again` of the same training."""
    there, here = run["strategy"], again["strategy"]
    for name in (name for name in {**there, **here} if there.get(name) != here.get(name)):
        yield Difference("cause", f"strategy: {name} {there.get(name)} there, {here.get(name)} here")
