"""Jobs done some at a time, by any executor: for a study its runs, for a search its trials."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from keras_pipeline.config.tasks import describe_useless
from keras_pipeline.core import files, limits
from keras_pipeline.core.terminal import Progress
from keras_pipeline.runs.executor import Executor, Job
from keras_pipeline.runs.folders import SECONDS, Folders, read_run_scores
from keras_pipeline.runs.run import Run

LOOK_SECONDS = 0.05
"""How often the jobs at work are looked at."""
STOP_SECONDS = 30.0
"""So long a run may take to keep a checkpoint when it is canceled."""
END_SECONDS = 3.0
"""So long it may take to end without."""


class Work(ABC):
    """What a pool does, by the jobs that it submits to its `executor`, and who is told of it."""

    executor: Executor

    @abstractmethod
    def start_job(self) -> Job | None:
        """Submit the next job; None where none is left."""

    @abstractmethod
    def end_job(self, job: Job) -> None:
        """A job has ended well."""

    def look_at_job(self, job: Job) -> None:  # noqa: B027 (not every work looks)
        """A job is at work, or has just ended."""

    def restart_job(self, job: Job) -> Job | None:
        """Submit again a job that did not end well; None where it has failed."""
        return None

    def close(self) -> None:  # noqa: B027
        """Nothing is at work any more."""

    def jobs_at_a_time(self, most: int) -> int:
        """How many jobs may be at work now, at most so many."""
        return most


def do_jobs(work: Work, most: int) -> None:
    """Do the work to its end, `most` jobs at a time.

    Every process ends with this one. Raises MachineError naming the log when a job fails; those that were begun then
    end first, and what they did is kept.
    """
    active: list[Job] = []
    failed: Job | None = None
    try:
        while True:
            while not failed and len(active) < work.jobs_at_a_time(most) and (started := work.start_job()):
                active.append(started)
            if not active:
                break
            ended = work.executor.wait(active, LOOK_SECONDS)
            for job in active:
                work.look_at_job(job)
            for job in ended:
                active.remove(job)
                if job.exit_code == 0:
                    work.end_job(job)
                elif again := work.restart_job(job):
                    active.append(again)
                else:
                    failed = failed or job
    finally:
        work.close()
        _cancel_jobs(work.executor, active)
    if failed:
        raise failed.fault()


def _cancel_jobs(executor: Executor, jobs: list[Job]) -> None:
    """Let those that still run keep a checkpoint and end; where that is interrupted, end without."""
    try:
        _end_jobs(executor, jobs, STOP_SECONDS)
    except KeyboardInterrupt:  # each is asked twice then, too
        _end_jobs(executor, jobs, END_SECONDS)
        raise


def _end_jobs(executor: Executor, jobs: list[Job], within: float) -> None:
    """Ask those that still run to end, and kill those that have not within so many seconds."""
    left = [job for job in jobs if job.exit_code is None]
    for job in left:
        executor.cancel(job)
    deadline = time.monotonic() + within
    while left and (seconds := deadline - time.monotonic()) > 0:
        ended = executor.wait(left, seconds)
        left = [job for job in left if job not in ended]
    for job in left:
        executor.cancel(job, kill=True)
    while left:
        ended = executor.wait(left, STOP_SECONDS)
        left = [job for job in left if job not in ended]


class Queue(Work):
    """Groups of runs, each done by one process with the arguments `command` of them; progress is told behind `title`.

    `folders`: where the runs are.
    """

    def __init__(
        self,
        title: str,
        folders: Folders,
        executor: Executor,
        groups: Sequence[Sequence[Run]],
        command: Callable[[Sequence[Run]], Sequence[str]],
    ) -> None:
        self.title, self.folders, self.executor, self.command = title, folders, executor, command
        self.groups = list(groups)
        self.began, self.done, self.total = time.monotonic(), 0, sum(map(len, groups))
        self.progress = Progress(title, self.total, "run")

    def start_job(self) -> Job | None:
        """Submit the next group."""
        if not self.groups:
            return None
        runs = self.groups.pop(0)
        return self.executor.submit(runs, self.command(runs))

    def end_job(self, job: Job) -> None:
        """Tell its result, and how long the rest will take."""
        self.done += len(job.runs)
        left = format_duration((time.monotonic() - self.began) / self.done * (self.total - self.done))
        took = format_duration(record_seconds(self.folders, job))
        scores = [score for run in job.runs if (score := read_run_scores(self.folders.run(run)))]
        average = " on average" if len(job.runs) > 1 else ""
        mean = sum(score["test/accuracy"] for score in scores) / max(1, len(scores))
        result = f"test/accuracy {mean:.4f}{average}{describe_useless(scores)}" if scores else "diverged"
        self.progress.print(f"{self.title}: {self.done} of {self.total}: {job.name}: {result}, {took}; {left} left")
        self.progress.advance(self.done)

    def look_at_job(self, job: Job) -> None:
        """Let the time of the bar go on."""
        self.progress.refresh()

    def close(self) -> None:
        """Take the bar away."""
        self.progress.close()


def record_seconds(folders: Folders, job: Job) -> float:
    """The seconds of a job that has ended just now; kept with the run where it did one from start to end."""
    seconds = time.monotonic() - job.began
    if job.fresh and len(job.runs) == 1:
        files.write_json(folders.run(job.runs[0]) / SECONDS, seconds)
    return seconds


def format_duration(seconds: float) -> str:
    """So many seconds, as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def default_jobs() -> int:
    """As many processes as this machine has cores for, two each where it has many: none is then without one."""
    cores = limits.available_cores()
    return max(1, min(cores, 2 + cores // 4))
