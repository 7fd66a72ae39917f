"""A network becomes operations that ONNX Runtime and V8 compute to what its layers are defined as."""

import hashlib
import math
import random
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import made_networks
from keras_pipeline.config import layers
from keras_pipeline.config.layers import Activation
from keras_pipeline.config.params import Params
from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.data import encoding
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.export import javascript, onnx_file, operations, runtimes
from made_networks import BINARY, IMAGES, SCALINGS, TABLE, draw_weights, scaled_by
from random_layers import random_layers

FLATTEN, AVERAGE = layers.Flatten(), layers.GlobalAveragePooling2D()
PIXELS = np.random.default_rng(1).integers(0, 256, (7, 28, 28), np.uint8) * (np.indices((28, 28)).sum(axis=0) > 20)
PIXELS = PIXELS.astype(np.uint8)
ROWS = (np.random.default_rng(1).normal(size=(50, 3)) * [30, 0.5, 1000] + [100, -2, 0.1]).astype(np.float32)
COLOURS: dict[str, dict[str, Any]] = {
    name: {
        **IMAGES, "dataset": name, "shape": [17, 12, 3], "class_names": ["a", "b", "c"],
        "input": {"kind": "images", "shape": [17, 12, 3], "dtype": dtype, "low": low, "high": high},
        "scaling": {"name": "unit", "offset": low, "divisor": high - low},
    }
    for name, dtype, low, high in (
        ("colour", "|u1", 0.0, 255.0), ("colour of 12 bits", "<u2", 0.0, 4095.0),
        ("colour of floats", "<f4", -1.0, 1.0),
    )
}  # fmt: skip
COLUMNS: list[Any] = [
    {"name": "age", "kind": "number", "fill": 30.0},
    {"name": "city", "kind": "category", "categories": ["Oslo", "Rome"], "missing": "other"},
]
CATEGORIES: dict[str, Any] = {
    **TABLE, "dataset": "categories", "task": "classes", "class_names": ["a", "b", "c"], "shape": [4], "target": None,
    "input": {
        "kind": "table", "columns": COLUMNS, "target": "y", "missing": "median", "missing_values": [],
        "features": encoding.feature_names(COLUMNS),
    },
    "scaling": {"name": "standard", "offset": [30.0, 0.0, 0.0, 0.0], "divisor": [7.0, 1.0, 1.0, 1.0]},
}  # fmt: skip
VALUES: dict[str, Any] = {"age": np.linspace(1, 90, 40), "city": ["Oslo", "Rome", "Paris", None] * 10}
Case = tuple[Params, dict[str, Any]]


def of_layers(*hidden: Any, task: dict[str, Any] = IMAGES) -> Case:
    return made_networks.params(task, architecture="layers", layers=hidden), task


CASES: dict[str, Case] = {
    "mlp": (made_networks.params(IMAGES), IMAGES),
    "mlp without BatchNormalization": (made_networks.params(IMAGES, batch_normalization=False), IMAGES),
    "softmax regression": (made_networks.params(IMAGES, architecture="softmax_regression"), IMAGES),
    "cnn": (made_networks.params(IMAGES, architecture="cnn", filters=(3, 4, 5), activation="gelu"), IMAGES),
    "cnn of photographs": (
        made_networks.params(COLOURS["colour"], architecture="cnn", filters=(3, 4), global_average_pooling=True),
        COLOURS["colour"],
    ),
    "binary": (made_networks.params(BINARY), BINARY),
    "table": (made_networks.params(TABLE, batch_normalization=False), TABLE),
    "linear": (made_networks.params(TABLE, hidden_units=()), TABLE),
    **{f"scaling {name}": (made_networks.params(IMAGES, hidden_units=(20,)), scaled_by(name)) for name in SCALINGS},
    **{name: of_layers(FLATTEN, layers.Dense(units=9, activation=name)) for name in get_args(Activation)},
    **{
        f"{kind.__name__} {padding} {size} {strides}": of_layers(
            layers.Conv2D(filters=3, kernel_size=2, strides=3, padding=padding),
            kind(pool_size=size, strides=strides, padding=padding),
            layers.BatchNormalization(),
            FLATTEN,
            layers.BatchNormalization(),
        )
        for kind in (layers.MaxPooling2D, layers.AveragePooling2D)
        for padding in ("same", "valid")
        for size, strides in ((2, None), (3, 1), (4, 3))
    },
    "channels last again": of_layers(
        layers.Conv2D(filters=2, kernel_size=9), layers.Activate(activation="tanh"), AVERAGE
    ),
    **{
        name: (made_networks.params(task, architecture="cnn", filters=(3, 4), hidden_units=(8,)), task)
        for name, task in COLOURS.items()
    },
    "categories": (made_networks.params(CATEGORIES), CATEGORIES),
    **{f"random {seed}": of_layers(*random_layers(random.Random(seed))) for seed in range(12)},
}


