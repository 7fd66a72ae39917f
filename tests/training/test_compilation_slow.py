"""First weights and learning rates, against Keras and their formulas."""

from typing import Any

import numpy as np
import pytest

import small
from validated_optimizers import compiled, validated

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("layer", ["Dense", "Conv2D"])
def test_the_first_weights_are_glorot_s(layer: str) -> None:
    """Against Keras' own initializer: the same limits and spread; biases 0, scales 1."""
    import keras

    from keras_pipeline.training import compilation

    shape = (200, 300) if layer == "Dense" else (3, 3, 64, 128)
    made = keras.layers.Dense(300) if layer == "Dense" else keras.layers.Conv2D(128, 3)
    model = keras.Sequential(
        [keras.Input((200,) if layer == "Dense" else (9, 9, 64)), made, keras.layers.BatchNormalization()]
    )
    compilation.draw_weights(model, seed=3)
    stock = np.asarray(keras.initializers.GlorotUniform(seed=1)(shape))
    drawn = made.get_weights()[0]
    assert drawn.shape == shape
    assert abs(drawn).max() == pytest.approx(abs(stock).max(), rel=1e-2)
    assert drawn.std() == pytest.approx(stock.std(), rel=1e-2)
    assert abs(drawn.mean()) < 1e-3
    assert not made.get_weights()[1].any()
    again = made.get_weights()[0].copy()
    compilation.draw_weights(model, seed=3)
    np.testing.assert_array_equal(made.get_weights()[0], again)
    compilation.draw_weights(model, seed=4)
    assert (made.get_weights()[0] != again).mean() > 0.99


def test_schedules_follow_their_formulas() -> None:
    from keras_pipeline.training.compilation import learning_rate

    def rates(epochs: int = 10, **changes: Any) -> list[float]:
        schedule = small.params(
            {f"train.schedule.{key}": value for key, value in changes.items()} | {"train.epochs": 10}
        )
        rate = learning_rate(schedule.train.schedule, 0.4, epochs, steps=5)
        return [float(rate(step)) for step in range(51)] if callable(rate) else [rate] * 51

    steps = np.arange(51)
    cosine = 0.4 * 0.5 * (1 + np.cos(np.pi * (steps - 10) / 40))
    warm = np.where(steps < 10, 0.4 * steps / 10, cosine)
    np.testing.assert_allclose(rates(name="cosine", warmup_epochs=2), warm, atol=1e-7)
    whole = 0.4 * 0.5 * (1 + np.cos(np.pi * steps / 50))
    np.testing.assert_allclose(rates(name="cosine", warmup_epochs=0), whole, atol=1e-7)
    np.testing.assert_allclose(rates(name="exponential", decay_rate=0.5), 0.4 * 0.5 ** (steps / 5), rtol=1e-6)
    assert set(rates(name="constant")) == {0.4}
