import inspect
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import small
from keras_pipeline.config import layers
from keras_pipeline.config.optimizers import _ANY_OPTIMIZER, MUON, OPTIMIZERS, AnyOptimizer, Optimizer
from keras_pipeline.config.params import Schedule, Train
from keras_pipeline.distribution import strategies

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


def test_each_refuses_what_is_not_its_own_or_out_of_range() -> None:
    for name in OPTIMIZERS:
        with pytest.raises(ValidationError, match="extra_forbidden"):
            validated(name, unheard_of=1)
        with pytest.raises(ValidationError, match="less than or equal to 1"):
            validated(name, weight_decay=1.5)
        for argument in OPTIMIZERS[name]:
            with pytest.raises(ValidationError):
                validated(name, **{argument: "text"})
            with pytest.raises(ValidationError):
                validated(name, **{argument: None})
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        validated("adm")


@pytest.mark.slow
def test_every_optimizer_of_keras_has_a_row_and_no_other() -> None:
    import keras

    classes = [kind for kind in vars(keras.optimizers).values() if inspect.isclass(kind)]
    assert all(issubclass(kind, keras.optimizers.Optimizer) for kind in classes if kind.__name__ != "OptimizerMap")
    assert {kind.__name__.lower() for kind in classes if kind.__name__ not in WITHOUT_A_NAME} == set(OPTIMIZERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_has_the_arguments_of_its_class(name: str) -> None:
    kind = type(made(validated(name)))
    assert kind.__name__.lower() == name
    theirs = set(inspect.signature(kind).parameters) - NOT_ARGUMENTS
    assert set(default_arguments(name)) == theirs


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_left_out_is_keras_default(name: str) -> None:
    optimizer = made(validated(name))
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
    assert optimizer.get_config() == type(optimizer)(learning_rate=0.1, name=optimizer.name).get_config()
    assert name != "muon" or {key: optimizer.get_config()[key] for key in MUON} == MUON


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_the_check_lets_through_keras_takes_at_the_edges_of_each_range_and_in_pairs(name: str) -> None:
    for argument, kind in default_arguments(name).items():
        for value in edges(kind):
            optimizer = accepted(name, {argument: value})
            assert steps(made(optimizer)) if optimizer else name == "muon", (argument, value)
    for arguments in covering(name):
        steps(made(validated(name, **arguments)))  # together extremes may grow without end; Keras must take them


@pytest.mark.parametrize("one", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_gradients_are_clipped_in_one_way(one: str) -> None:
    for other in {"clipnorm", "clipvalue", "global_clipnorm"} - {one}:
        with pytest.raises(ValidationError, match="Keep one of clipnorm, clipvalue, global_clipnorm"):
            validated("adam", **{one: 1.0, other: 1.0})


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_that_an_optimizer_keeps_is_in_its_state(name: str, precision: str) -> None:
    import keras

    from keras_pipeline.training import state

    model = compiled(validated(name, use_ema=True, gradient_accumulation_steps=2), precision)
    batch = np.ones((1, 3), np.float32), np.ones((1, 2), np.float32), np.ones(1, np.float32)
    state.make_variables(model, strategies.Distribution("none", ("/cpu:0",)), batch)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    assert (optimizer is not model.optimizer) == (precision == "mixed_float16")
    known = {id(one) for one in [*model.optimizer.variables, *model.trainable_variables]}
    for attribute, value in vars(optimizer).items():
        for one in value if isinstance(value, list | tuple) else [value]:
            assert not isinstance(one, keras.Variable) or id(one) in known, attribute


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_the_learning_rate_of_then_is_that_of_the_schedule(precision: str) -> None:
    from keras_pipeline.training.compilation import learning_rate_then

    model = compiled(validated("sgd", gradient_accumulation_steps=2), precision, "exponential")
    rates = []
    for _ in range(3):
        rates.append(float(model.optimizer.learning_rate))
        model.optimizer.apply([np.zeros((3, 2), np.float32), np.zeros(2, np.float32)], model.trainable_variables)
    assert rates == pytest.approx([0.1 * 0.5 ** (step / 10) for step in range(3)])
    assert [learning_rate_then(model.optimizer, 3 - step) for step in range(3)] == pytest.approx(rates)


@pytest.mark.slow
def test_activations_are_those_of_keras() -> None:
    import keras

    for name in get_args(layers.Activation):
        assert callable(getattr(keras.activations, name))
        assert keras.activations.serialize(keras.activations.get(name)) == name
