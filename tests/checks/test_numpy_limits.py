"""What the NumPy engine does not do is refused."""

from typing import Any

import pytest

import small
from keras_pipeline.checks import numpy_limits
from keras_pipeline.checks.params import CheckedParams
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml import reader
from numpy_params import PLAIN, SGD


def refused(changes: dict[str, Any]) -> list[str]:
    with pytest.raises(ParamsError) as error:
        reader.parse_yaml(small.params_text(changes), "params.yaml", CheckedParams)
    return [line.partition(": ")[2] for line in str(error.value).splitlines()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.architecture": "cnn"}, "model.architecture: cnn {} Use softmax_regression or mlp, or {}"),
        ({"model.activation": "gelu"}, "model.activation: gelu {} Use linear, sigmoid, tanh or relu, or {}"),
        ({"model.dropout": 0.25}, "model.dropout: 0.25 {} Use 0, or {}"),
        ({"model.batch_normalization": True}, "model.batch_normalization: true {} Use false, or {}"),
        ({"train.optimizer": {**SGD, "name": "adam"}}, "train.optimizer.name: adam {} Use sgd, or {}"),
        ({"train.optimizer": {**SGD, "nesterov": True}}, "train.optimizer.nesterov: true {} Use false, or {}"),
        ({"train.optimizer": {**SGD, "clipnorm": 1.0}}, "train.optimizer.clipnorm: 1 {} Take it out, or use {}"),
        ({"train.class_weights": "balanced"}, "train.class_weights: balanced {} Use none, or {}"),
        ({"train.augmentation.elastic": 1.5}, "train.augmentation.elastic: 1.5 {} Use 0, or {}"),
        ({"train.precision": "mixed_float16"}, "train.precision: mixed_float16 {} Use float32, or {}"),
        ({"train.backend": "jax"}, "train.backend: jax {} Use tensorflow, or {}"),
        ({"train.strategy": "mirrored"}, "train.strategy: mirrored {} Use none, or {}"),
        ({"train.device_type": "gpu"}, "train.device_type: gpu {} Use auto or cpu, or {}"),
    ],
)
def test_what_numpy_does_not_do_is_refused(changes: dict[str, Any], message: str) -> None:
    text = message.format("does not work with train.engine: numpy.", "train.engine: keras.")
    assert refused({**PLAIN, **changes})[0] == text
    small.params({**PLAIN, "model.batch_normalization": False, **changes, "train.engine": "keras"})


def test_all_is_refused_at_once_and_with_other_faults() -> None:
    found = refused(
        {
            **PLAIN,
            "model.dropout": 0.5,
            "model.output_activation": "sigmoid",
            "train.optimizer": {**SGD, "nesterov": True, "use_ema": True},
            "train.class_weights": "balanced",
        }
    )
    assert [line.partition(":")[0] for line in found if "." in line.partition(":")[0]] == [
        "model.dropout", "model.output_activation", "train.optimizer.nesterov", "train.optimizer.use_ema",
        "train.class_weights",
    ]  # fmt: skip


def test_what_is_not_used_is_not_refused() -> None:
    small.params(
        {**PLAIN, "model.architecture": "softmax_regression", "model.dropout": 0.5, "model.activation": "gelu"}
    )
    small.params({**PLAIN, "train.optimizer": {**SGD, "momentum": 0.9, "nesterov": False}})
    assert set(numpy_limits.NUMPY_OPTIMIZER) == {"momentum", "nesterov"}
