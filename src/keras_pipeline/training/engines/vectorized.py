"""Several variants of one training at once, on JAX: one program whose every array has one more axis, the variants'.

Networks of the same shapes differ in numbers alone: first weights, batch order, Dropout's generators, and the values of
the learning rate, Dropout's rates and the L2 factors. So Keras' own training step is traced once, with those numbers as
inputs, and `jax.vmap` makes of it the step of all.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_pipeline.distribution import fit_loop
from keras_pipeline.training import state
from keras_pipeline.training.batches import batch_order
from keras_pipeline.training.compilation import learning_rate
from keras_pipeline.training.engines import fused, fused_jax
from keras_pipeline.training.fit import NotFiniteError, Progress, TrainingCallback
from keras_pipeline.training.recorded_training import RecordedTraining

Numbers = dict[str, Any]
MOST_FACTORS = 2**26
"""How many numbers of deformations are drawn ahead, for the steps of one program and all variants."""


class Lane:
    """One variant's training among the others: its network, its epochs in `progress`, and `fault` if it diverged."""

    def __init__(self, training: RecordedTraining) -> None:
        self.training, self.model, self.data = training, training.model, training.data
        self.fault: NotFiniteError | None = None
        self.progress = Progress(history=training.run["history"])
        self.order = np.empty(0, np.int32)
        state.make_variables(self.model, training.strategy, self.data.validation_batches(training.strategy)[0])
        self.groups = fused_jax.state_groups(self.model)
        unkept = training.changed(training.strategy, checkpoint_steps=0)
        self.callback = TrainingCallback(unkept, self.progress, quiet=True)
        self.callback.set_model(self.model)
        self.callback.set_params({"steps": self.data.steps})

    @property
    def open(self) -> bool:
        """Whether it still trains."""
        return self.fault is None and not self.model.stop_training

    def numbers(self) -> Numbers:
        """What makes this variant's network another than that of the same shapes."""
        return {
            "rate": np.float32(self.training.params.train.optimizer.learning_rate),
            "kept": [np.float32(1 - layer.rate) for layer in _dropouts(self.model)],
            "l2": [np.float32(one.l2) for one in _regularizers(self.model)],
        }


