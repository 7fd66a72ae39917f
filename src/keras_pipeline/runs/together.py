"""Several trainings of a study as one program: what `stages.train` does, for many runs at once."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from keras_pipeline.config.params import Params
from keras_pipeline.core import files, process
from keras_pipeline.core.errors import MachineError, ParamsError
from keras_pipeline.data.history import write_history
from keras_pipeline.data.splits import read_split
from keras_pipeline.distribution import strategies
from keras_pipeline.models import frameworks
from keras_pipeline.records import provenance, record
from keras_pipeline.records.record import RunRecord, write_record
from keras_pipeline.runs.run import Run
from keras_pipeline.training import recorded_training
from keras_pipeline.training.recorded_training import RecordedTraining, check_training, prepare_recorded_training

MOST_TOGETHER = 64
"""Of those in one program: more gain nothing, and an interruption costs them all."""
IN_ONE_PROGRAM = ("seed", "train.optimizer.learning_rate")
IF_NOT_ZERO = ("model.dropout", "model.l2")
"""What may differ among networks that train as one program; 0 is another network, without the layer or the penalty."""
EVALUATION_KEYS = ("evaluate.",)
SHOWN_SECONDS = 10
"""How often somebody who waits is told something, and at the end of every epoch."""


def group_runs(runs: Sequence[tuple[Run, Path]]) -> list[list[Run]]:
    """Those whose networks and trainings have the same shapes, together, as far as half of the memory goes.

    `runs`: each with the folder of its normalized arrays. Raises ParamsError where one cannot train so, and what
    `recorded_training.check_training` raises for any.
    """
    groups: dict[str, list[Run]] = {}
    most: dict[str, int] = {}
    for run, normalized in runs:
        params = run.params
        _possible(params, run.variant)
        plan, statistics = recorded_training.check_training(params, normalized)
        alike = {key: value for key, value in run.values.items() if not key.startswith(EVALUATION_KEYS)}
        for key in IN_ONE_PROGRAM:
            del alike[key]
        alike |= {key: bool(run.values[key]) for key in IF_NOT_ZERO}
        shape = json.dumps(alike, sort_keys=True)
        groups.setdefault(shape, []).append(run)
        needed = recorded_training.least_memory(params, tuple(statistics["shape"]), plan.batch_size)
        most[shape] = max(1, min(MOST_TOGETHER, frameworks.memory_limit() // 2 // needed))
    return [group[at : at + most[shape]] for shape, group in groups.items() for at in range(0, len(group), most[shape])]


def _possible(params: Params, variant: str) -> None:
    """Refuse what cannot be one lane of a program."""
    train = params.train
    if train.backend != "jax":
        raise ParamsError(
            f"{variant}: train.backend is {train.backend}, but only JAX trains runs together. "
            "Fix it in the study: `train.backend: jax`."
        )
    if train.strategy not in ("none", "one_device"):
        raise ParamsError(
            f"{variant}: train.strategy is {train.strategy}, but runs train together on one device. "
            "Fix it in the study: `train.strategy: none`."
        )


def train_together(runs: Sequence[tuple[Run, Path]], normalized: Path) -> None:
    """Train one group in this process; leave in each one's folder models what `train` does, without a network where it
    diverged."""
    with ExitStack() as ending:
        for _, models in runs:
            ending.enter_context(files.lock_folder(models))
        trainings = ending.enter_context(_open_trainings([one for one, _ in runs], normalized))
        print(f"together: {len(runs)} runs are one program", flush=True)
        print("\n".join(trainings[0].summary()), flush=True)

        from keras_pipeline.training.engines.vectorized import fit_together

        began = time.monotonic()
        with process.time_part("train"):
            lanes = fit_together(trainings, _Clock(trainings[0].params.train.epochs, trainings[0].data.steps))
        seconds = (time.monotonic() - began) / len(lanes)
        for (_, models), lane in zip(runs, lanes, strict=True):
            of_run = lane.training.run
            of_run["ended"], of_run["train_seconds"], of_run["together"] = time.time(), seconds, len(lanes)
            files.clear_folder(models)
            if of_run["history"]:
                write_history(models / "history.csv", of_run["history"])
            if lane.fault:
                write_record(models / "run.json", {**of_run, "diverged": lane.fault.received, "best_epoch": None})
            else:
                lane.training.write(models / "model.keras", models / "run.json")


class _Clock:
    """Says now and then where all runs are, and how long it may still take. The first steps, which compile, tell
    nothing of that."""

    def __init__(self, epochs: int, steps: int) -> None:
        self.epochs, self.steps = epochs, steps
        self.began = self.shown = 0.0
        self.first = 0

    def __call__(self, epoch: int, step: int) -> None:
        now, done = time.monotonic(), (epoch - 1) * self.steps + step
        if not self.first:
            self.began = self.shown = now
            self.first = done
        elif step == self.steps or now > self.shown + SHOWN_SECONDS:
            left = (now - self.began) / (done - self.first) * (self.epochs * self.steps - done)
            at = f"epoch {epoch} of {self.epochs}, step {step} of {self.steps}"
            print(f"together: {at}, {left:.0f} s left", flush=True)
            self.shown = now


@contextmanager
def _open_trainings(runs: Sequence[Run], normalized: Path) -> Iterator[list[RecordedTraining]]:
    """The networks of one group on one device, over one copy of the images."""
    params = runs[0].params
    plan, numbers = check_training(params, normalized)
    splits = [read_split(normalized, name, numbers) for name in ("train", "validation")]
    images = sum(split.scaled_bytes for split in splits)
    if images > frameworks.memory_limit() // 4:
        raise MachineError(
            f"the images take {images / 1e9:.1f} GB, which runs that train together hold all at once: too much for "
            "this machine. Run the study without --together."
        )
    begun = record.begin_record(params, normalized, numbers, __name__)
    with strategies.open_strategy(plan) as strategy:
        trainings = [prepare_recorded_training(one.params, plan, strategy, splits, _own(begun, one)) for one in runs]
        for training in trainings:
            training.run["strategy"]["fused"] = True
        yield trainings


def _own(begun: RunRecord, run: Run) -> RunRecord:
    """The record of one of the runs, which have all but their params and their key in common."""
    names = {key.split(".")[0] for key in begun["params"]}
    values = {key: value for key, value in run.values.items() if key.split(".")[0] in names}
    digests = {**begun["sha256"], "params": provenance.params_digest(values)}
    return {**begun, "key": uuid.uuid4().hex, "params": values, "sha256": digests, "resumed": [], "history": []}
