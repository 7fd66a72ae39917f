"""The verb study: the runs of a study, each in a process of its own and a folder of its own, none of them twice."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from keras_pipeline import study_processes
from keras_pipeline.errors import ParamsError
from keras_pipeline.studies import Run, Study, load
from keras_pipeline.study_folders import Folders, Knowledge, accuracy
from keras_pipeline.study_processes import LOOK_SECONDS, Work, duration


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
    return load(path, params_file)


def execute(
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
    active: list[Work] = []
    began, done, total = time.monotonic(), 0, sum(map(len, waiting))
    failed: Work | None = None
    try:
        while active or (queue and not failed):
            while queue and not failed and len(active) < jobs:
                runs = queue.pop(0)
                active.append(study_processes.begin(folders, runs, command(runs)))
            time.sleep(LOOK_SECONDS)
            for work in [one for one in active if not one.process.is_alive()]:
                active.remove(work)
                if work.process.exitcode:
                    failed = failed or work
                    continue
                done += len(work.runs)
                left = duration((time.monotonic() - began) / done * (total - done))
                took = duration(study_processes.took(folders, work))
                print(f"{title}: {done} of {total}: {_told(folders, work)}, {took}; {left} left", flush=True)
    finally:
        study_processes.end([work.process for work in active])
    if failed:
        raise study_processes.fault(failed)


def _told(folders: Folders, work: Work) -> str:
    reached = [score for run in work.runs if (score := accuracy(folders.run(run))) is not None]
    if not reached:
        return f"{work.name}: diverged"
    return f"{work.name}: test/accuracy {sum(reached) / len(reached):.4f}{' on average' if len(work.runs) > 1 else ''}"


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
