"""Where the processes of runs are begun and ended: the interface `Executor`, and its implementation on this machine."""

import io
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from keras_pipeline.core import files
from keras_pipeline.core.errors import MachineError
from keras_pipeline.distribution.cluster import end_process
from keras_pipeline.models import frameworks
from keras_pipeline.runs.folders import Folders
from keras_pipeline.runs.run import Run

LAST_LINES = 12
LONGEST_FOLDER = 107 - len("/pymp-12345678/listener-12345678")
"""In bytes: so many may be in a path to a socket, less what Python adds to the folder for temporary files."""


@dataclass(eq=False)
class Job:
    """Runs done by one process, since when, and where it writes; `fresh`: nothing of them was there before.

    `exit_code` is set when the process has ended: of a signal its number, negative.
    """

    runs: Sequence[Run]
    log: Path
    fresh: bool
    began: float = field(default_factory=time.monotonic)
    exit_code: int | None = None

    @property
    def name(self) -> str:
        """What people call the runs."""
        return f"{self.runs[0].name} and {len(self.runs) - 1} more" if len(self.runs) > 1 else self.runs[0].name

    def fault(self) -> MachineError:
        """What a process that failed said last, and in which file."""
        code = self.exit_code or 0
        ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = " (of a lack of memory? Then fewer --jobs)" if -code == signal.SIGKILL else ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        said = "\n".join(f"  {line}" for line in lines)
        return MachineError(
            f"{self.name} {ended}{hint}. Its last lines, of {self.log}:\n{said}\n"
            "What is done is kept: mend the cause and run the same command again."
        )


class Executor(Protocol):
    """Does runs in processes somewhere. No process outlives the one that submitted it."""

    def submit(self, runs: Sequence[Run], arguments: Sequence[str]) -> Job:
        """Start one process of keras-pipeline with these arguments, which does all these runs."""

    def wait(self, jobs: Sequence[Job], seconds: float) -> list[Job]:
        """Those of the jobs that have ended, as soon as there are any; after so many seconds none."""

    def cancel(self, job: Job, *, kill: bool = False) -> None:
        """Ask a job to keep a checkpoint and end, or end it at once."""


class LocalExecutor:
    """Does runs in processes on this machine. `folders`: where the runs are."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.processes: dict[Job, BaseProcess] = {}

    def submit(self, runs: Sequence[Run], arguments: Sequence[str]) -> Job:
        """Start one process; see `Executor`."""
        run_folder = self.folders.run(runs[0])
        begun = any(path.exists() for path in (run_folder / "models" / "run.json", run_folder / "checkpoints"))
        for run in runs:
            files.write_atomically(self.folders.run(run) / "params.yaml", run.text.encode())
        frameworks.require_framework(runs[0].params.train.backend)
        log = run_folder / "log.txt"
        log.write_bytes(b"")
        if sys.platform == "linux" and runs[0].params.train.backend == "tensorflow" and _has_room_for_a_socket():
            # Forked from a process that has imported what it needs: half the time of a short run.
            multiprocessing.set_forkserver_preload(["keras_pipeline.runs.forkserver"])
            process: BaseProcess = multiprocessing.get_context("forkserver").Process(target=_do, args=(arguments, log))
        else:
            process = multiprocessing.get_context("spawn").Process(target=_do, args=(arguments, log))
        process.start()
        job = Job(runs, log, fresh=not begun)
        self.processes[job] = process
        return job

    def wait(self, jobs: Sequence[Job], seconds: float) -> list[Job]:
        """Those that have ended; see `Executor`."""
        connection.wait([self.processes[job].sentinel for job in jobs], seconds)
        for job in jobs:
            job.exit_code = self.processes[job].exitcode
        return [job for job in jobs if job.exit_code is not None]

    def cancel(self, job: Job, *, kill: bool = False) -> None:
        """Ask a job to end; see `Executor`."""
        process = self.processes[job]
        process.kill() if kill else process.terminate()


def _has_room_for_a_socket() -> bool:
    """Whether the path of the socket by which one asks a process to fork is short enough: it is below the folder for
    temporary files."""
    return len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER


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

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # as the log is read
    threading.Thread(target=watch, daemon=True).start()
    sys.argv[1:] = arguments
    sys.modules.pop("keras_pipeline.cli.main", None)  # who began this process has it loaded as a program, too
    runpy.run_module("keras_pipeline.cli.main", run_name="__main__", alter_sys=True)
