"""What this machine has for the pipeline: one line each, good or with what to do."""

import importlib.metadata
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
from packaging.requirements import Requirement

from keras_pipeline.checks.dvc_files import find_faults, find_torn_lock
from keras_pipeline.checks.dvc_settings import ask_dvc, cache_folder, site_cache_fault
from keras_pipeline.checks.params import load_params
from keras_pipeline.core import process
from keras_pipeline.core.errors import DataError, MachineError, PipelineError, masked
from keras_pipeline.models import frameworks, settings
from keras_pipeline.records.git import describe_git, git_state, is_unknown
from keras_pipeline.sources.dataset_file import found_in, load_dataset
from keras_pipeline.sources.files.scan import absent
from keras_pipeline.sources.kinds.kind import Download
from keras_pipeline.sources.raw import read_description
from keras_pipeline.tracking import store
from keras_pipeline.tracking.stores import address, connection, database, relocation
from keras_pipeline.tracking.stores.address import Location
from keras_pipeline.tracking.stores.connection import UnavailableError
from keras_pipeline.tracking.stores.database import Condition

Finding = tuple[bool, str]
NEEDED_BYTES = 3 * 10**9
PATIENCE_SECONDS = 20
"""After which it is said that TensorFlow is waited for: it is, as long as its process lives."""
NAME_ANOTHER = "name another one in MLFLOW_TRACKING_URI"
REMEDIES = {
    Condition.HALF_MADE: "`keras-pipeline track` moves it aside and makes a new one",
    Condition.UNREADABLE: f"if it was no store, {NAME_ANOTHER}; else move it away (`sqlite3 {{file}} .recover` may "
    "read what it held), and `keras-pipeline track` makes a new one",
    Condition.OLDER: "upgrade a copy (of a backup, if an upgrade was cut off), while nothing writes there: "
    "cp {file} {file}.old && cp {file} {file}.new && mlflow db upgrade sqlite:///{file}.new && mv {file}.new {file}",
    Condition.NEWER: f"update this project, or {NAME_ANOTHER}",
    Condition.FOREIGN: NAME_ANOTHER,
}
"""What to do with an SQLite file that is no good store; with the database of a server:"""
SERVER_REMEDIES = REMEDIES | {
    Condition.HALF_MADE: f"`keras-pipeline track` lets MLflow go on; if that fails, drop its tables, or {NAME_ANOTHER}",
    Condition.OLDER: "make a backup, then: mlflow db upgrade with its address",
}


def show_findings(params_file: Path, raw: Path) -> None:
    """Print every finding; raises MachineError at the end when one is not good."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "params": lambda: _params(params_file),
        "tensorflow": _tensorflow,
        "keras": _keras,
        "packages": _packages,
        "devices": _devices,
        "settings": _settings,
        "dvc": _dvc,
        "cache": _cache,
        "git": _git,
        "store": _store,
        "disk": _disk,
        "dataset": lambda: _dataset(params_file, raw),
    }
    bad = 0
    for name, check in checks.items():
        try:
            good, text = check()
        except (OSError, PipelineError) as error:  # the machine's own words are a finding like any other
            good, text = False, masked(str(error)).split("\n")[0]
        bad += not good
        print(f"{'good' if good else 'BAD '}  {name + ':':12}{text}", flush=True)
    if bad:
        raise MachineError(f"{bad} of {len(checks)} checks are not good; each line says what to do.")


def _python() -> Finding:
    text = f"{sys.version.split()[0]} in {sys.prefix}"
    return (3, 11) <= sys.version_info[:2] < (3, 14), f"{text}; expected 3.11, 3.12 or 3.13"


def _params(path: Path) -> Finding:
    try:
        load_params(path)
    except ValueError:
        return False, f"{path} has faults: keras-pipeline params check"
    return True, f"{path} has no fault"


def _tensorflow() -> Finding:
    return _installed("tensorflow")


def _keras() -> Finding:
    return _installed("keras")


def _installed(name: str) -> Finding:
    try:
        return True, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return (
            False,
            f"not installed: run `make setup`, or pip install -e . in an environment (prefix {sys.prefix})",
        )


def _packages() -> Finding:
    """Whether the packages that are installed are of the versions that this project asks for."""
    try:
        asked = [Requirement(line) for line in importlib.metadata.requires("keras-pipeline") or []]
    except importlib.metadata.PackageNotFoundError:
        return False, f"keras-pipeline itself is not installed in {sys.prefix}: run `make setup`"
    asked = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = []
    for one in asked:
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{one.name} is not installed, expected {one.specifier}")
        else:
            if not version or not one.specifier.contains(version, prereleases=True):  # None: of a part of it
                wrong.append(f"{one.name} is {version}, expected {one.specifier}")
    if wrong:
        return False, f"{'; '.join(wrong[:3])}{'; …' if len(wrong) > 3 else ''}: run `make setup`"
    return True, f"{len(asked)} that are asked for, each of a version that is"


def _devices() -> Finding:
    # In a process of its own: TensorFlow takes seconds, gigabytes of a GPU, and prints.
    code = f"{frameworks.TRIALS['tensorflow']}; print(*(d.name for d in tf.config.list_physical_devices()))"
    with subprocess.Popen(
        process.python("-c", code),
        env={**settings.environment("tensorflow", os.environ), **process.UTF8_OUTPUT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as probe:
        try:
            out, err = _awaited(probe)
        finally:
            probe.kill()
    if probe.returncode:
        reason = frameworks.last_words(err)
        if probe.returncode < 0:
            told = "" if reason == frameworks.NO_REASON else f": {reason}"
            reason = f"its process ended by signal {-probe.returncode} ({signal.strsignal(-probe.returncode)}){told}"
        needs = "; it needs a processor with AVX" if probe.returncode == -signal.SIGILL else ""
        outside = settings.as_text(frameworks.suspects(err))
        there = f". Correct these variables, or unset them: {outside}" if outside else ""
        return False, f"TensorFlow does not start: {reason}{needs}{there}"
    names = out.split()
    hint = "" if any("GPU" in name for name in names) else "; for an NVIDIA GPU: pip install -e '.[cuda]'"
    return True, ", ".join(name.removeprefix("/physical_device:") for name in names) + hint


def _awaited(probe: "subprocess.Popen[str]") -> tuple[str, str]:
    """What it wrote; nobody knows how long a slow machine takes, and Ctrl-C ends it."""
    try:
        return probe.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        if sys.stderr.isatty():
            print(f"      devices:    waiting for TensorFlow to start in process {probe.pid}", file=sys.stderr)
        return probe.communicate()


def _settings() -> Finding:
    """What of the frameworks' settings is not in params.yaml, and what becomes of it."""
    file = settings.keras_file(os.environ)
    told = {
        "not used, params.yaml decides": ", ".join(settings.variables("taken away", os.environ)),
        "not read": str(file or ""),
        "used, and part of each run's record": settings.as_text(settings.variables("recorded", os.environ)),
        "used": settings.as_text(settings.variables("kept", os.environ)),
    }
    said = "; ".join(f"{what}: {names}" for what, names in told.items() if names)
    return True, said or "none outside of params.yaml"


