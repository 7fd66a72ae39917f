"""What a run recorded against what is here now, without training anything."""

import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keras_pipeline.audit import checkout
from keras_pipeline.checks.params import load_params
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.data.history import read_history
from keras_pipeline.data.statistics import describe_dataset, read_statistics
from keras_pipeline.records import provenance, record
from keras_pipeline.records.provenance import TRAINING
from keras_pipeline.records.record import MACHINE_TITLES, RunRecord
from keras_pipeline.sources.raw import read_description

LOSS_COLUMNS = ("train/loss", "val/loss")
FRAMEWORKS = ("tensorflow", "jax", "torch")
BENEATH = ("jaxlib", "jax-", "nvidia-", "triton", "ml_dtypes", "ml-dtypes")
"""How the names of packages begin that compute for a framework."""
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""On Linux without any of them there is no GPU that a framework could use."""


@dataclass(frozen=True)
class Difference:
    """`fault`: what belongs together does not fit; `cause`: it can change a result; `aside`: it cannot.
    `text` begins with the name of what differs."""

    kind: Literal["fault", "cause", "aside"]
    text: str


def compare_record(run: RunRecord) -> Iterator[Difference]:
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


def compare_history(run: RunRecord, logged: list[dict[str, float]], source: str) -> Iterator[Difference]:
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


def compare_files(run: RunRecord, models: Path, raw: Path, normalized: Path) -> Iterator[Difference]:
    """Where the files of this checkout are not those of the run whose models/run.json stands here."""
    kept: list[dict[str, float]] = []
    with suppress(DataError):  # what cannot be read has no epoch
        kept = read_history(models / "history.csv")
    yield from compare_history(run, kept, str(models / "history.csv"))
    model = models / "model.keras"
    if not model.is_file():
        yield Difference("aside", f"model: {model} is not here, so its weights cannot be compared")
    elif files.file_sha256(model) != run["sha256"]["model"]:
        yield Difference("fault", f"model: {model} is not the network that this run wrote (`dvc checkout`)")
    try:
        expected = {raw / role: entry["sha256"] for role, entry in read_description(raw)["files"].items()}
    except DataError:
        expected = {}
    statistics = normalized / "statistics.json"
    if statistics.is_file() and files.file_sha256(statistics) != run["sha256"]["data"]:
        yield Difference("aside", f"data: {normalized} here is not what the network was trained on (`dvc repro`)")
    elif statistics.is_file():
        expected |= {normalized / name: digest for name, digest in run["dataset"]["sha256"].items()}
    for path, digest in expected.items():
        if path.is_file() and files.file_sha256(path) != digest:
            yield Difference("fault", f"data: {path} is not the file that was recorded for it: it was altered")


def compare_machine(run: RunRecord) -> Iterator[Difference]:
    """What of this machine and of what is installed differs from where the run was trained."""
    there, here = run["machine"], record.describe_machine()
    for name, title in MACHINE_TITLES.items():
        if name in there and there[name] != here[name]:  # an older version did not record all of them
            set_again = "; it is trained again as there" if name in {*record.SETTINGS, "settings"} else ""
            yield Difference(
                "cause", f"{title}: {there[name]} there, {here[name]} here{set_again}; the last bits may differ"
            )
    devices = run["strategy"]["devices"]
    gpu_here = platform.system() != "Linux" or any(Path(path).exists() for path in GPU_FILES)
    if any("gpu" in str(device) for device in devices) and not gpu_here:
        yield Difference("cause", f"devices: {', '.join(map(str, devices))} there, no GPU here")
    yield from _of_what_is_installed(run)


def _of_what_is_installed(run: RunRecord) -> Iterator[Difference]:
    there, here = run["versions"], provenance.library_versions()
    unused = {*provenance.UNUSED_BY_TRAINING, *FRAMEWORKS} - {run["strategy"]["backend"]}
    missing = []
    for name in (name for name in {**there, **here} if there.get(name) != here.get(name)):
        text = f"{name}: {there.get(name, 'not installed')} there, {here.get(name, 'not installed')} here"
        if name in unused:
            yield Difference("aside", f"{text}; the training does not use it")
        else:
            yield Difference("cause", text)
        if name in there and name not in ("python", "system"):
            missing.append(f"{name}=={there[name]}")
    others = set(run["environment"]) - set(provenance.installed_packages())
    others = {line for line in others if line.partition("==")[0] not in {*there, provenance.PACKAGE.replace("_", "-")}}
    computing = sorted(line for line in others if line.startswith(BENEATH))
    if computing:
        yield Difference("cause", f"packages: {', '.join(computing)} there, not so here")
    if count := len(others) - len(computing):
        yield Difference("aside", f"packages: {count} that compute nothing here have other versions, or are missing")
    if missing or computing:
        yield Difference("aside", f"versions: pip install {' '.join([*missing, *computing])} brings them back")


def compare_commit(run: RunRecord, project: Path) -> Iterator[Difference]:
    """Where the code and the params.yaml of the run's commit, in the folder `project`, are not those of the run."""
    commit, dirty = str(run["git"]["commit"])[:12], run["git"]["dirty"]
    digest = checkout.project_code_digest(project, TRAINING)
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


def _of_its_params(run: RunRecord, path: Path) -> Iterator[Difference]:
    try:
        stated = load_params(path)
    except ParamsError:
        return  # of a version with other params
    there = run["params"]
    here = record.recorded_params(stated)
    for key in (key for key in {**there, **here} if there.get(key) != here.get(key)):
        yield Difference(
            "cause",
            f"params: {key} is {there.get(key, 'not given')} in the record, {here.get(key, 'not given')} in the "
            "commit's params.yaml, although nothing was uncommitted: --params or --workers, or run.json was edited",
        )


def compare_data(run: RunRecord, normalized: Path) -> Iterator[Difference]:
    """Where the data that fetch and normalize made anew in `normalized` are not those of the run."""
    made = read_statistics(normalized)
    there, here = run["dataset"], describe_dataset(made)
    digests = {**there["sha256"], **here["sha256"]}
    differing = [name for name in digests if there["sha256"].get(name) != here["sha256"].get(name)]
    differing += [key for key, value in here.items() if key != "sha256" and there.get(key) != value]
    what = ", ".join(differing)
    if files.file_sha256(normalized / "statistics.json") != run["sha256"]["data"]:
        yield Difference(
            "cause",
            f"data: fetch and normalize make other data than those recorded ({what or 'statistics.json'}): fetch "
            "or normalize in the record, the code, or the dataset's files were others",
        )
    elif differing:
        yield Difference("fault", f"data: {what} in the record are not of the recorded data: run.json was edited")


def compare_strategy(run: RunRecord, again: RunRecord) -> Iterator[Difference]:
    """What computed otherwise in the record `again` of the same training."""
    there, here = run["strategy"], again["strategy"]
    for name in (name for name in {**there, **here} if there.get(name) != here.get(name)):
        yield Difference("cause", f"strategy: {name} {there.get(name)} there, {here.get(name)} here")
