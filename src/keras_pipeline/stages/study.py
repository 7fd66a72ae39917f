"""The verb study: the runs of a study, each in a process of its own and a folder of its own, none of them twice."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pipeline import files, provenance, workers
from keras_pipeline.errors import DataError, MachineError, ParamsError
from keras_pipeline.observer import Observer
from keras_pipeline.params import Params
from keras_pipeline.studies import Run, Study, load

if TYPE_CHECKING:
    import keras

TRAINING = ("keras_pipeline.stages.train", "keras_pipeline.stages.together")
EVALUATION = "keras_pipeline.stages.evaluate"
DATA = ("keras_pipeline.stages.fetch", "keras_pipeline.stages.normalize")
LAST_LINES = 12
LOOK_SECONDS = 0.05
MOMENT_SECONDS = 30.0
"""So long a run may take to keep a checkpoint when the study is interrupted."""


@dataclass(frozen=True)
class Folders:
    """Where studies live: NAME.yaml in `studies`, and what their runs, data and reports are in folders below it."""

    studies: Path

    def run(self, run: Run) -> Path:
        """The folder of a run, shared by all studies that have one with the same params."""
        return self.studies / "runs" / run.key

    def raw(self, params: Params) -> Path:
        """The dataset's own files."""
        return self.studies / "data" / params.fetch.dataset / "raw"

    def normalized(self, params: Params) -> Path:
        """The arrays of the run's dataset, split and scaled as its params say."""
        values = provenance.flat_params({"fetch": params.fetch, "normalize": params.normalize})
        return self.studies / "data" / params.fetch.dataset / provenance.params_digest(values)[:16]

    def report(self, study: str) -> Path:
        """The study's report."""
        return self.studies / "reports" / study


def found(folders: Folders, params_file: Path) -> list[Study]:
    """Every study there is, by name. Raises ParamsError where one has a fault."""
    return [load(path, params_file) for path in sorted(folders.studies.glob("*.yaml"))]


def named(folders: Folders, name: str, params_file: Path) -> Study:
    """The study of this name. Raises ParamsError where there is none, or it has a fault."""
    path = folders.studies / f"{name}.yaml"
    known = sorted(one.stem for one in folders.studies.glob("*.yaml"))
    if name not in known:
        there = f"There are: {', '.join(known)}" if known else "There is none yet: write the file"
        raise ParamsError(f"{path}: no study '{name}'. {there}.")
    study = load(path, params_file)
    several = sorted({run.variant for run in study.runs if run.params.train.workers > 1})
    if several:
        raise ParamsError(f"{path}: {several[0]}: train.workers: a study's run is one process. Expected: 1.")
    return study


def data_is_made(folders: Folders, params: Params) -> bool:
    """Whether the arrays are there, made by this code."""
    normalized = folders.normalized(params)
    with suppress(DataError):
        made = files.read_json(normalized / "made.json", written_by="study")
        return bool(made == _code(*DATA)) and (normalized / "statistics.json").is_file()
    return False


def data_made(folders: Folders, params: Params) -> None:
    """Say that the arrays are there now."""
    files.write_json(folders.normalized(params) / "made.json", _code(*DATA))


def _code(*modules: str) -> dict[str, str]:
    return {module: provenance.code_digest(module) for module in modules}


class Knowledge:
    """Which runs are done with the data and the code that are here: looked up once for many."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.code = _code(*TRAINING, EVALUATION)
        self.data: dict[Path, str] = {}

    def record(self, run: Run) -> dict[str, Any] | None:
        """The record of the run's training; None where it is not known, or was of other data or code."""
        own = self.folders.run(run)
        return self.trained(run.params, own, self.folders.normalized(run.params))

    def trained(self, params: Params, own: Path, normalized: Path) -> dict[str, Any] | None:
        """The record of the training in the folder `own`; None where it is not that of these params, data and code."""
        with suppress(DataError, OSError):
            record: dict[str, Any] = files.read_json(own / "models" / "run.json", "study", provenance.RECORD)
            wanted = {"data": self._data(normalized)}
            blocks = {name: getattr(params, name) for name in ("seed", "fetch", "normalize", "model", "train")}
            wanted["params"] = provenance.params_digest(provenance.flat_params(blocks))
            if "diverged" not in record:
                wanted["model"] = files.sha256(own / "models" / "model.keras")
            if any(record["sha256"] == {**wanted, "code": self.code[stage]} for stage in TRAINING):
                return record
        return None

    def evaluated(self, own: Path, record: Mapping[str, Any]) -> bool:
        """Whether the reports in `own` are of this training and this code; a training that diverged has none."""
        if "diverged" in record:
            return True
        with suppress(DataError):
            return bool(files.read_json(own / "evaluated.json", "study") == self._evaluation(record))
        return False

    def keep_evaluated(self, own: Path, record: Mapping[str, Any]) -> None:
        """Say that the reports in `own` are of this training."""
        files.write_json(own / "evaluated.json", self._evaluation(record))

    def _evaluation(self, record: Mapping[str, Any]) -> dict[str, str]:
        return {"model": record["sha256"]["model"], "code": self.code[EVALUATION]}

    def _data(self, normalized: Path) -> str:
        if normalized not in self.data:
            self.data[normalized] = files.sha256(normalized / "statistics.json")
        return self.data[normalized]