def _dvc() -> Finding:
    good, text = _installed("dvc")
    if good and shutil.which("dvc") is None:
        return False, f"{text}, but not on PATH: source .venv/bin/activate"
    if good and not Path(".dvc").is_dir():
        return False, f"{text}, but this folder has no .dvc: run it in the checkout's top folder"
    faults = [*find_faults(Path()), *filter(None, [find_torn_lock(Path())])]
    if good and not faults:
        ask_dvc(Path(), "stage", "list", "--name-only")  # what else it may not like, in its own words
    return good and not faults, "; ".join([text, *faults])


def _cache() -> Finding:
    if fault := site_cache_fault(Path()):
        return False, fault
    return True, f"{cache_folder(Path())}; nobody else may write where DVC keeps what it runs"


def _git() -> Finding:
    state = git_state()
    if state["commit"] is not None:
        return True, f"at commit {describe_git(state)}"
    if is_unknown(state):
        return False, f"{state['reason']}; until then no run records its commit"
    return False, f"{state['reason']}: DVC needs a clone (`git clone`), or `git init` and a first commit"


def _store() -> Finding:
    location = address.store_location(address.project_root())
    try:
        with connection.store_calls(location):
            connection.check_answers(location, "keras-pipeline")
            if location.artifacts is None:
                return True, f"{location.shown} answers"
            return _opened(location, location.shown)
    except UnavailableError as error:
        return False, f"{error}: mend that, or {NAME_ANOTHER}"


def _opened(location: Location, uri: str) -> Finding:
    """What stands in a database; raises whatever makes it unusable and is not known here."""
    found, file = database.database_condition(location.uri, location.database), location.database
    if file:
        folder = next(parent for parent in file.parents if parent.exists())
        if not os.access(folder, os.W_OK):
            return False, f"{uri}: its folder {folder} must be writable"
    if found is Condition.ABSENT:
        return True, f"{uri} will be made by the first run"
    if found is not Condition.GOOD:
        remedies = REMEDIES if file else SERVER_REMEDIES
        return False, f"{uri} is {found.value}: {remedies[found].format(file=shlex.quote(str(file)))}"
    if file and (damage := database.find_damage(file)):
        remedy = REMEDIES[Condition.UNREADABLE].format(file=shlex.quote(str(file)))
        return False, f"{uri} is damaged ({damage}): {remedy}"
    relocation.check_place(location)
    return True, f"{uri} opens, with {store.count_experiments(location)} experiments"


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return (
        free > NEEDED_BYTES,
        f"{free / 1e9:.0f} GB free; data, cache and runs want {NEEDED_BYTES / 1e9:.0f} GB",
    )


def _dataset(params_file: Path, raw: Path) -> Finding:
    try:
        name = load_params(params_file).fetch.dataset
    except ValueError:
        return False, "unknown while params.yaml has faults"
    dataset = load_dataset(name)
    if not dataset.has_files:
        return True, f"{name} is computed, from no files"
    if dataset.path is not None:
        here = any(path.exists() for path in found_in(dataset.path))
        return here, f"{dataset.path} is here" if here else str(absent(name, dataset))
    if (raw / "dataset.json").exists():
        try:
            there = read_description(raw)["name"]
        except DataError as error:
            return False, str(error)
        if there == name:
            return True, f"{name} is in {raw}/"
    download = dataset.download
    for mirror in _mirrors(download) if download else ():
        if download and _answers(mirror, download.files[-1].name):
            return True, f"{name} can be fetched from {masked(mirror)}"
    return False, (
        f"no mirror of {name} answers. Set KERAS_PIPELINE_MIRRORS to a folder or URL with its files, "
        "or use fetch.dataset: digits"
    )


def _mirrors(download: Download) -> Iterator[str]:
    own = os.environ.get("KERAS_PIPELINE_MIRRORS", "").split(",")
    yield from (mirror.strip() for mirror in own if mirror.strip())
    yield from download.mirrors


def _answers(mirror: str, file: str) -> bool:
    if not mirror.startswith(("http://", "https://")):
        return Path(mirror.removeprefix("file://")).is_dir()
    try:
        return requests.head(f"{mirror.rstrip('/')}/{file}", timeout=5, allow_redirects=True).ok
    except (OSError, ValueError):  # of requests; and of urllib3, which it lets pass
        return False
