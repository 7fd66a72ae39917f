"""The loss of given logits is what stock Keras evaluates, also where the outputs are rounded to 0 and 1."""

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

PAIRS = (
    ("categorical_crossentropy", "softmax", 10), ("mean_squared_error", "softmax", 10),
    ("mean_absolute_error", "sigmoid", 10), ("binary_crossentropy", "sigmoid", 10),
    ("binary_crossentropy", "sigmoid", 1), ("mean_squared_error", "sigmoid", 1),
    ("mean_squared_error", "linear", 1), ("mean_absolute_error", "linear", 1),
)  # fmt: skip


@pytest.mark.parametrize(("loss", "activation", "outputs"), PAIRS)
def test_the_loss_is_what_keras_evaluates(loss: str, activation: Any, outputs: int) -> None:
    import keras

    from keras_pipeline.models import losses

    random = np.random.default_rng(0)
    images = random.normal(size=(300, 8)).astype(np.float32)
    labels = random.integers(0, max(2, outputs), 300)
    targets = (np.eye(outputs)[labels] if outputs > 1 else labels[:, np.newaxis]).astype(np.float32)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(outputs, activation)])
    weights = random.normal(size=(8, outputs)), random.normal(size=outputs)
    model.compile(loss=loss)
    expected, given = [], []
    for scale in (0.01, 1.0, 1e3, 1e8):
        model.set_weights([scale * one for one in weights])
        expected.append(model.evaluate(images, targets, batch_size=300, verbose=0))
        given.append(model.predict(images, verbose=0))
    network = losses.logits_and_outputs(model)
    for scale, reported, answers in zip((0.01, 1.0, 1e3, 1e8), expected, given, strict=True):
        network.set_weights([scale * one for one in weights])
        logits, answered = network.predict(images, verbose=0)
        np.testing.assert_allclose(answered, answers, rtol=1e-6, atol=1e-9)
        assert losses.loss_of_each(loss, activation, logits, targets).mean() == pytest.approx(reported, rel=2e-6), scale
    assert "crossentropy" not in loss or expected[-1] > 1e6
