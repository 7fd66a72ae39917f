"""The state of a training holds all that its optimizer keeps."""

import numpy as np
import pytest

from keras_pipeline.config.optimizers import OPTIMIZERS
from keras_pipeline.distribution import strategies
from validated_optimizers import compiled, validated

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_that_an_optimizer_keeps_is_in_its_state(name: str, precision: str) -> None:
    import keras

    from keras_pipeline.training import state

    model = compiled(validated(name, use_ema=True, gradient_accumulation_steps=2), precision)
    batch = np.ones((1, 3), np.float32), np.ones((1, 2), np.float32), np.ones(1, np.float32)
    state.make_variables(model, strategies.OpenedStrategy("none", ("/cpu:0",)), batch)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    assert (optimizer is not model.optimizer) == (precision == "mixed_float16")
    known = {id(one) for one in [*model.optimizer.variables, *model.trainable_variables]}
    for attribute, value in vars(optimizer).items():
        for one in value if isinstance(value, list | tuple) else [value]:
            assert not isinstance(one, keras.Variable) or id(one) in known, attribute
