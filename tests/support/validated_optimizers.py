"""Optimizers as params.yaml gives them, alone and in a compiled network."""

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError

import small
from keras_pipeline.config.optimizers import _ANY_OPTIMIZER, OPTIMIZERS, AnyOptimizer, Optimizer
from keras_pipeline.config.params import Schedule, Train


class Block(BaseModel):
    optimizer: AnyOptimizer


def validated(name: str, **arguments: Any) -> Optimizer:
    """The optimizer as params.yaml's reader validates it."""
    return Block.model_validate({"optimizer": {"name": name, "learning_rate": 0.1, **arguments}}).optimizer


def compiled(optimizer: Optimizer, precision: str = "float32", schedule: Any = "constant") -> Any:
    """A network as training compiles it with this optimizer."""
    import keras

    from keras_pipeline.training import compilation

    keras.config.set_dtype_policy(precision)
    try:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    finally:
        keras.config.set_dtype_policy("float32")
    row = Schedule(name=schedule, warmup_epochs=0, decay_rate=0.5, factor=0.5, patience=1)
    train = Train.model_construct(optimizer=optimizer, schedule=row, loss="mean_squared_error", epochs=1)
    compilation.compile_model(model, train, 10, small.TEN_CLASSES)
    return model


def made(optimizer: Optimizer) -> Any:
    """The Keras optimizer that training gives a network."""
    return compiled(optimizer).optimizer


def default_arguments(name: str) -> dict[str, Any]:
    return {**OPTIMIZERS[name], **_ANY_OPTIMIZER}


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
