"""SavedModel and LiteRT files: the network's own answers, the same bytes every time, and no operator of others."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
import small_tasks
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.export.edge import litert_files
from keras_pipeline.export.tensorflow_runtimes import open_litert, open_saved_model
from keras_pipeline.models import architectures
from places import SUPPORT
from small import IMAGE_SHAPE

pytestmark = pytest.mark.slow

PIXELS = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
DEEP = np.random.default_rng(0).integers(0, 4096, (300, 20, 16, 3), np.uint16)
ROWS = np.random.default_rng(0).uniform(-3, 300, (300, 10)).astype(np.float32)
KINDS = ("float32", "dynamic_int8", "int8")
ALL_LAYERS = [
    {"layer": "Conv2D", "filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "gelu"},
    {"layer": "BatchNormalization"}, {"layer": "Activation", "activation": "mish"},
    {"layer": "MaxPooling2D", "pool_size": 3, "strides": 2, "padding": "same"},
    {"layer": "AveragePooling2D", "pool_size": 2, "padding": "same"}, {"layer": "Dropout", "rate": 0.5},
    {"layer": "Conv2D", "filters": 8, "kernel_size": 2, "activation": "selu"}, {"layer": "GlobalAveragePooling2D"},
    {"layer": "Dense", "units": 8, "activation": "celu"},
]  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"model.hidden_units": [512, 128]},
    "cnn": {"model.architecture": "cnn", "model.filters": [8, 16], "model.global_average_pooling": True},
    "layers": {"model.architecture": "layers", "model.layers": ALL_LAYERS},
    "binary": small_tasks.BINARY,
    "diabetes": small_tasks.CHANGES["diabetes"],
    "colour of 12 bits": {"model.architecture": "cnn", "model.filters": [4, 8], "model.hidden_units": [8]},
}
SAVE = """
import sys; from pathlib import Path
from keras_pipeline.models import frameworks
frameworks.start_framework()
import test_tensorflow_formats_slow as tests
print(tests.written(tests.network("cnn"), Path(sys.argv[1])))
"""


def network(name: str) -> Any:
    """What serves an untrained network of that name, whose BatchNormalization has seen something."""
    from keras_pipeline.models import frameworks, model_file

    frameworks.seed_everything(3, "float32")
    chosen = small.params(NETWORKS[name])
    others = {"binary": (IMAGE_SHAPE, 1), "diabetes": ((10,), 1), "colour of 12 bits": ((20, 16, 3), 4)}
    shape, outputs = others.get(name, (IMAGE_SHAPE, 10))
    model = architectures.build_network(chosen.model, shape, outputs)
    chance = np.random.default_rng(3)
    for layer in model.layers:
        if "batchnormalization" in layer.name:
            layer.set_weights([chance.uniform(0.5, 1.5, one.shape) for one in layer.get_weights()])
    if name == "diabetes":
        scaling = Scaling("standard", ROWS.mean(axis=0).tolist(), ROWS.std(axis=0).tolist())
        return model_file.serving_model(model, scaling, Scaling("standard", 150.0, 77.0))
    if name == "colour of 12 bits":
        return model_file.serving_model(model, Scaling("unit", 0.0, 4095.0), dtype="uint16")
    return model_file.serving_model(model, Scaling("symmetric", 127.5, 127.5))


def raw_inputs(name: str) -> Any:
    return {"diabetes": ROWS, "colour of 12 bits": DEEP}.get(name, PIXELS)


def written(serving: Any, folder: Path) -> dict[str, str]:
    """All formats of it in the folder, and their digests."""
    from keras_pipeline.export import tensorflow_formats

    tensorflow_formats.write_saved_model(serving, folder / "saved_model")
    representative = PIXELS[:50] if len(serving.input_shape) == 3 else DEEP[:50]
    for kind in KINDS[: 3 if len(serving.input_shape) > 2 else 2]:
        tensorflow_formats.write_litert(serving, folder / f"{kind}.tflite", kind, representative)  # type: ignore[arg-type]
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_format_answers_as_the_network_does_and_says_nothing(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    serving = network(name)
    raw = raw_inputs(name)
    expected = serving.predict(raw, verbose=0)
    capfd.readouterr()
    made = written(serving, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert set(made) == {"saved_model/saved_model.pb", *(f"{kind}.tflite" for kind in KINDS[: len(made) - 1])}
    unit = 77.0 if name == "diabetes" else 1.0  # of the target's own scale
    outputs = open_saved_model(tmp_path / "saved_model")(raw)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * unit)
    sizes = {}
    for kind, most in zip(KINDS[: len(made) - 1], (1e-5, 0.05, 0.2), strict=False):
        content = (tmp_path / f"{kind}.tflite").read_bytes()
        outputs = open_litert(content)(raw)
        assert capfd.readouterr() == ("", "")
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=most * unit)
        described, sizes[kind] = litert_files.describe(content), len(content)
        assert described.input.dtype == ("int8" if kind == "int8" else raw.dtype.name)
        assert not {"SHAPE", "PACK", "STRIDED_SLICE"} & set(described.operators), "microcontrollers lack them"
    if name == "mlp":
        assert sizes["float32"] / max(sizes["int8"], sizes["dynamic_int8"]) > 3.5


def test_the_same_network_gives_the_same_bytes_twice_and_in_another_process(tmp_path: Path) -> None:
    first = written(network("cnn"), tmp_path / "first")
    assert len(first) == 4
    assert written(network("cnn"), tmp_path / "second") == first
    done = subprocess.run(
        [sys.executable, "-c", SAVE, tmp_path / "third"],
        env={**os.environ, "PYTHONPATH": f"{SUPPORT}:{Path(__file__).parent}"},
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == str(first)


def test_an_operator_that_litert_lacks_is_named_and_nothing_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import keras

    from keras_pipeline.export import tensorflow_formats

    layers = [keras.Input((28, 28), dtype="uint8", name="pixels"), keras.layers.Rescaling(1 / 255)]
    serving = keras.Sequential([*layers, keras.layers.Activation(keras.ops.erfinv)])
    with pytest.raises(ParamsError, match=r"export\.formats: litert_float32: the network needs the operators Erfinv"):
        tensorflow_formats.write_litert(serving, tmp_path / "x.tflite", "float32")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_int8_of_a_table_is_refused(tmp_path: Path) -> None:
    from keras_pipeline.export import tensorflow_formats

    with pytest.raises(ParamsError, match=r"litert_int8: the network takes a table.*Use litert_dynamic_int8"):
        tensorflow_formats.write_litert(network("diabetes"), tmp_path / "x.tflite", "int8", ROWS)
