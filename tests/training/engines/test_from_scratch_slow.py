"""The network written out in NumPy against TensorFlow's gradients."""

import numpy as np
import pytest

import small
from keras_pipeline.training.engines import from_scratch
from numpy_params import ACTIVATIONS, HEADS, PLAIN

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("loss", "output"), HEADS)
def test_gradients_are_tensorflow_s(loss: str, output: str, activation: str) -> None:
    """Of the network and the losses that the pipeline builds, on a batch of digits-like numbers, in float32."""
    import keras
    import tensorflow as tf

    from keras_pipeline.distribution import strategies
    from keras_pipeline.training import compilation
    from keras_pipeline.training.engines import numpy_engine
    from small import IMAGE_SHAPE

    changes = {"train.loss": loss, "model.output_activation": output, "model.activation": activation}
    chosen = small.params({**PLAIN, **changes, "model.l2": 0.01, "model.hidden_units": [30, 20]})
    place = strategies.OpenedStrategy("none", ("/cpu:0",))
    model = compilation.new_network(chosen.model, chosen.train, 1, place, 10, small.TEN_CLASSES)
    chance = np.random.default_rng(2)
    images = chance.random((50, *IMAGE_SHAPE), np.float32)
    targets = np.eye(10, dtype=np.float32)[chance.integers(10, size=50)]
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        value = model.compute_loss(images, targets, outputs, np.full(50, 1 / 50, np.float32))
    theirs = tape.gradient(value, model.trainable_variables)
    one = numpy_engine._network(model, loss)
    ours, wrong, answers = from_scratch.backpropagation(one, images.reshape(50, -1), targets)
    assert wrong == pytest.approx(float(value), rel=1e-6)
    np.testing.assert_allclose(answers, keras.ops.convert_to_numpy(outputs), rtol=1e-5, atol=1e-7)
    for gradient, other in zip(ours, theirs, strict=True):
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(gradient, other, rtol=0, atol=1e-5 * np.abs(other).max() + 1e-9)
