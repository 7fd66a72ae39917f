"""Many steps as one program, on JAX: Keras' own steps inside a loop, over arrays on the device."""

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from numpy.typing import NDArray

from keras_pipeline.distribution.fit_loop import Compute, Validate
from keras_pipeline.training.batches import Batch, Data


def build_program(model: keras.Sequential, data: Data, validation_batches: Batch) -> tuple[Compute, Validate]:
    """As `fused_tensorflow.build_program`; Dropout's masks are Keras' own, which JAX computes as fast as the rest."""
    images = jnp.asarray(data.training.scaled())
    targets = jnp.asarray(data.targets(data.training.targets))
    weights = jnp.asarray(data.training_weights())
    validation = [jnp.asarray(array) for array in validation_batches]
    deform = data.deformation.apply if data.deformation else lambda images, factors: images
    groups = state_groups(model)
    tested = [groups[0], groups[1], groups[3]]

    def train(state: Any, images: Any, targets: Any, weights: Any, chosen: Any, factors: Any, count: Any) -> Any:
        def step(number: Any, carried: Any) -> Any:
            state, losses = carried
            own = chosen[number]
            batch = deform(images[own], factors[number]), targets[own], weights[own] / chosen.shape[1]
            logs, state = model.train_step(state, batch)
            return state, losses.at[number].set(logs["loss"])

        return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(len(chosen))))

    fused = jax.jit(train, donate_argnums=0)
    test = jax.jit(lambda state, batch: model.test_step(state, batch)[1])

    def compute(chosen: NDArray[np.int32], factors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        state, losses = fused(
            read_values(groups), images, targets, weights, jnp.asarray(chosen), jnp.asarray(factors), count
        )
        assign_values(groups, state)
        return np.array(losses)[:count]

    def validate() -> None:
        for start in range(0, len(validation_batches[0]), data.validation_batch):
            batch = tuple(array[start : start + data.validation_batch] for array in validation)
            assign_values(tested, test(read_values(tested), batch))

    return compute, validate


def state_groups(model: keras.Sequential) -> list[list[Any]]:
    """The variables of a compiled network as Keras' step on JAX takes and gives them: trainable, others, the
    optimizer's, the metrics'."""
    return [
        model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables,
    ]  # fmt: skip


def read_values(groups: list[list[Any]]) -> tuple[list[Any], ...]:
    """What is in the variables."""
    return tuple([one.value for one in group] for group in groups)


def assign_values(groups: list[list[Any]], state: Any) -> None:
    """Put such values back."""
    for group, own in zip(groups, state, strict=True):
        for variable, value in zip(group, own, strict=True):
            variable.assign(value)
