"""Runs done some at a time, each by a process of its own; the progress of them."""

import os
import time
from collections.abc import Callable, Sequence

from keras_pipeline.runs import local
from keras_pipeline.runs.folders import Folders, read_accuracy
from keras_pipeline.runs.local import LOOK_SECONDS, Job, format_duration
from keras_pipeline.runs.run import Run


def run_jobs(
    title: str,
    folders: Folders,
    waiting: Sequence[Sequence[Run]],
    jobs: int,
    command: Callable[[Sequence[Run]], Sequence[str]],
) -> None:
    """Do the runs, `jobs` at a time, those that are one item by one process of ours with the arguments `command` of
    them, and tell of each end behind the `title`.

    Every process ends with this one. Raises MachineError naming the log when one fails; those that were begun then end
    first, and what they did is kept.
    """
    queue = list(waiting)
    active: list[Job] = []
    began, done, total = time.monotonic(), 0, sum(map(len, waiting))
    failed: Job | None = None
    try:
        while active or (queue and not failed):
            while queue and not failed and len(active) < jobs:
                runs = queue.pop(0)
                active.append(local.start_job(folders, runs, command(runs)))
            time.sleep(LOOK_SECONDS)
            for job in [one for one in active if not one.process.is_alive()]:
                active.remove(job)
                if job.process.exitcode:
                    failed = failed or job
                    continue
                done += len(job.runs)
                left = format_duration((time.monotonic() - began) / done * (total - done))
                took = format_duration(local.job_seconds(folders, job))
                print(f"{title}: {done} of {total}: {_told(folders, job)}, {took}; {left} left", flush=True)
    finally:
        local.end_processes([job.process for job in active])
    if failed:
        raise local.job_fault(failed)


def _told(folders: Folders, job: Job) -> str:
    reached = [score for run in job.runs if (score := read_accuracy(folders.run(run))) is not None]
    if not reached:
        return f"{job.name}: diverged"
    return f"{job.name}: test/accuracy {sum(reached) / len(reached):.4f}{' on average' if len(job.runs) > 1 else ''}"


def default_jobs() -> int:
    """As many processes as this machine has cores for, two each where it has many: none is then without one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, 2 + cores // 4))
