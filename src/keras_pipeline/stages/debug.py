"""The verb debug: a training that answers one question, in a folder of its own; nothing else is touched."""

import math
import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from keras_pipeline import distribution, files, layers, record
from keras_pipeline.errors import DivergedError, ParamsError, PipelineError, StoppedError
from keras_pipeline.params import Model, Params, Train
from keras_pipeline.preprocessing import Split, read_split, stratified_split
from keras_pipeline.stages import train as training_stage

if TYPE_CHECKING:
    import keras

    from keras_pipeline.training import Row

Mode = Literal["one-batch", "overfit", "limited", "profile"]
OVERFIT_BATCHES = 4
OVERFIT_IMAGES = 1024
"""Instead of batches, where the batch is all images."""
OVERFIT_STEPS = 1000
"""How long it may take to learn the few batches by heart; a sound network needs some ten to a hundred steps."""
SHOWN_EPOCHS = 10
"""Of the many short epochs in which it does, every so manyth is told."""


class NotLearnedError(PipelineError):
    """A network that cannot learn a few batches by heart: something of it, its data or its optimizer is wrong."""

    exit_code = 5


@dataclass(frozen=True)
class _Work:
    """What a mode trains: so many images, with these params, for so many epochs of a schedule that stays as it is."""

    images: dict[str, int]
    params: Params
    epochs: int


def run(
    params: Params, normalized: Path, folder: Path, observer: training_stage.Observer, mode: Mode, share: float
) -> None:
    """Train for the mode's question, in one process; write `folder`/mode/run.json (and the trace and the times, or
    the network where it was trained to its end), keep no checkpoint.

    `share`: for limited, of the training images, the same of each class. Raises ParamsError for several workers and
    a share that makes no batch, NotLearnedError where overfit's batches are not learned, and what the stage train does.
    """
    if params.train.workers > 1:
        raise ParamsError(
            f"params.yaml: train.workers: {params.train.workers}, but debug trains in one process. "
            "Set train.workers: 1 while you debug; the global batch, and so the training, stays the same."
        )
    plan, statistics = training_stage.check(params, normalized)
    work = _work(mode, params, statistics["images"], plan.batch_size, share)
    own = folder / mode
    with files.lock(own), ExitStack() as ending:
        splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
        plan = distribution.plan(work.params.train, work.params.model.batch_normalized, work.images, os.environ)
        run = record.begun(params, normalized, {**statistics, "images": work.images}, __name__)
        run |= {"debug": mode, "name": f"{run['name']} {mode}"}
        distribution.prepare(plan)
        place = distribution.open_distribution(plan)
        ending.callback(place.close)
        try:
            _train(work, splits, plan, place, run, observer, own, mode)
        except BaseException as error:
            if "weights" in run:
                observer.ended("FAILED" if isinstance(error, Exception) else "KILLED", run, None)
            raise
        observer.ended("FINISHED", run, None)


def _work(mode: Mode, params: Params, images: dict[str, int], batch_size: int, share: float) -> _Work:
    train, count = params.train, images["train"]
    if mode == "one-batch":
        return _Work({**images, "train": batch_size, "validation": min(images["validation"], batch_size)}, params, 1)
    if mode == "limited":
        few = round(count * share) // train.replicas * train.replicas
        if train.batch_size != "full" and few < train.batch_size:
            raise ParamsError(
                f"--share {share:g}: {few} of {count} training images do not make a batch of {train.batch_size}. "
                f"Expected: at least {math.ceil(1000 * train.batch_size / count) / 1000:g}, or a smaller "
                "train.batch_size."
            )
        return _Work({**images, "train": few}, params, train.epochs)
    unstopped = train.early_stopping.model_copy(update={"patience": 0})
    if mode == "profile":
        steps = -(-count // batch_size)
        from keras_pipeline import profiling
        return _Work(images, params, -(-1 // steps))
    return _Work(images, params, 1)
