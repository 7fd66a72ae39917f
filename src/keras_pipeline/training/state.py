"""The state of a training: every number of its network, optimizer, metrics and random generators."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_pipeline.distribution.strategies import OpenedStrategy
from keras_pipeline.training.batches import Batch, Data

TrainingState = dict[str, NDArray[Any]]


def make_variables(model: keras.Sequential, strategy: OpenedStrategy, batch: Batch) -> None:
    """Make the variables of optimizer and metrics, which Keras makes at their first use: a state can then be put in,
    and a replica, which must not make any, finds them."""
    images, targets, weights = (array[:1] for array in batch)
    with strategy.scope():
        # An optimizer that Keras puts inside another, to scale the loss, is built first: else what it makes by itself,
        # such as Nadam's product, is not among the variables, and JAX forgets it after each step.
        getattr(model.optimizer, "inner_optimizer", model.optimizer).build(model.trainable_variables)
        model.optimizer.build(model.trainable_variables)
        model.compute_metrics(images, targets, targets, weights)


def first_state(model: keras.Sequential, strategy: OpenedStrategy, data: Data) -> TrainingState:
    """The state of a network that was compiled and not trained yet, to begin from it again."""
    make_variables(model, strategy, data.validation_batches(strategy)[0])
    strategy.spread_noise(model)
    return state_of(model, strategy)


def state_of(model: keras.Sequential, strategy: OpenedStrategy) -> TrainingState:
    """Every number that a training needs to go on: weights, optimizer, metrics, and the state of random generators.

    Most are the same on all replicas; those of which each has its own stand stacked, replicas first, under "own/".
    """
    shared, own = _variables(model, strategy, metrics=True)
    # A copy: on some backends the array is a view of memory that the next step changes.
    state = {name: np.array(keras.ops.convert_to_numpy(one)) for name, one in shared.items()}
    return state | dict(zip(own, strategy.gather(list(own.values())), strict=True))


def put_state(model: keras.Sequential, state: TrainingState, strategy: OpenedStrategy, *, metrics: bool) -> None:
    """Put back what `state_of` gave; `metrics`: also the means over the epoch so far."""
    shared, own = _variables(model, strategy, metrics)
    for name, variable in shared.items():
        variable.assign(state[name])
    strategy.scatter(list(own.values()), [state[name] for name in own])


def _variables(
    model: keras.Sequential, strategy: OpenedStrategy, metrics: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What all replicas share, and of what each has its own."""
    statistics = {id(weight) for weight in model.non_trainable_weights} if strategy.own_statistics else set()
    shared = {
        "trainable": model.trainable_variables,
        "other": [one for one in model.non_trainable_variables if id(one) not in statistics],
        "optimizer": model.optimizer.variables,
    }
    own = {
        "own/statistics": [one for one in model.non_trainable_variables if id(one) in statistics],
        "own/metrics": model.metrics_variables if metrics else [],
    }
    return _numbered(shared), _numbered(own)


def _numbered(groups: dict[str, list[Any]]) -> dict[str, Any]:
    return {f"{group}/{number:04}": one for group, variables in groups.items() for number, one in enumerate(variables)}
