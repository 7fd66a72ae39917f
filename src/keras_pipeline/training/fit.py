"""The fit, watched step by step: where it stands, what is kept of it, what a user sees of it, when it ends."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np

from keras_pipeline.config.params import EarlyStopping, Train
from keras_pipeline.config.tasks import format_score, metric_beside_loss
from keras_pipeline.core import process, terminal
from keras_pipeline.core.errors import DivergedError, StoppedError
from keras_pipeline.distribution import fit_loop
from keras_pipeline.records.observer import Observer
from keras_pipeline.training.batches import Row
from keras_pipeline.training.compilation import learning_rate_then
from keras_pipeline.training.engines import fused, numpy_engine
from keras_pipeline.training.state import TrainingState, make_variables, put_state, state_of
from keras_pipeline.training.training import Training

LEAST_IMPROVEMENT = 1e-4
"""By how much val/loss must fall for reduce_on_plateau, as in keras.callbacks.ReduceLROnPlateau."""


def best_epoch(history: Sequence[Row], rule: EarlyStopping) -> int:
    """The epoch, counted from 1, whose weights the trained network has."""
    if not rule.patience:
        return len(history)
    values = [row[rule.monitor] for row in history]
    return values.index(min(values) if rule.monitor == "val/loss" else max(values)) + 1


def is_on_plateau(history: Sequence[Row], patience: int) -> bool:
    """Whether reduce_on_plateau lowers the rate after the last epoch: a function of the epochs alone."""
    best, waited = math.inf, 0
    for row in history:
        if waited == patience:
            waited = 0
        if row["val/loss"] < best - LEAST_IMPROVEMENT:
            best, waited = row["val/loss"], 0
        else:
            waited += 1
    return waited == patience


def is_finished(history: Sequence[Row], train: Train) -> bool:
    """Whether no epoch is left, or early stopping ends the training here."""
    rule = train.early_stopping
    waited = len(history) - best_epoch(history, rule) if history else 0
    return len(history) == train.epochs or bool(rule.patience and waited >= rule.patience)


SPEED_STEPS = 20
"""After how many steps the time of an epoch is foretold; the first step compiles and is not counted."""
NOT_SCORES = ("epoch", "train/learning_rate")
"""What of an epoch's row is told in another way than a loss or a metric."""


class ProgressLines:
    """A line per epoch, on a terminal a bar for the whole training below them, and, once, how long it will take. Prints
    where `shown`."""

    def __init__(self, epochs: int, steps: int, *, shown: bool) -> None:
        self.epochs, self.steps, self.shown = epochs, steps, shown
        self.bar: terminal.Progress | None = None
        self.scores: dict[str, str] = {}
        self.foretold = not shown
        self.epoch = self.done = 0
        self.first: int | None = None
        self.began = self.warm = time.monotonic()

    def epoch_begins(self, epoch: int, step: int) -> None:
        """The epoch, counted from 1, goes on after so many steps."""
        self.epoch, self.done, self.first = epoch, step, None
        self.began = time.monotonic()
        if self.shown and self.bar is None:
            total, done = self.epochs * self.steps, (epoch - 1) * self.steps + step
            self.bar = terminal.Progress(f"Epoch {epoch}/{self.epochs}", total, "step", done)

    def step(self, step: int, loss: float) -> None:
        """So many steps of the epoch are done."""
        if self.bar is not None and self.bar.bar is not None:
            done = (self.epoch - 1) * self.steps + step
            self.bar.advance(done, f"Epoch {self.epoch}/{self.epochs}", loss=format_score(loss), **self.scores)
        self.done = step
        if self.foretold:
            return
        if self.first is None:
            self.first, self.warm = step, time.monotonic()
        elif step >= self.first + SPEED_STEPS:
            self.foretold = True
            seconds = (time.monotonic() - self.warm) / (step - self.first) * self.steps
            left = self.epochs - self.epoch + 1
            self._print(f"train: about {seconds:.1f} s an epoch, {_minutes(seconds * left)} for {left} epochs")

    def epoch_ends(self, row: dict[str, float]) -> None:
        """The epoch is done: the row of `fit.fit_network`, without its time."""
        metric = f"val/{metric_beside_loss(row)}"
        self.scores = {metric: format_score(row[metric])}
        values = "  ".join(f"{name} {format_score(value)}" for name, value in row.items() if name not in NOT_SCORES)
        rate, seconds = row["train/learning_rate"], time.monotonic() - self.began
        self._print(f"Epoch {row['epoch']}/{self.epochs}: {values}  learning rate {rate:.3g}  {seconds:.1f} s")

    def close(self) -> None:
        """Take away the bar, if one is there."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _print(self, text: str) -> None:
        if self.shown:
            self.bar.print(text) if self.bar is not None else print(text, flush=True)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


@dataclass
class Progress:
    """Where a training stands: epochs done, steps done in the next one, the epochs' rows, and seconds so far."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[Row] = field(default_factory=list)