class Keeper(Observer):
    """Keeps the record of a training that diverged, which is a result too, in the folder `models`."""

    def __init__(self, models: Path) -> None:
        self.models = models

    def ended(self, status: str, run: dict[str, Any], model: "keras.Sequential | None") -> None:
        """Write the record where there is no network, and take away what an earlier training left."""
        if "diverged" in run:
            for stale in (self.models / "model.keras", *([] if run["history"] else [self.models / "history.csv"])):
                stale.unlink(missing_ok=True)
            shutil.rmtree(self.models.parent / "reports", ignore_errors=True)
            files.write_json(self.models / "run.json", {**run, "best_epoch": None})


@dataclass
class _Work:
    """Runs, the process that does them, since when, and where it writes."""

    runs: Sequence[Run]
    process: "subprocess.Popen[bytes]"
    log: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """What people call the runs."""
        return f"{self.runs[0].name} and {len(self.runs) - 1} more" if len(self.runs) > 1 else self.runs[0].name


def execute(
    study: str, folders: Folders, waiting: Sequence[Sequence[Run]], jobs: int, arguments: Sequence[str]
) -> None:
    """Do the runs, `jobs` at a time, those that are one item by one process of ours with these arguments and --key, and
    tell of each end.

    Every process ends with this one. Raises MachineError naming the log when one fails; those that were begun then end
    first, and what they did is kept.
    """
    queue = list(waiting)
    active: list[_Work] = []
    began, done, total = time.monotonic(), 0, sum(map(len, waiting))
    failed: _Work | None = None
    try:
        while active or (queue and not failed):
            while queue and not failed and len(active) < jobs:
                active.append(_begin(folders, queue.pop(0), arguments))
            time.sleep(LOOK_SECONDS)
            for work in [one for one in active if one.process.poll() is not None]:
                active.remove(work)
                if work.process.returncode:
                    failed = failed or work
                    continue
                done += len(work.runs)
                left = _duration((time.monotonic() - began) / done * (total - done))
                took = _duration(time.monotonic() - work.began)
                print(f"study {study}: {done} of {total}: {_told(folders, work)}, {took}; {left} left", flush=True)
    finally:
        _end([work.process for work in active])
    if failed:
        raise _fault(failed)


def _told(folders: Folders, work: _Work) -> str:
    reached = [score for run in work.runs if (score := accuracy(folders.run(run))) is not None]
    if not reached:
        return f"{work.name}: diverged"
    return f"{work.name}: test/accuracy {sum(reached) / len(reached):.4f}{' on average' if len(work.runs) > 1 else ''}"


def _begin(folders: Folders, runs: Sequence[Run], arguments: Sequence[str]) -> _Work:
    for run in runs:
        files.write_atomically(folders.run(run) / "params.yaml", run.text.encode())
    log = folders.run(runs[0]) / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "keras_pipeline.commands", *arguments, "--key", *(run.key for run in runs)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, workers.PARENT: str(os.getpid())},
        )
    return _Work(runs, process, log)


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Let those that still run keep a checkpoint and end."""
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + MOMENT_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _fault(work: _Work) -> MachineError:
    code = work.process.returncode
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = " (of a lack of memory? Then fewer --jobs)" if -code == signal.SIGKILL else ""
    lines = work.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    said = "\n".join(f"  {line}" for line in lines)
    return MachineError(
        f"{work.name} {ended}{hint}. Its last lines, of {work.log}:\n{said}\n"
        "What is done is kept: mend the cause and run the same command again."
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def default_jobs() -> int:
    """As many processes as this machine has cores for, two each where it has many: none is then without one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, 2 + cores // 4))


def listed(studies: Sequence[Study], knowledge: Knowledge) -> Iterator[str]:
    """A line for each study: how much of it is done, and its question."""
    width = max((len(study.name) for study in studies), default=0)
    for study in studies:
        done = sum(knowledge.record(run) is not None for run in study.runs)
        yield f"{study.name:{width}}  {done:4} of {len(study.runs):4} runs  {study.asked.question}"


def status(study: Study, knowledge: Knowledge) -> Iterator[str]:
    """What is done of each variant, and the mean so far."""
    from statistics import mean

    yield f"{study.name}: {study.asked.question}"
    names = list(dict.fromkeys(" ".join(filter(None, (run.variant, run.tuned))) for run in study.runs))
    width = max(map(len, names))
    yield f"{'variant':{width}}  seeds done  diverged  test/accuracy"
    for name in names:
        runs = [run for run in study.runs if name == " ".join(filter(None, (run.variant, run.tuned)))]
        known = [(run, record) for run in runs if (record := knowledge.record(run))]
        diverged = sum("diverged" in record for _, record in known)
        good = [run for run, record in known if knowledge.evaluated(knowledge.folders.run(run), record)]
        scores = [score for run in good if (score := accuracy(knowledge.folders.run(run))) is not None]
        shown = f"{mean(scores):.4f}" if scores else "–"
        yield f"{name:{width}}  {len(known):3} of {len(runs):3}  {diverged:8}  {shown:>13}"


def accuracy(own: Path) -> float | None:
    """The test accuracy of the run in a folder; None where its training diverged."""
    path = own / "reports" / "metrics.json"
    if not path.is_file():
        return None
    return float(files.read_json(path, written_by="evaluate")["test/accuracy"])