def fit_together(trainings: Sequence[RecordedTraining], report_progress: Callable[[int, int], None]) -> list[Lane]:
    """Train variants whose networks have the same shapes, and whose params are the same but for seed, learning rate,
    Dropout's rates and L2 factors (none of these 0 in one and not in another).

    Batches, masks, metrics, schedules and early stopping are those of each variant's training alone. A variant that
    ends early, or diverges, keeps what it was then, while the others go on. `report_progress(epoch, step)`, both
    counted from 1, is called at least every half second.
    """
    lanes = [Lane(one) for one in trainings]
    data, train = lanes[0].data, trainings[0].params.train
    size, count = data.batch_size, len(data.training.targets)
    whole = count // size
    terms = len(data.deformation.terms) if data.deformation else 0
    together = max(1, min(fused.MOST_STEPS, whole, MOST_FACTORS // max(1, len(lanes) * size * 2 * terms)))
    compute, validate = _programs(lanes)
    for lane in lanes:
        lane.model.stop_training = False
        lane.callback.on_train_begin()
        if lane is not lanes[0]:
            lane.callback.compiling_since = None  # they compile together, which is told once
    pace = 1
    for epoch in range(train.epochs):
        if not any(lane.open for lane in lanes):
            break
        for lane in lanes:
            lane.order = batch_order(count, lane.data.seed, epoch).astype(np.int32)
            lane.model.reset_metrics()
            if lane.open:
                lane.callback.on_epoch_begin(epoch)
        state = _stacked(lanes)
        step = 0
        while step < data.steps:
            began = time.perf_counter()
            steps = 1 if step == whole else min(together, pace, whole - step)
            length = size if step < whole else count - whole * size
            shape = (together if step < whole else 1, length)
            images = np.zeros((len(lanes), *shape), np.int32)
            for images_of, lane in zip(images, lanes, strict=True):
                images_of[:steps] = lane.order[step * size :][: steps * length].reshape(steps, length)
            factors = np.stack([fused.draw_deformations(lane.data, epoch, step, steps, shape) for lane in lanes])
            state, losses = compute(state, images, factors, steps)
            step += steps
            _look(lanes, state, losses, step)
            pace = max(1, int(fit_loop.LONGEST * steps / (time.perf_counter() - began)))
            report_progress(epoch + 1, step)
        _take(lanes, state)
        results = [lane.model.get_metrics_result() for lane in lanes]
        for lane in lanes:
            lane.model.reset_metrics()
        _take(lanes, validate(_stacked(lanes)))
        for lane, result in zip(lanes, results, strict=True):
            _epoch_ends(lane, epoch, result)
    for lane in lanes:
        if lane.fault is None:
            lane.model.optimizer.finalize_variable_values(lane.model.trainable_weights)
            lane.callback.finish(lane.model)
    return lanes


def _look(lanes: Sequence[Lane], state: Any, losses: NDArray[np.float32], step: int) -> None:
    """Let each variant's callback look at its losses since it looked last: float32 (variants, steps)."""
    for number, (lane, own) in enumerate(zip(lanes, losses, strict=True)):
        if not lane.open:
            continue
        if not np.isfinite(own).all():  # the fault is told with the learning rate, which is in the state
            fused_jax.assign_values(lane.groups, jax.tree.map(lambda value: value[number], state))  # noqa: B023
        try:
            lane.callback.on_train_batch_end(step - 1, {"loss": own[-1], "losses": own})
        except NotFiniteError as fault:
            lane.fault = fault


def _epoch_ends(lane: Lane, epoch: int, result: dict[str, Any]) -> None:
    if not lane.open:
        return
    logs = {name: float(value) for name, value in result.items()}
    logs |= {f"val_{name}": float(value) for name, value in lane.model.get_metrics_result().items()}
    try:
        lane.callback.on_epoch_end(epoch, logs)
    except NotFiniteError as fault:
        lane.fault = fault


def _programs(lanes: Sequence[Lane]) -> tuple[Callable[..., Any], Callable[[Any], Any]]:
    """Some steps of all variants from their stacked states, and the update of their metrics by the validation split."""
    first, data = lanes[0], lanes[0].data
    model, train = first.model, first.training.params.train
    images = jnp.asarray(data.training.scaled())
    targets = jnp.asarray(data.targets(data.training.targets))
    weights = jnp.asarray(data.training_weights())
    validation_batches = [jnp.asarray(array) for array in data.validation_batches(first.training.strategy).arrays()]
    deform = data.deformation.apply if data.deformation else lambda images, factors: images
    numbers = jax.tree.map(lambda *one: jnp.stack(one), *[lane.numbers() for lane in lanes])

    def of_one(state: Any, numbers: Numbers, chosen: Any, factors: Any, count: Any, images: Any, *rest: Any) -> Any:
        targets, weights = rest

        def step(number: Any, carried: Any) -> Any:
            state, losses = carried
            rows = chosen[number]
            seen = deform(images[rows], factors[number])
            batch = seen, targets[rows], weights[rows] / chosen.shape[1]
            logs, state = model.train_step(state, batch)
            return state, losses.at[number].set(logs["loss"])

        with _given(model, numbers, lambda rate: learning_rate(train.schedule, rate, train.epochs, data.steps)):
            return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(len(chosen))))

    every = jax.vmap(of_one, in_axes=(0, 0, 0, 0, None, None, None, None))
    compiled = jax.jit(every, donate_argnums=0)

    def tested(state: Any, numbers: Numbers, batch: Any) -> Any:
        trainable, others, optimizer, metrics = state
        with _given(model, numbers, None):
            _, (trainable, others, metrics) = model.test_step((trainable, others, metrics), batch)
        return trainable, others, optimizer, metrics

    test = jax.jit(jax.vmap(tested, in_axes=(0, 0, None)), donate_argnums=0)

    def compute(state: Any, chosen: NDArray[np.int32], factors: NDArray[np.float32], count: int) -> Any:
        state, losses = compiled(
            state, numbers, jnp.asarray(chosen), jnp.asarray(factors), count, images, targets, weights
        )
        return state, np.array(losses)[:, :count]

    def validate(state: Any) -> Any:
        for start in range(0, len(validation_batches[0]), data.validation_batch):
            state = test(
                state, numbers, tuple(array[start : start + data.validation_batch] for array in validation_batches)
            )
        return state

    return compute, validate


@contextmanager
def _given(model: keras.Sequential, numbers: Numbers, schedule: Callable[[Any], Any] | None) -> Iterator[None]:
    """Let the network compute with one variant's numbers, while it is traced."""
    dropouts, regularizers = _dropouts(model), _regularizers(model)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    scheduled = isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule)
    before = optimizer._learning_rate, [one.l2 for one in regularizers]
    for layer, kept in zip(dropouts, numbers["kept"], strict=True):
        layer.call = _dropping(layer, kept)
    for one, factor in zip(regularizers, numbers["l2"], strict=True):
        one.l2 = factor
    if scheduled and schedule:  # else the rate is a variable of the optimizer, in its state
        optimizer._learning_rate = schedule(numbers["rate"])
    try:
        yield
    finally:
        for layer in dropouts:
            del layer.call
        for one, factor in zip(regularizers, before[1], strict=True):
            one.l2 = factor
        if scheduled:
            optimizer._learning_rate = before[0]


def _dropping(layer: keras.layers.Dropout, kept: Any) -> Callable[..., Any]:
    """Keras' Dropout, with the share that is kept a number that is not known yet."""

    def call(inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        mask = keras.random.uniform(inputs.shape, dtype="float32", seed=layer.seed_generator) < kept
        return ops.where(mask, inputs / ops.cast(kept, inputs.dtype), ops.zeros_like(inputs))

    return call


def _dropouts(model: keras.Sequential) -> list[keras.layers.Dropout]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout) and layer.rate]


def _regularizers(model: keras.Sequential) -> list[Any]:
    return [one for layer in model.layers if (one := getattr(layer, "kernel_regularizer", None))]


def _stacked(lanes: Sequence[Lane]) -> Any:
    return jax.tree.map(lambda *one: jnp.stack(one), *[fused_jax.read_values(lane.groups) for lane in lanes])


def _take(lanes: Sequence[Lane], state: Any) -> None:
    """Put the stacked state into the networks of those that still train."""
    for number, lane in enumerate(lanes):
        if lane.open:
            fused_jax.assign_values(lane.groups, jax.tree.map(lambda value: value[number], state))  # noqa: B023
