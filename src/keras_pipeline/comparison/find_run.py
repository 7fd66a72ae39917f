"""A finished run wherever its files are: a folder, a git revision or DVC experiment, or a store of runs."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.checks.dvc_files import LOCK, LockedFile, LockedStage, find_faults, load_lock, read_lock
from keras_pipeline.checks.dvc_settings import cache_folder
from keras_pipeline.config.tasks import TASKS, Task
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, MachineError, ParamsError
from keras_pipeline.data import statistics
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.evaluation.binary import class_shares
from keras_pipeline.evaluation.predictions import read_reports
from keras_pipeline.records.git import refusal, run_git
from keras_pipeline.records.record import RunRecord, check_record, read_record

RECORD, SCORES, PREDICTIONS = "models/run.json", "reports/metrics.json", "reports/predictions.npz"
REPORTS = (SCORES, PREDICTIONS)
NETWORK = "models/model.keras"
STALE = f"reports/ tells of another network than {NETWORK}: by dvc.lock 'evaluate' was given that. Run `dvc repro`."
EXPECTED = (
    "Expected: a commit of what `dvc repro` left, in the checkout where it ran. Get it with `dvc fetch --all-commits`, "
    "or check that commit out, run `dvc repro`, and commit dvc.lock."
)
PATIENCE = 60.0
"""Seconds for one answer of git."""
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38,62}/(.+)")
"""DVC's name of an experiment's commit: that of the commit it began from, and its own."""
Stored = Callable[[str, tuple[str, ...], Path], tuple[str, RunRecord]]
"""Finds a run in a store by what it is called: its name and record, with these reports in a folder, by their paths.
Raises ParamsError where none or several match, MachineError where the store cannot be reached."""


@dataclass(frozen=True)
class FoundRun:
    """A run with a test result: what it was asked for as, where it was found, its record and its metrics; what it
    answered to the test images, float (images, classes), and their classes, int64 (images,): of one class against the
    rest two; of a table the predicted numbers, float64 (rows, 1), and the true ones, (rows,), in their own units.
    `folder`: what has its models/ and reports/, if one has."""

    requested_name: str
    location: str
    record: RunRecord
    scores: dict[str, float]
    outputs: NDArray[np.floating[Any]]
    labels: NDArray[Any]
    folder: Path | None = None

    @property
    def task(self) -> Task:
        """What it learned to do."""
        return TASKS[self.record["dataset"]["task"]]

    @property
    def things(self) -> str:
        """What its inputs are called."""
        return statistics.things(self.record["dataset"])


def find_run(requested_name: str, stored: Stored) -> FoundRun:
    """The run of this name: a folder with models/ and reports/, else a git revision or DVC experiment, else a run in
    the store.

    Raises ParamsError where nothing is called so, or several are, DataError where its files are lacking or do not
    belong together, MachineError where git or DVC refuses, in their words.
    """
    folder = Path(requested_name)
    if all((folder / name).is_dir() for name in ("models", "reports")):
        with _told_of(f"folder {requested_name}") as location:
            if faults := find_faults(folder):
                raise DataError(faults[0])
            locked, network = load_lock(folder), folder / NETWORK
            if network.is_file():
                _check_evaluated(locked, _md5(network.read_bytes()))
            return _read(requested_name, location, read_record(folder / RECORD), folder, folder)
    revisions, refused = _revisions(requested_name)
    if len(revisions) > 1:
        lines = [f"  {name}  {commit[:12]}" for commit, name in revisions.items()]
        raise ParamsError(
            "\n".join([f"{len(revisions)} commits are called '{requested_name}'. Name one in full:", *lines])
        )
    with tempfile.TemporaryDirectory() as temporary:
        own = Path(temporary)
        for commit, name in revisions.items():
            kind = "DVC experiment" if EXPERIMENT.fullmatch(name) else "git revision"
            with _told_of(f"{kind} {requested_name}, commit {commit[:12]}", own) as location:
                _check_out(commit, own)
                return _read(requested_name, location, read_record(own / RECORD), own)
        try:
            return find_stored_run(requested_name, stored)
        except (ParamsError, MachineError) as error:
            in_git = (
                f"and git could not be asked for a revision or DVC experiment: {refused}"
                if refused
                else "no revision of this folder's git repository and no DVC experiment in it"
            )
            # What git refuses may be there all the same: that is the machine's fault, and not a wrong name.
            fault = MachineError if refused and "not a git repository" not in refused else type(error)
            raise fault(f"'{requested_name}': no folder with models/ and reports/ in it, {in_git}.\n{error}") from None


def find_stored_run(requested_name: str, stored: Stored) -> FoundRun:
    """The run of this name in the store, wherever else something is called so; raises as `find_run`."""
    with tempfile.TemporaryDirectory() as temporary:
        own = Path(temporary)
        name, record = stored(requested_name, REPORTS, own)
        with _told_of(f"MLflow's run {name}", own) as location:
            return _read(requested_name, location, record, own)


@contextmanager
def _told_of(location: str, temporary: Path = Path()) -> Iterator[str]:
    """Whatever is wrong with the data of a run, the message begins with where it was found, and does not name the
    temporary folder that they were brought to."""
    try:
        yield location
    except DataError as error:
        raise DataError(f"{location}: {str(error).replace(f'{temporary}/', '')}") from None


def _revisions(requested_name: str) -> tuple[dict[str, str], str]:
    """The commits that git or DVC calls so, with what was asked or the full name of the experiment; and why git could
    not be asked, empty where it could."""
    here = Path.cwd()
    commits = {}
    try:
        wanted = f"{requested_name}^{{commit}}"
        revision = run_git(here, "rev-parse", "--verify", "--quiet", "--end-of-options", wanted, timeout=PATIENCE)
        listed = run_git(here, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps", timeout=PATIENCE)
    except MachineError as error:
        return {}, str(error)
    if listed.returncode:
        return {}, refusal(listed.stderr)
    if revision.returncode == 0:
        commits[revision.stdout.strip()] = requested_name
    for commit, _, name in (line.partition(" ") for line in listed.stdout.splitlines()):
        match = EXPERIMENT.fullmatch(name)
        if match and match[1] == requested_name:
            commits[commit] = name
    return commits, ""


def _check_out(commit: str, folder: Path) -> None:
    """Write the files of a run into `folder` as they were in a commit of this folder's repository: from git itself, or
    from DVC's cache by what dvc.lock says of them."""
    locked = read_lock(_shown(commit, LOCK), LOCK, "Name another commit, or commit what `dvc repro` makes of this one.")
    outs = {path: file for stage in locked.values() for path, file in stage.outs.items()}
    _check_evaluated(locked, outs[NETWORK].md5 if NETWORK in outs else None)
    cache = cache_folder(Path.cwd())
    for path in (RECORD, PREDICTIONS):
        if path not in outs or not outs[path].md5:
            raise DataError(f"dvc.lock names no {path}. {EXPECTED}")
        content = _cached(cache, path, outs[path])
        files.write_atomically(folder / path, content)
    files.write_atomically(folder / SCORES, _shown(commit, SCORES))


