"""One harness for every architecture: built, trained for a step, saved, loaded; the same from the same seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.config import layers
from keras_pipeline.models import architectures
from small import IMAGE_SHAPE

pytestmark = pytest.mark.slow

LAYERS = [
    {"layer": "Conv2D", "filters": 4, "kernel_size": 3, "l2": 0.01},
    {"layer": "BatchNormalization"},
    {"layer": "Activation", "activation": "tanh"},
    {"layer": "AveragePooling2D"},
    {"layer": "Dropout", "rate": 0.2},
    {"layer": "GlobalAveragePooling2D"},
    {"layer": "Dense", "units": 6, "activation": "gelu"},
]
CASES: list[dict[str, Any]] = [
    {"model.architecture": "softmax_regression"},
    {"model.architecture": "mlp"},
    {"model.architecture": "mlp", "model.hidden_units": [], "train.precision": "mixed_bfloat16"},
    {"model.architecture": "mlp", "model.batch_normalization": False, "model.dropout": 0.0, "model.l2": 0.0},
    {"model.architecture": "mlp", "model.output_activation": "sigmoid", "train.loss": "mean_squared_error"},
    {"model.architecture": "cnn", "model.filters": [2, 3, 4, 5]},
    {"model.architecture": "cnn", "model.filters": [2, 3], "model.global_average_pooling": True},
    {"model.architecture": "cnn", "model.filters": [3], "model.batch_normalization": False, "model.activation": "elu"},
    {"model.architecture": "layers", "model.layers": LAYERS},
]


def built(changes: dict[str, Any], seed: int = 1) -> Any:
    from keras_pipeline.models import frameworks

    chosen = small.params(changes)
    frameworks.seed_everything(seed, chosen.train.precision)
    return architectures.build_network(chosen.model, IMAGE_SHAPE, 10), chosen


@pytest.mark.parametrize("changes", CASES, ids=lambda changes: "-".join(map(str, changes.values()))[:50])
def test_every_architecture(changes: dict[str, Any], tmp_path: Path) -> None:
    from keras_pipeline.models import model_file
    from keras_pipeline.training import compilation

    model, chosen = built(changes)
    hidden = architectures.hidden_layers(chosen.model)
    output = layers.Dense(units=10)
    assert model.count_params() == layers.weight_count([*hidden, output], IMAGE_SHAPE)
    assert model.layers[-1].name == "output"
    assert len({layer.name for layer in model.layers}) == len(model.layers)

    images = np.random.default_rng(0).random((20, *IMAGE_SHAPE), np.float32)
    labels = np.eye(10, dtype=np.float32)[np.arange(20) % 10]
    outputs = model.predict(images, verbose=0)
    assert outputs.shape == (20, 10)
    assert outputs.dtype == np.float32
    assert outputs.min() >= 0
    if chosen.model.output_activation == "softmax":
        np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-6)

    again, _ = built(changes)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

    compilation.compile_model(model, chosen.train, steps=4, task_spec=small.TEN_CLASSES)
    before = model.get_weights()
    for _ in range(2):  # the first step of a warm-up has the learning rate 0
        loss, _ = model.train_on_batch(images, labels)
    assert np.isfinite(loss)
    assert any((one != other).any() for one, other in zip(before, model.get_weights(), strict=True))

    trained, _ = built(changes)
    trained.set_weights(model.get_weights())
    model_file.save_network(trained, tmp_path / "model.keras")
    loaded, _ = built(changes, seed=2)
    model_file.load_weights(loaded, tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


def test_another_seed_gives_other_weights() -> None:
    one, other = built({})[0], built({}, seed=2)[0]
    assert (one.get_weights()[0] != other.get_weights()[0]).any()


def test_layer_names_do_not_depend_on_what_was_built_before() -> None:
    names = [[layer.name for layer in built({})[0].layers] for _ in range(2)]
    assert names[0] == names[1]
    assert names[0][:3] == ["flatten_1", "dense_1", "batchnormalization_1"]
