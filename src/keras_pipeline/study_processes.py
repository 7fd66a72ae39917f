"""The processes that do the runs of studies and searches: begun, ended, and what is said of one that failed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from keras_pipeline import files, workers
from keras_pipeline.errors import MachineError
from keras_pipeline.studies import Run
from keras_pipeline.study_folders import Folders

SECONDS = "seconds.json"
LAST_LINES = 12
LOOK_SECONDS = 0.05
MOMENT_SECONDS = 30.0
"""So long a run may take to keep a checkpoint when the study is interrupted."""


@dataclass
class Work:
    """Runs, the process that does them, since when, and where it writes; `whole`: nothing of them was there before."""

    runs: Sequence[Run]
    process: "subprocess.Popen[bytes]"
    log: Path
    whole: bool
    began: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """What people call the runs."""
        return f"{self.runs[0].name} and {len(self.runs) - 1} more" if len(self.runs) > 1 else self.runs[0].name


def begin(folders: Folders, runs: Sequence[Run], arguments: Sequence[str]) -> Work:
    """Start one process of ours that does all these runs, with these arguments; it ends when this process does."""
    own = folders.run(runs[0])
    begun = any(path.exists() for path in (own / "models" / "run.json", own / "checkpoints"))
    for run in runs:
        files.write_atomically(folders.run(run) / "params.yaml", run.text.encode())
    log = own / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "keras_pipeline.commands", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, workers.PARENT: str(os.getpid())},
            start_new_session=True,  # Ctrl-C is for the study: it lets its runs end
        )
    return Work(runs, process, log, whole=not begun)


def took(folders: Folders, work: Work) -> float:
    """The seconds of a process that has ended just now; kept with the run where it did one from start to end."""
    seconds = time.monotonic() - work.began
    if work.whole and len(work.runs) == 1:
        files.write_json(folders.run(work.runs[0]) / SECONDS, seconds)
    return seconds


def end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
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


def fault(work: Work) -> MachineError:
    """What a process that failed said last, and in which file."""
    code = work.process.returncode
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = " (of a lack of memory? Then fewer --jobs)" if -code == signal.SIGKILL else ""
    lines = work.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    said = "\n".join(f"  {line}" for line in lines)
    return MachineError(
        f"{work.name} {ended}{hint}. Its last lines, of {work.log}:\n{said}\n"
        "What is done is kept: mend the cause and run the same command again."
    )


def duration(seconds: float) -> str:
    """So many seconds, as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
