"""The processes that do the runs of studies and searches: begun, ended, and what is said of one that failed."""

import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

from keras_pipeline.core import files
from keras_pipeline.core.errors import MachineError
from keras_pipeline.distribution import launcher
from keras_pipeline.distribution.cluster import end_process
from keras_pipeline.runs.folders import Folders
from keras_pipeline.runs.run import Run

SECONDS = "seconds.json"
LAST_LINES = 12
LOOK_SECONDS = 0.05
MOMENT_SECONDS = 30.0
"""So long a run may take to keep a checkpoint when the study is interrupted."""


@dataclass
class Job:
    """Runs, the process that does them, since when, and where it writes; `whole`: nothing of them was there before."""

    runs: Sequence[Run]
    process: BaseProcess
    log: Path
    whole: bool
    began: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """What people call the runs."""
        return f"{self.runs[0].name} and {len(self.runs) - 1} more" if len(self.runs) > 1 else self.runs[0].name


def start_job(folders: Folders, runs: Sequence[Run], arguments: Sequence[str]) -> Job:
    """Start one process of ours that does all these runs, with these arguments; it ends when this process does."""
    own = folders.run(runs[0])
    begun = any(path.exists() for path in (own / "models" / "run.json", own / "checkpoints"))
    for run in runs:
        files.write_atomically(folders.run(run) / "params.yaml", run.text.encode())
    log = own / "log.txt"
    log.write_bytes(b"")
    if sys.platform == "linux" and runs[0].params.train.backend == "tensorflow":
        # Forked from a process that has imported what it needs: half the time of a short run.
        multiprocessing.set_forkserver_preload(["keras_pipeline.runs.forkserver"])
        process: BaseProcess = multiprocessing.get_context("forkserver").Process(target=_do, args=(arguments, log))
    else:
        process = multiprocessing.get_context("spawn").Process(target=_do, args=(arguments, log))
    process.start()
    return Job(runs, process, log, whole=not begun)


def _do(arguments: Sequence[str], log: Path) -> None:
    """Be the process of a run: what it prints goes to the log, and it ends when the one that began it is gone."""
    os.setsid()  # a signal from the terminal is for the study: it lets its runs end
    standard_error, study = os.dup(2), multiprocessing.parent_process()
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)

    def watch() -> None:
        if study:
            study.join()
        end_process("the study that began this run is gone; it ends too", standard_error)

    threading.Thread(target=watch, daemon=True).start()
    sys.argv[1:] = arguments
    sys.modules.pop("keras_pipeline.cli.main", None)  # who began this process has it loaded as a program, too
    runpy.run_module("keras_pipeline.cli.main", run_name="__main__", alter_sys=True)


def restart_process() -> NoReturn:
    """Run the command of this process again, with none of its imports: a process has one backend."""
    command = [sys.executable, "-m", "keras_pipeline.cli.main", *sys.argv[1:]]
    os.execve(sys.executable, command, {**os.environ, launcher.PARENT: str(os.getppid())})  # noqa: S606


def job_seconds(folders: Folders, job: Job) -> float:
    """The seconds of a process that has ended just now; kept with the run where it did one from start to end."""
    seconds = time.monotonic() - job.began
    if job.whole and len(job.runs) == 1:
        files.write_json(folders.run(job.runs[0]) / SECONDS, seconds)
    return seconds


def end_processes(processes: Sequence[BaseProcess]) -> None:
    """Let those that still run keep a checkpoint and end."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + MOMENT_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def job_fault(job: Job) -> MachineError:
    """What a process that failed said last, and in which file."""
    code = job.process.exitcode or 0
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = " (of a lack of memory? Then fewer --jobs)" if -code == signal.SIGKILL else ""
    lines = job.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    said = "\n".join(f"  {line}" for line in lines)
    return MachineError(
        f"{job.name} {ended}{hint}. Its last lines, of {job.log}:\n{said}\n"
        "What is done is kept: mend the cause and run the same command again."
    )


def format_duration(seconds: float) -> str:
    """So many seconds, as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