class NotFiniteError(DivergedError):
    """`name`, a loss or "a weight", was `value` after `step` of `epoch`, both counted from 1; `received`: all this as a
    sentence with the learning rate, without what to do."""

    def __init__(self, name: str, value: float, epoch: int, step: int, rate: float) -> None:
        self.name, self.value, self.epoch, self.step = name, value, epoch, step
        self.received = (
            f"training diverged: {name} is {value} at step {step} of epoch {epoch}, learning rate {rate:g}. "
            "Expected: a finite number."
        )
        super().__init__(
            f"{self.received} Try a tenth of train.optimizer.learning_rate, a warm-up (train.schedule), "
            "train.optimizer.clipnorm: 1.0, or another normalize.scaling."
        )


def fit_network(
    training: Training,
    progress: Progress,
    state: TrainingState | None = None,
    observers: Sequence[Observer] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
    *,
    quiet: bool = False,
) -> None:
    """Train the network from `progress` to its end; `state` is what was kept there. `callbacks`, if any, see the end
    of every step; the observers' `started` and `ended` are not for the fit to call. `quiet`: nothing is printed.

    A row: epoch (counted from 1), train/loss, train/accuracy (means over the epoch while it trained, with
    Dropout on), val/loss, val/accuracy (at its end), train/learning_rate (after its last step), time (seconds
    since 1970); of a regression mean_absolute_error in place of accuracy: `compilation.make_metrics`. Both losses
    include the L2 penalty. With early stopping on, the weights of the best epoch are in place at the end. `progress` is
    kept up to date.
    Raises NotFiniteError at the first step whose loss is not a finite number, and before a state is kept that has
    such weights, with `progress` at the last good step kept; StoppedError when an observer requests it, after the
    step is kept.
    """
    model, strategy, data, train = training.model, training.strategy, training.data, training.params.train
    start = progress.epoch, progress.step
    callback = TrainingCallback(training, progress, state, observers, quiet=quiet)
    validation_batches = data.validation_batches(strategy)
    make_variables(model, strategy, validation_batches[0])
    if not is_finished(progress.history, train):
        options: dict[str, Any] = {
            "epochs": train.epochs,
            "initial_epoch": start[0],
            "callbacks": [callback, *callbacks],
        }
        look = 1 if callbacks else train.checkpoint_steps
        steps: fit_loop.Steps | None = None
        if train.engine == "numpy":
            steps = numpy_engine.numpy_steps(training, start, look)
        elif fused.can_fuse(model, strategy, data):
            steps = fused.fused_steps(training, look)
        elif strategy.looped:
            from keras_pipeline.training.engines.looped import looped_steps

            steps = looped_steps(training, start, look)
        if steps:
            fit_loop.run_epochs(model, *steps, initial_step=start[1], steps_per_epoch=data.steps, **options)
        else:
            strategy.fit(
                model,
                lambda: data.batches(strategy, *start),
                steps_per_epoch=data.steps,
                validation_data=validation_batches,
                shuffle=False,
                verbose=0,
                **options,
            )
    elif state is not None:
        put_state(model, state, strategy, metrics=False)
        model.optimizer.finalize_variable_values(model.trainable_weights)  # averages of weights, as the fit ends
    callback.finish(model)


class TrainingCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Looks at every step and epoch of a fit. On JAX, each look at `self.model` copies all state: not every step."""

    def __init__(
        self,
        training: Training,
        progress: Progress,
        state: TrainingState | None = None,
        observers: Sequence[Observer] = (),
        *,
        quiet: bool = False,
    ) -> None:
        super().__init__()
        self.strategy, self.data, self.train = training.strategy, training.data, training.params.train
        self.progress, self.state, self.observers = progress, state, observers
        self.best = [state[name] for name in state if name.startswith("best/")] if state else []
        self.lines = ProgressLines(self.train.epochs, self.data.steps, shown=not quiet)
        self.began = time.monotonic() - progress.seconds
        self.epoch = self.step = 0
        self.compiling_since: float | None = None

    def on_train_begin(self, logs: Row | None = None) -> None:
        """The training begins, or goes on."""
        self.compiling_since = time.monotonic() if self.train.engine == "keras" else None
        if self.state is None:
            self.strategy.spread_noise(self.model)

    def on_epoch_begin(self, epoch: int, logs: Row | None = None) -> None:
        """An epoch begins: at its first step, or where it was left, with the state of then."""
        self.epoch, self.step = epoch + 1, self.progress.step
        if self.state is not None:
            put_state(self.model, self.state, self.strategy, metrics=self.step > 0)
            self.strategy.spread_noise(self.model)
            self.state = None
        self.lines.epoch_begins(self.epoch, self.step)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Steps were trained, one for each of the logs' "losses". Raises NotFiniteError and StoppedError."""
        logs = logs or {}
        losses = logs.get("losses", [logs["loss"]])  # of more than one step where they are fused
        for left, loss in zip(reversed(range(len(losses))), losses, strict=True):
            self.step += 1
            self._check("train/loss", loss, steps_since=left)
        self.lines.step(self.step, losses[-1])
        if self.compiling_since is not None:
            process.add_time("compile", time.monotonic() - self.compiling_since)
            self.compiling_since = None
        last, every = self.step == self.data.steps, self.train.checkpoint_steps
        due = bool(every) and self.step % every == 0 and not last
        if last and self.strategy.own_statistics:
            self.strategy.average_statistics(self.model)
        stop = not last and self._stop_requested()
        if due or stop:
            self.progress.step = self.step
            self._save()
        if stop:
            self._stop()
        if last and self.params["steps"] > batch + 1:
            self.model.stop_training = True  # ends the epoch that was resumed in its middle; see on_epoch_end

    def on_epoch_end(self, epoch: int, logs: Row | None = None) -> None:
        """An epoch was trained and validated: its row, the learning rate's and the training's end. Raises as above."""
        logs = logs or {}
        self._check("val/loss", logs["val_loss"])
        names = ["loss", *(name for name in logs if name != "loss" and f"val_{name}" in logs)]
        row = {"epoch": epoch + 1, **self.strategy.mean({f"train/{name}": logs[name] for name in names})}
        row |= {f"val/{name}": logs[f"val_{name}"] for name in names}
        optimizer, history = self.model.optimizer, self.progress.history
        row["train/learning_rate"] = rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        history.append({**row, "time": time.time()})
        self.progress.epoch, self.progress.step = epoch + 1, 0
        schedule, rule = self.train.schedule, self.train.early_stopping
        if schedule.name == "reduce_on_plateau" and is_on_plateau(history, schedule.patience):
            optimizer.learning_rate = rate * schedule.factor
        if rule.patience and best_epoch(history, rule) == len(history):
            self.best = self.model.get_weights()
        self._save()
        self.lines.epoch_ends(row)
        for observer in self.observers:
            observer.epoch(history[-1])
        self.model.stop_training = is_finished(history, self.train)
        if self._stop_requested() and not self.model.stop_training:
            self._stop()

    def finish(self, model: keras.Sequential) -> None:
        """Put the weights of the best epoch in place, where early stopping sought one."""
        self.lines.close()
        if self.best:
            model.set_weights(self.best)

    def _save(self) -> None:
        """All workers take part, because some states are sums over them; only the chief's observers keep it."""
        state = state_of(self.model, self.strategy)
        # A step's loss is of the weights before it: they may be spoiled where it is still finite.
        finite = all(np.isfinite(one).all() for name, one in state.items() if name.startswith("trainable/"))
        self._check("a weight", 0.0 if finite else math.nan)
        self.progress.seconds = time.monotonic() - self.began
        best = {f"best/{number:04}": one for number, one in enumerate(self.best)}
        for observer in self.observers:
            observer.checkpoint({**state, **best}, asdict(self.progress))

    def _stop_requested(self) -> bool:
        return any(observer.stop_requested() for observer in self.observers)

    def _stop(self) -> None:
        self.lines.close()
        at = f"step {self.progress.step} of epoch {self.progress.epoch + 1}"
        raise StoppedError(
            f"train: stopped as asked, after {at if self.progress.step else f'epoch {self.progress.epoch}'}. "
            "A checkpoint is kept: the same command goes on from there."
        )

    def _check(self, name: str, value: float, steps_since: int = 0) -> None:
        if not math.isfinite(value):
            self.lines.close()
            rate = learning_rate_then(self.model.optimizer, steps_since)
            raise NotFiniteError(name, value, self.epoch, self.step, rate)
