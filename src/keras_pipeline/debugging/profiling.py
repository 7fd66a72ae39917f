"""Where the time of a training step goes: a table by the clock, and a trace that TensorBoard shows."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pipeline.core.errors import StoppedError
from keras_pipeline.distribution.strategies import OpenedStrategy

WARM_STEPS = 10
"""The first steps compile and fill buffers; they are neither timed nor traced."""
TIMED_STEPS = 50
TRACED_STEPS = 20
"""Traced, and not timed: tracing costs time itself."""
STEPS = WARM_STEPS + TIMED_STEPS + TRACED_STEPS
PARTS = {
    "batch": "cut a batch from the arrays",
    "wait": "wait between two steps",
    "step": "forward, backward, update",
    "callbacks": "callbacks",
}
"""What takes the time, in words."""
XPROF = "To see it: pip install tensorboard xprof; tensorboard --logdir {folder}; then the page Profile."
LOOK = {
    "tensorflow": XPROF,
    "jax": XPROF,
    "torch": "To see it: open its file in https://ui.perfetto.dev, or pip install tensorboard torch-tb-profiler; "
    "tensorboard --logdir {folder}; then the page PyTorch Profiler.",
}
"""By backend: how to look at a trace in a folder."""
Mark = Callable[[int], AbstractContextManager[Any]]
"""Makes a step, by its number, one in the trace."""


@dataclass
class Clock:
    """Seconds of each timed step, by its parts, and of each `batch` that was cut: on TensorFlow beside the steps, on
    JAX within `step`, on PyTorch within `wait`, which is from the end of a step to the begin of the next."""

    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {"batch": [], "wait": [], "step": [], "callbacks": []}
    )

    def table(self) -> list[tuple[str, float, float]]:
        """Each part with the median and the 95th percentile of its milliseconds a step."""
        return [
            (part, 1000 * float(np.median(values)), 1000 * float(np.percentile(values, 95)))
            for part, values in self.seconds.items()
        ]


def profile_strategy(strategy: OpenedStrategy, backend: str, trace: Path, clock: Clock) -> OpenedStrategy:
    """`strategy` with Keras' own fit, a call a step, that runs `clock` for TIMED_STEPS, writes a trace of TRACED_STEPS
    into the folder `trace`, and then raises StoppedError. Each is after WARM_STEPS."""

    def fit(model: keras.Sequential, batches: Callable[[], Iterator[Any]], **options: Any) -> None:
        with ExitStack() as traced:
            steps = _Steps(clock, lambda: traced.enter_context(TRACES[backend](trace)), traced.close)
            callbacks = [_Begin(steps), *options.pop("callbacks"), _End(steps)]
            strategy.fit(model, lambda: _timed(batches(), clock), callbacks=callbacks, **options)

    return replace(strategy, fit=fit, fused=False, looped=False)


def _timed(batches: Iterator[Any], clock: Clock) -> Iterator[Any]:
    while True:
        began = time.perf_counter()
        batch = next(batches)
        clock.seconds["batch"].append(time.perf_counter() - began)
        yield batch


class _Steps:
    """Where the training stands, by what its callbacks say."""

    def __init__(self, clock: Clock, start: Callable[[], Mark], stop: Callable[[], None]) -> None:
        self.clock, self.start, self.stop = clock, start, stop
        self.done = 0
        self.begun: float | None = None
        self.ended = self.computed = time.perf_counter()
        self.mark: Mark | None = None
        self.marked = ExitStack()

    def begin_epoch(self) -> None:
        self.ended = time.perf_counter()  # what is between two epochs is no wait for a batch

    def begin(self) -> None:
        self.begun = time.perf_counter()

    def compute(self, loss: Any) -> None:
        float(loss)  # waits for the device, which works on after Keras has asked it to
        self.computed = time.perf_counter()

    def end(self) -> None:
        now = time.perf_counter()
        if WARM_STEPS <= self.done < WARM_STEPS + TIMED_STEPS:
            begun = self.begun or self.ended
            parts = {"wait": begun - self.ended, "step": self.computed - begun, "callbacks": now - self.computed}
            for part, seconds in parts.items():
                self.clock.seconds[part].append(seconds)
        self.done += 1
        self.marked.close()
        if self.done == STEPS:
            self.stop()
            raise StoppedError("profiled")
        if self.done == WARM_STEPS + TIMED_STEPS:
            self.mark = self.start()
        if self.mark:
            self.marked.enter_context(self.mark(self.done + 1))
        self.begun, self.ended = None, time.perf_counter()


class _Begin(keras.callbacks.Callback):  # type: ignore[misc]
    """Before all other callbacks."""

    def __init__(self, steps: _Steps) -> None:
        super().__init__()
        self.steps = steps

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.steps.begin_epoch()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.steps.begin()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.compute(logs["loss"])


class _End(keras.callbacks.Callback):  # type: ignore[misc]
    """After all other callbacks."""

    def __init__(self, steps: _Steps) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.end()


@contextmanager
def _tensorflow(folder: Path) -> Iterator[Mark]:
    import tensorflow as tf

    with tf.profiler.experimental.Profile(str(folder)):
        yield lambda step: tf.profiler.experimental.Trace("train", step_num=step, _r=1)


@contextmanager
def _jax(folder: Path) -> Iterator[Mark]:
    import jax

    with jax.profiler.trace(str(folder)):
        yield lambda step: jax.profiler.StepTraceAnnotation("train", step_num=step)


@contextmanager
def _torch(folder: Path) -> Iterator[Mark]:
    import torch

    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it tells when it starts and stops
    with torch.profiler.profile(on_trace_ready=torch.profiler.tensorboard_trace_handler(str(folder))):
        yield lambda step: torch.profiler.record_function(f"ProfilerStep#{step}")


TRACES: dict[str, Callable[[Path], AbstractContextManager[Mark]]] = {
    "tensorflow": _tensorflow,
    "jax": _jax,
    "torch": _torch,
}
