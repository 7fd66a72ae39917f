"""Several trainings of a study as one program: what `stages.train` does, for many runs at once."""

import json
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from keras_pipeline import distribution, files, memory, preparation, provenance, record, spent
from keras_pipeline.errors import MachineError, ParamsError
from keras_pipeline.params import Params
from keras_pipeline.preparation import Prepared
from keras_pipeline.preprocessing import read_split
from keras_pipeline.studies import Run

MOST_TOGETHER = 64
"""Of those in one program: more gain nothing, and an interruption costs them all."""
IN_ONE_PROGRAM = ("seed", "train.optimizer.learning_rate")
IF_NOT_ZERO = ("model.dropout", "model.l2")
"""What may differ among networks that train as one program; 0 is another network, without the layer or the penalty."""
BESIDE_TRAINING = ("evaluate.",)
SHOWN_SECONDS = 10
"""How often somebody who waits is told something, and at the end of every epoch."""


def grouped(runs: Sequence[tuple[Run, Path]]) -> list[list[Run]]:
    """Those whose networks and trainings have the same shapes, together, as far as half of the memory goes.

    `runs`: each with the folder of its normalized arrays. Raises ParamsError where one cannot train so, and what
    `preparation.check` raises for any.
    """
    groups: dict[str, list[Run]] = {}
    most: dict[str, int] = {}
    for run, normalized in runs:
        params = run.params
        _possible(params, run.variant)
        plan, statistics = preparation.check(params, normalized)
        alike = {key: value for key, value in run.values.items() if not key.startswith(BESIDE_TRAINING)}
        for key in IN_ONE_PROGRAM:
            del alike[key]
        alike |= {key: bool(run.values[key]) for key in IF_NOT_ZERO}
        shape = json.dumps(alike, sort_keys=True)
        groups.setdefault(shape, []).append(run)
        needed = preparation.least_memory(params, tuple(statistics["shape"]), plan.batch_size)
        most[shape] = max(1, min(MOST_TOGETHER, memory.limit() // 2 // needed))
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


def run(runs: Sequence[tuple[Run, Path]], normalized: Path) -> None:
    """Train one group in this process; leave in each one's folder models what `train` does, without a network where it
    diverged."""
    with ExitStack() as ending:
        for _, models in runs:
            ending.enter_context(files.lock(models))
        prepared = _prepared([one for one, _ in runs], normalized)
        print(f"together: {len(runs)} runs are one program", flush=True)
        print("\n".join(prepared[0].summary()), flush=True)
        from keras_pipeline import vectorized

        began = time.monotonic()
        with spent.on("train"):
            lanes = vectorized.fit(prepared, _Clock(prepared[0].params.train.epochs, prepared[0].data.steps))
        seconds = (time.monotonic() - began) / len(lanes)
        for (_, models), lane in zip(runs, lanes, strict=True):
            of_run = lane.prepared.run
            of_run.update(ended=time.time(), train_seconds=seconds, together=len(lanes))
            files.clear(models)
            if of_run["history"]:
                lane.prepared.write_history(models / "history.csv")
            if lane.fault:
                files.write_json(models / "run.json", {**of_run, "diverged": lane.fault.received, "best_epoch": None})
            else:
                lane.prepared.write(models / "model.keras", models / "run.json")


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


def _prepared(runs: Sequence[Run], normalized: Path) -> list[Prepared]:
    """The networks of one group on one device, over one copy of the images."""
    params = runs[0].params
    plan, numbers = preparation.check(params, normalized)
    splits = [read_split(normalized, name, numbers) for name in ("train", "validation")]
    images = sum(split.images.nbytes for split in splits)
    if images > memory.limit() // 4:
        raise MachineError(
            f"the images take {images / 1e9:.1f} GB, which runs that train together hold all at once: too much for "
            "this machine. Run the study without --together."
        )
    begun = record.begun(params, normalized, numbers, __name__)
    distribution.prepare(plan)
    place = distribution.open_distribution(plan)
    prepared = [preparation.prepare(one.params, plan, place, splits, _own(begun, one)) for one in runs]
    for one in prepared:
        one.run["strategy"]["fused"] = True
    return prepared


def _own(begun: dict[str, Any], run: Run) -> dict[str, Any]:
    """The record of one of the runs, which have all but their params and their key in common."""
    names = {key.split(".")[0] for key in begun["params"]}
    values = {key: value for key, value in run.values.items() if key.split(".")[0] in names}
    digests = {**begun["sha256"], "params": provenance.params_digest(values)}
    return {**begun, "key": uuid.uuid4().hex, "params": values, "sha256": digests, "resumed": [], "history": []}
