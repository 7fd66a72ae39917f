"""The verb debug: a training that answers one question, in a folder of its own; nothing else is touched."""

import csv
import io
import math
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_pipeline.config.layers import Dropout
from keras_pipeline.config.params import Params, Train
from keras_pipeline.config.tasks import metric_beside_loss
from keras_pipeline.core import files
from keras_pipeline.core.errors import ParamsError, PipelineError, StoppedError
from keras_pipeline.data.splits import Split, read_split, stratified_split
from keras_pipeline.data.statistics import describe_dataset, is_table, things
from keras_pipeline.data.task_spec import predicted_classes
from keras_pipeline.distribution import strategies
from keras_pipeline.records import record
from keras_pipeline.records.observer import Observer
from keras_pipeline.training.recorded_training import RecordedTraining, check_training, prepare_recorded_training

if TYPE_CHECKING:
    from keras_pipeline.training.batches import Row


Mode = Literal["one-batch", "overfit", "limited", "profile"]
OVERFIT_BATCHES = 4
OVERFIT_FULL = 256
"""The batch where params.yaml says full: all images cannot be a few batches."""
OVERFIT_STEPS = 1000
"""How long it may take to learn them by heart; the default network takes some 30 steps."""
SHOWN_IMAGES = 36
"""How many of a batch are drawn."""
SHOWN_EPOCHS = 10
"""Of the many short epochs of this, every so manyth is told."""


class NotLearnedError(PipelineError):
    """The network cannot learn a few batches by heart: something of it, its data or its optimizer is wrong."""

    exit_code = 5


def run_mode(params: Params, normalized: Path, folder: Path, observer: Observer, mode: Mode, share: float) -> None:
    """Train for the mode's question in one process; write into `folder`/mode only, and keep no checkpoint.

    The record, run.json; the trained network where it is trained as params.yaml says; the trace and the times of
    profile. `share`: for limited, of the training images, the same of each class. Raises ParamsError for several
    workers, a share that makes no batch, and a profile of NumPy, NotLearnedError, and what the stage train raises.
    """
    if params.train.workers > 1:
        raise ParamsError(
            f"params.yaml: train.workers: {params.train.workers}, but debug trains in one process. "
            "Set train.workers: 1 while you debug; batch_size is that of all workers, so the training stays the same."
        )
    if mode == "profile" and params.train.engine == "numpy":
        raise ParamsError(
            "params.yaml: train.engine: numpy, but debug profile measures the steps of Keras. Set train.engine: keras "
            "to profile; the times that train prints at its end are NumPy's too."
        )
    plan, statistics = check_training(params, normalized)
    if mode == "overfit" and statistics["target"]:
        raise ParamsError(
            f"params.yaml: fetch.dataset: {statistics['dataset']}: debug overfit looks whether all answers are right, "
            "and a predicted number is never quite right. Use debug limited."
        )
    if params.train.batch_size == "auto":  # that of the training, however few images the mode looks at
        train = params.train.model_copy(update={"batch_size": plan.batch_size})
        params = params.model_copy(update={"train": train})
    images = _images(mode, params.train, statistics["images"], plan, share)
    mode_params = _without_regularization(params, images) if mode == "overfit" else params
    mode_folder = folder / mode
    with files.lock_folder(mode_folder), ExitStack() as ending:
        run = record.begin_record(params, normalized, {**describe_dataset(statistics), "images": images}, __name__)
        run["debug"], run["name"] = mode, f"{run['name']} {mode}"
        splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
        plan = strategies.plan_training(mode_params.train, images, os.environ)
        strategy = ending.enter_context(strategies.open_strategy(plan))
        training = prepare_recorded_training(mode_params, plan, strategy, _cut(mode, splits, images, params.seed), run)
        print("\n".join(training.summary()), flush=True)
        try:
            observer.started(run)
            print(MODES[mode](training, mode_folder, observer), flush=True)
            record.write_record(mode_folder / "run.json", run)
        except BaseException as error:
            observer.ended("FAILED" if isinstance(error, Exception) else "KILLED", run, None)
            raise
        observer.ended("FINISHED", run, None)