def raw_inputs(task: dict[str, Any]) -> Any:
    if task["dataset"] in COLOURS:
        given = task["input"]
        drawn = np.random.default_rng(2).uniform(given["low"], given["high"], (9, *task["shape"]))
        return drawn.astype(given["dtype"])
    if task is CATEGORIES:
        return encoding.encode(COLUMNS, VALUES).astype(np.float32)
    return ROWS if task is TABLE else PIXELS


def case(name: str) -> tuple[Params, dict[str, Any], dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Its params and task, weights, raw inputs, and what it answers."""
    chosen, task = CASES[name]
    weights = draw_weights(made_networks.all_layers(chosen, task), task["shape"])
    raw = raw_inputs(task)
    scaled = Scaling(**task["scaling"]).apply(raw[..., np.newaxis] if task["shape"][-1] == 1 else raw)
    return chosen, task, weights, raw, made_networks.answers(chosen, task, weights, scaled)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.mark.parametrize("name", CASES)
def test_onnx_and_javascript_give_what_the_layers_are_defined_as(name: str, folder: Path) -> None:
    chosen, task, weights, raw, expected = case(name)
    steps = operations.list_operations(chosen.model, task, weights)
    onnx_file.write_onnx(folder / "model.onnx", steps, operations.input_shape(task))
    javascript.write_javascript(folder, steps, {})
    most = 1e-5 * max(1.0, np.abs(expected).max())
    for runtime in ("onnx", "javascript"):
        with runtimes.RUNTIMES[runtime](folder) as answer:
            found = answer(raw)
            assert (found.dtype, found.shape) == (np.float32, expected.shape)
            assert np.abs(found - expected).max() <= most, runtime
            np.testing.assert_allclose(answer(raw[:1]), found[:1], atol=most / 10)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    chosen, task, weights, *_ = case("cnn")
    digests = set()
    for name in ("first", "second"):
        steps = operations.list_operations(chosen.model, task, weights)
        onnx_file.write_onnx(tmp_path / name / "model.onnx", steps, (28, 28))
        javascript.write_javascript(tmp_path / name, steps, {"task": "classes"})
        written = [path.read_bytes() for path in sorted((tmp_path / name).rglob("*")) if path.is_file()]
        digests.add(hashlib.sha256(b"".join(written)).hexdigest())
    assert len(digests) == 1


def test_raw_inputs_come_back_exactly() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(49).reshape(-1, 28, 28, 1)
    np.testing.assert_array_equal(operations.raw_inputs(every, IMAGES), every[..., 0])
    colour = {**IMAGES, "shape": [28, 28, 3]}
    np.testing.assert_array_equal(operations.raw_inputs(every.repeat(3, -1), colour), every.repeat(3, -1))
    scaled = Scaling(**TABLE["scaling"]).apply(ROWS.astype(np.float64))
    again = operations.raw_inputs(scaled, TABLE)
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, ROWS, rtol=1e-5, atol=1e-4)


def damaged(change: Any) -> dict[str, np.ndarray]:
    weights = case("mlp")[2]
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("layers/dense_1/vars/1"), "layers/dense_1/vars/1 is missing"),
        (lambda w: w.update({"layers/dense/vars/0": np.zeros((784, 15), np.float32)}),
         r"layers/dense/vars/0: got the shape \(784, 15\). Expected: \(784, 16\)"),
        (lambda w: w["layers/dense/vars/0"].fill(math.nan), "layers/dense/vars/0: got NaN or infinity"),
        (lambda w: w["layers/batch_normalization/vars/3"].fill(-1), r"vars/3: got -1. Expected: variances"),
        (lambda w: w.update({"layers/dense_2/vars/0": np.zeros(1, np.float32)}), "dense_2/vars/0 is of no layer"),
    ],
)  # fmt: skip
def test_weights_of_another_network_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    made_networks.write_keras(tmp_path / "model.keras", damaged(change))
    with pytest.raises(ModelFileError, match=rf"model\.keras: .*{message}.*dvc repro train"):
        operations.read_operations(tmp_path / "model.keras", CASES["mlp"][0].model, IMAGES)


def test_a_generator_of_random_numbers_is_no_layer(tmp_path: Path) -> None:
    weights = {**case("mlp")[2], "layers/dropout/seed_generator/vars/0": np.zeros(2, np.uint32)}
    made_networks.write_keras(tmp_path / "model.keras", weights)
    assert operations.read_operations(tmp_path / "model.keras", CASES["mlp"][0].model, IMAGES)


def test_the_work_of_a_network_is_its_products() -> None:
    chosen, task, weights, *_ = case("channels last again")
    steps = operations.list_operations(chosen.model, task, weights)
    assert operations.multiplications(steps) == 20 * 20 * 81 * 2 + 2 * 10
