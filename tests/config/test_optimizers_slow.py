"""The table of optimizers against Keras' classes."""

import inspect
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from keras_pipeline.config.optimizers import _ANY_OPTIMIZER, MUON, OPTIMIZERS, Optimizer
from validated_optimizers import compiled, validated

pytestmark = pytest.mark.slow

WITHOUT_A_NAME = {"LossScaleOptimizer", "MultiOptimizer", "OptimizerMap", "Optimizer"}
"""Wrappers around other optimizers and their base, which params.yaml cannot name."""
NOT_ARGUMENTS = {"self", "name", "learning_rate", "exclude_layers", "kwargs"}
"""`exclude_layers` of Muon: patterns of the names of layers, which params.yaml does not give."""
OUT_OF_THE_ORDINARY: dict[str, Any] = {
    "ema_overwrite_frequency": 5,
    "gradient_accumulation_steps": 2,
    "beta_2_decay": -0.5,
    "learning_rate_power": -0.25,
    "warmup_steps": 3,
    "ns_steps": 2,
}


def made(optimizer: Optimizer) -> Any:
    """The Keras optimizer that training gives a network."""
    return compiled(optimizer).optimizer


def default_arguments(name: str) -> dict[str, Any]:
    return {**OPTIMIZERS[name], **_ANY_OPTIMIZER}


def test_every_optimizer_of_keras_has_a_row_and_no_other() -> None:
    import keras

    classes = [kind for kind in vars(keras.optimizers).values() if inspect.isclass(kind)]
    assert all(issubclass(kind, keras.optimizers.Optimizer) for kind in classes if kind.__name__ != "OptimizerMap")
    assert {kind.__name__.lower() for kind in classes if kind.__name__ not in WITHOUT_A_NAME} == set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_has_the_arguments_of_its_class(name: str) -> None:
    kind = type(made(validated(name)))
    assert kind.__name__.lower() == name
    theirs = set(inspect.signature(kind).parameters) - NOT_ARGUMENTS
    assert set(default_arguments(name)) == theirs


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_left_out_is_keras_default(name: str) -> None:
    optimizer = made(validated(name))
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
    assert optimizer.get_config() == type(optimizer)(learning_rate=0.1, name=optimizer.name).get_config()
    assert name != "muon" or {key: optimizer.get_config()[key] for key in MUON} == MUON


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clipping", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_what_is_given_reaches_keras(name: str, clipping: str) -> None:
    given = {}
    for argument, kind in default_arguments(name).items():
        if "clip" not in argument or argument in (clipping, "clip_threshold"):  # Keras takes one clipping at a time
            given[argument] = True if kind is bool else OUT_OF_THE_ORDINARY.get(argument, 0.25)
    optimizer = validated(name, **given)
    assert optimizer.arguments() == given
    config = made(optimizer).get_config()
    for argument, value in given.items():
        assert config[argument] == pytest.approx(value), argument


def edges(kind: Any) -> list[Any]:
    """The least and the largest value of an argument's range."""
    if kind is bool:
        return [False, True]
    schema = TypeAdapter(kind).json_schema()
    least, largest = schema.get("minimum"), schema.get("maximum")
    if least is None:
        least = math.nextafter(schema["exclusiveMinimum"], math.inf)
    if largest is None:
        largest = math.nextafter(schema["exclusiveMaximum"], -math.inf)
    return [least, largest]


def accepted(name: str, arguments: dict[str, Any]) -> Optimizer | None:
    try:
        return validated(name, **arguments)
    except ValidationError:
        return None


def covering(name: str) -> Iterator[dict[str, Any]]:
    """Arguments at edges of their ranges, as many together as the check lets through, until every pair of two edges
    that it lets through was in one."""
    ranges = {argument: edges(kind) for argument, kind in default_arguments(name).items()}
    wanted = [
        {one: first, other: second}
        for one, other in itertools.combinations(ranges, 2)
        for first, second in itertools.product(ranges[one], ranges[other])
    ]
    draw = random.Random(name)
    while wanted:
        chosen = wanted[0]
        if accepted(name, chosen):
            for argument in draw.sample(sorted(ranges), len(ranges)):
                more = {argument: draw.choice(ranges[argument]), **chosen}
                chosen = more if accepted(name, more) else chosen
            yield chosen
        wanted = [pair for pair in wanted[1:] if not pair.items() <= chosen.items()]


def steps(optimizer: Any) -> bool:
    """Take three steps as training does; whether all weights are finite then."""
    import keras

    weights = [
        keras.Variable(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)),
        keras.Variable(np.zeros(4, np.float32)),
    ]
    optimizer.build(weights)
    for step in range(1, 4):
        optimizer.scale_loss(1.0)
        optimizer.apply([keras.ops.ones((3, 4)) * step, keras.ops.ones(4) / step], weights)
    optimizer.finalize_variable_values(weights)
    return all(np.isfinite(keras.ops.convert_to_numpy(one)).all() for one in weights)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_the_check_lets_through_keras_takes_at_the_edges_of_each_range_and_in_pairs(name: str) -> None:
    for argument, kind in default_arguments(name).items():
        for value in edges(kind):
            optimizer = accepted(name, {argument: value})
            assert steps(made(optimizer)) if optimizer else name == "muon", (argument, value)
    for arguments in covering(name):
        steps(made(validated(name, **arguments)))  # together extremes may grow without end; Keras must take them