def _cached(cache: Path, path: str, locked: LockedFile) -> bytes:
    """The content of a file that dvc.lock names, from DVC's cache."""
    folders = [cache, cache / "files" / "md5"] if locked.legacy else [cache / "files" / "md5"]
    for kept in (one / locked.md5[:2] / locked.md5[2:] for one in folders):
        try:
            content = kept.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise MachineError(f"{kept}: {error.strerror}. It should be {path}, in DVC's cache.") from None
        if locked.md5 in (_md5(content), _md5(content.replace(b"\r\n", b"\n")) if locked.legacy else ""):
            return content
        raise DataError(f"{kept}: damaged, it should be {path}. Delete it, then `dvc fetch` or run again.")
    raise DataError(f"{path} (MD5 {locked.md5}) is not in DVC's cache {cache}. {EXPECTED}")


def _shown(commit: str, path: str) -> bytes:
    done = run_git(Path.cwd(), "show", f"{commit}:./{path}", timeout=PATIENCE)
    if done.returncode:
        raise DataError(
            f"there is no {path} in it ({refusal(done.stderr)}). Expected: a commit of this project after `dvc repro`, "
            f"with dvc.lock and {SCORES}."
        )
    return done.stdout.encode(errors="surrogateescape")


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _check_evaluated(locked: Mapping[str, LockedStage], network: str | None) -> None:
    """Raise DataError where `evaluate` was last given another network than this one, by its MD5."""
    evaluated = locked["evaluate"].deps.get(NETWORK) if "evaluate" in locked else None
    if evaluated and evaluated.md5 != network:
        raise DataError(STALE)


def _read(requested_name: str, location: str, record: RunRecord, folder: Path, own: Path | None = None) -> FoundRun:
    """The run of this record with the reports in `folder`, as far as it belongs together; `own`: the run's folder."""
    if "diverged" in record:
        raise DataError(f"the training diverged ({record['diverged']}), so there is no test result to compare.")
    check_record(record)
    dataset = record["dataset"]
    scores, answers = read_reports(folder / "reports", dataset, record["sha256"]["model"])
    outputs: NDArray[np.floating[Any]] = answers.outputs
    labels = answers.targets
    if dataset["target"]:
        target = Scaling(**dataset["target"])
        outputs, labels = target.undo(outputs), target.undo(labels)
    elif outputs.shape[1] == 1:
        outputs = class_shares(outputs)
    return FoundRun(requested_name, location, record, scores, outputs, labels, own)
