"""The table of optimizers against Keras' classes."""

import inspect
from typing import Any

import pytest

from keras_pipeline.config.optimizers import MUON, OPTIMIZERS
from validated_optimizers import accepted, default_arguments, edges, made, steps, validated

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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_the_check_lets_through_keras_takes_at_the_edges_of_each_range(name: str) -> None:
    """Of all pairs of edges see tests/proofs."""
    for argument, kind in default_arguments(name).items():
        for value in edges(kind):
            optimizer = accepted(name, {argument: value})
            assert steps(made(optimizer)) if optimizer else name == "muon", (argument, value)