def _images(mode: Mode, train: Train, images: dict[str, int], plan: strategies.Plan, share: float) -> dict[str, int]:
    """How many images of each split the mode looks at: whole batches, or a number that the replicas share evenly."""
    count = images["train"]
    if mode == "one-batch":
        return {**images, "train": plan.batch_size, "validation": min(plan.validation_batch, images["validation"])}
    if mode == "overfit":
        few = min(OVERFIT_BATCHES * _overfit_batch(train), count // train.replicas * train.replicas)
        return {**images, "train": few, "validation": few}
    if mode == "limited":
        few = round(count * share) // train.replicas * train.replicas
        if few < (1 if train.batch_size == "full" else plan.batch_size):
            least = math.ceil(1000 * plan.batch_size / count) / 1000
            raise ParamsError(
                f"--share {share:g}: {few} of {count} training images do not make a batch of {train.batch_size}. "
                f"Expected: a share of at least {least:g}, or a smaller train.batch_size."
            )
        return {**images, "train": few}
    return images


def _cut(mode: Mode, splits: list[Split], images: dict[str, int], seed: int) -> list[Split]:
    """So many images of training and validation."""
    from keras_pipeline.training.batches import batch_order

    training, validation = splits
    few = batch_order(len(training.targets), seed, 0)[: images["train"]]  # those of the first batches
    if mode == "limited":
        numbers = training.targets.dtype == np.float32
        classes = np.zeros(len(training.targets), np.int64) if numbers else training.targets
        _, few = stratified_split(classes, len(few) / len(training.targets), seed)
    if mode != "profile":
        training = training.part(few)
    if mode == "overfit":
        return [training, training]
    count = images["validation"]
    return [training, validation.part(slice(count))]


def _overfit_batch(train: Train) -> int:
    whole = OVERFIT_FULL // train.replicas * train.replicas
    return train.batch_size if isinstance(train.batch_size, int) else whole


def _without_regularization(params: Params, images: dict[str, int]) -> Params:
    """Without Dropout, L2, augmentation, early stopping and schedule, for OVERFIT_STEPS."""
    model, train = params.model, params.train
    layers = [one for one in model.layers if not isinstance(one, Dropout)]
    layers = [one.model_copy(update={"l2": 0.0}) if hasattr(one, "l2") else one for one in layers]
    size = min(_overfit_batch(train), images["train"])
    changes = {
        "batch_size": size,
        "epochs": OVERFIT_STEPS // -(-images["train"] // size),
        "schedule": train.schedule.model_copy(update={"name": "constant"}),
        "early_stopping": train.early_stopping.model_copy(update={"patience": 0}),
        "augmentation": train.augmentation.off(),
    }
    return params.model_copy(
        update={
            "model": model.model_copy(update={"dropout": 0.0, "l2": 0.0, "layers": tuple(layers)}),
            "train": train.model_copy(update=changes),
        }
    )


def _fit(
    training: RecordedTraining,
    observer: Observer,
    strategy: strategies.OpenedStrategy | None = None,
    *,
    quiet: bool = False,
    **changes: Any,
) -> None:
    """Train, keeping nothing, on `strategy` if given and with these values of train changed."""
    from keras_pipeline.training import fit

    unkept = training.changed(strategy or training.strategy, checkpoint_steps=0, **changes)
    try:
        unkept.fit(fit.Progress(history=training.run["history"]), observers=[observer], quiet=quiet)
    except fit.NotFiniteError as fault:
        raise training.diagnose_divergence(fault, None) from None


# The modes: each trains, and gives what is to be said at the end.
def _one_batch(training: RecordedTraining, mode_folder: Path, observer: Observer) -> str:
    from keras_pipeline.evaluation import figures

    images, targets, _ = (array[:SHOWN_IMAGES] for array in next(training.data.batches(training.strategy, 0, 0)))
    shown = ""
    names = training.run["dataset"]["class_names"]
    if names and not is_table(training.run["dataset"]):
        figures.save_figure(
            figures.draw_first_batch([*map(figures.thumbnail, images)], predicted_classes(targets).tolist(), names),
            mode_folder / "images.png",
        )
        shown = f"\ndebug: the batch as the network sees it: {mode_folder}/images.png"
    _fit(training, observer, epochs=1)
    training.write(mode_folder / "model.keras", mode_folder / "run.json")
    return (
        f"debug: everything runs: one batch of {training.data.batch_size} was trained on, one of "
        f"{len(training.data.validation.targets)} validated, and the network written to {mode_folder}/.{shown}"
    )


class _UntilLearned(Observer):
    """Tells of every so manyth epoch, and asks the training to end when all images are answered right."""

    def __init__(self, observer: Observer, history: "list[Row]", steps: int) -> None:
        self.observer, self.history, self.steps = observer, history, steps

    def epoch(self, row: "Row") -> None:
        if row["epoch"] % SHOWN_EPOCHS == 0 or self.stop_requested():
            self.observer.epoch(row)
            print(f"debug: step {row['epoch'] * self.steps}: {_row(row, 'train')}", flush=True)

    def stop_requested(self) -> bool:
        return bool(self.history) and self.history[-1]["train/accuracy"] == 1.0


def _overfit(training: RecordedTraining, mode_folder: Path, observer: Observer) -> str:
    history, train, data = training.run["history"], training.params.train, training.data
    count, called = len(data.training.targets), things(training.run["dataset"])
    without = "Dropout, L2, augmentation, schedule and early stopping"
    print(f"debug: {count} {called} over and over, without {without}", flush=True)
    learned = _UntilLearned(observer, history, data.steps)
    with suppress(StoppedError):
        _fit(training, learned, quiet=True)
    steps = len(history) * data.steps
    if learned.stop_requested():
        return f"debug: learned by heart: all {count} {called} are answered right after {steps} steps."
    best = max(row["train/accuracy"] for row in history)
    raise NotLearnedError(
        f"debug: not learned: after {steps} steps {best:.1%} of the {count} {called} are answered right at best, "
        f"train/loss {history[-1]['train/loss']:.4g}. Expected: all of them, which a sound network without Dropout and "
        f"L2 learns by heart. Look at train.optimizer.learning_rate ({train.optimizer.learning_rate:g}: ten times as "
        "much, and a tenth), at the number of units and filters, at train.loss with model.output_activation, and "
        f"whether the labels belong to the {called}."
    )


def _limited(training: RecordedTraining, mode_folder: Path, observer: Observer) -> str:
    _fit(training, observer)
    training.write(mode_folder / "model.keras", mode_folder / "run.json")
    history = training.run["history"]
    count, called = len(training.data.training.targets), things(training.run["dataset"])
    return (
        f"debug: {len(history)} epochs of {count:,} {called} in {training.run['train_seconds']:.0f} s; the network, in "
        f"{mode_folder}/, has the weights of epoch {training.run['best_epoch']}: "
        f"{_row(record.best_row(training.run), 'val')}"
    )


def _profile(training: RecordedTraining, mode_folder: Path, observer: Observer) -> str:
    from keras_pipeline.debugging import profiling

    trace, train, clock = mode_folder / "trace", training.params.train, profiling.Clock()
    shutil.rmtree(trace, ignore_errors=True)
    unstopped = train.early_stopping.model_copy(update={"patience": 0})
    epochs = -(-profiling.STEPS // training.data.steps)
    strategy = profiling.profile_strategy(training.strategy, train.backend, trace, clock)
    with suppress(StoppedError):
        _fit(training, observer, strategy, quiet=True, early_stopping=unstopped, epochs=epochs)
    training.run["trace"] = str(trace)
    table = clock.table()
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("part", "median_ms", "p95_ms"), *table])
    files.write_atomically(mode_folder / "times.csv", text.getvalue().encode())
    lines = [f"{'ms a step':>34}  median     95 %"]
    lines += [f"{profiling.PARTS[part]:>34} {median:7.2f}  {high:7.2f}" for part, median, high in table]
    total = sum(median for part, median, _ in table if part != "batch")
    called = things(training.run["dataset"])
    speed = training.data.batch_size / total * 1000
    lines.append(f"debug: {profiling.TIMED_STEPS} steps of {training.data.batch_size}: {speed:,.0f} {called} a second")
    lines.append(f"debug: a trace of {profiling.TRACED_STEPS} more steps is in {trace}/.")
    lines.append(f"debug: {profiling.LOOK[train.backend].format(folder=trace)}")
    return "\n".join(lines)


MODES: dict[Mode, Callable[[RecordedTraining, Path, Observer], str]] = {
    "one-batch": _one_batch,
    "overfit": _overfit,
    "limited": _limited,
    "profile": _profile,
}


def _row(row: "Row", split: str) -> str:
    metric = f"{split}/{metric_beside_loss(row)}"
    return f"{metric} {row[metric]:.4f}, {split}/loss {row[f'{split}/loss']:.4f}"
