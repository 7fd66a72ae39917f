"""The numbers of a classifier against Keras', and the bootstrap."""

import numpy as np
import pytest

from class_scores import CROSSENTROPY, QUADRATIC_LOSSES, score
from keras_pipeline.evaluation import multiclass

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scale", [0.3, 3.0])
@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        ("softmax", CROSSENTROPY),
        *((activation, loss) for activation in ("softmax", "sigmoid") for loss in QUADRATIC_LOSSES),
    ],
)
def test_loss_equals_what_keras_evaluates(activation, scale, loss):
    import keras

    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense(
        10,
        activation,
        kernel_initializer=keras.initializers.RandomNormal(stddev=scale),
        kernel_regularizer=keras.regularizers.L2(1e-3),
    )
    model = keras.Sequential([keras.Input((8,)), dense])
    model.compile(loss=loss, metrics=["accuracy"])
    generator = np.random.default_rng(0)
    images = generator.normal(size=(300, 8)).astype(np.float32)
    labels = generator.integers(0, 10, 300)
    expected = model.evaluate(images, np.eye(10)[labels], batch_size=64, verbose=0, return_dict=True)
    outputs, penalty = model.predict(images, verbose=0), float(sum(model.losses))
    values = score(outputs, labels, loss, penalty)
    assert values["test/loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert values["test/accuracy"] == pytest.approx(expected["accuracy"], rel=1e-6)


def test_bootstrap_computes_what_the_stock_functions_do():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 4, (2, 60, 5))  # five images, so that most draws lack a class
    matrices = [multiclass.confusion_matrix(*pair, 4) for pair in zip(labels, predicted, strict=True)]
    averages = multiclass._macro_averages(np.array(matrices))
    for index, (true, guess) in enumerate(zip(labels, predicted, strict=True)):
        values = score(np.eye(4, dtype=np.float32)[guess], true)
        for name, column in averages.items():
            assert column[index] == pytest.approx(values[f"test/{name}"], rel=1e-12), name
