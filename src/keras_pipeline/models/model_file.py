"""The trained network as a file, and with raw inputs in, scaling inside, for the formats of TensorFlow."""

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pipeline.core import files
from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.models import frameworks
from keras_pipeline.models.weights_file import REMEDY, read_weights


def save_network(model: keras.Sequential, path: Path) -> None:
    """Write an uncompiled network as a .keras file, atomically; the same weights give the same bytes.

    Keras puts the time of saving into the archive and its entries, and memory addresses into the config as
    identities of shared objects; here it is 1980 and they are counted, so that the file's digest tells whether
    two trainings gave the same network.
    """
    with tempfile.TemporaryDirectory() as folder:
        stamped = Path(folder) / "model.keras"
        # Keras looks for TensorFlow's types while it saves: with another backend, two seconds and a page of its log.
        with frameworks.hidden_packages(() if keras.backend.backend() == "tensorflow" else ("tensorflow",)):
            model.save(stamped)
        content = io.BytesIO()
        with zipfile.ZipFile(stamped) as source, zipfile.ZipFile(content, "w") as target:
            for name in sorted(source.namelist()):
                target.writestr(zipfile.ZipInfo(name), _stable(name, source.read(name)))
    files.write_atomically(path, content.getbuffer())


def _stable(name: str, entry: bytes) -> bytes:
    """An entry of Keras' archive without the time and the memory addresses."""
    if name == "metadata.json":
        return json.dumps({**json.loads(entry), "date_saved": "1980-01-01@00:00:00"}).encode()
    if name == "config.json":
        numbers: dict[int, int] = {}

        def counted(block: dict[str, Any]) -> dict[str, Any]:
            if "shared_object_id" in block:
                block["shared_object_id"] = numbers.setdefault(block["shared_object_id"], len(numbers) + 1)
            return block

        return json.dumps(json.loads(entry, object_hook=counted)).encode()
    return entry


def load_weights(model: keras.Sequential, path: Path) -> None:
    """Put the weights of a .keras file into a network built from the params.

    Nothing but numbers is taken from the file: Keras' `load_model` would run code that a file can hold.
    Raises ModelFileError when the file is missing, damaged or of another network.
    """
    for name, array in read_weights(path).items():
        if not np.isfinite(array).all():
            raise ModelFileError(f"{path}: {name}: got NaN. Expected: finite numbers. {REMEDY.format(path=path)}")
    try:
        model.load_weights(path)
    except Exception as error:  # Keras raises many kinds
        reason = str(error).strip().split("\n")[0]
        raise ModelFileError(
            f"{path}: cannot be loaded into the network of params.yaml: {reason}. {REMEDY.format(path=path)}"
        ) from error


def serving_model(
    model: keras.Sequential, scaling: Scaling, target: Scaling | None = None, dtype: str = "uint8"
) -> keras.Sequential:
    """The network that takes raw inputs and scales them linearly within: pixels of this type (n, height, width), of
    several channels (n, height, width, channels); or of a table its features, float32 (n, features). With `target` it
    gives the number in its own units, else the outputs of `model`.

    Its outputs differ from those of scaled inputs in their last bits: it multiplies, where NumPy divides.
    """
    divisor, offset = np.asarray(scaling.divisor), np.asarray(scaling.offset)
    scaled = keras.layers.Rescaling(
        (1 / divisor).tolist(), (-offset / divisor).tolist(), dtype="float32", name="scaling"
    )
    given: list[Any] = []
    if len(model.input_shape) == 2:
        given = [keras.Input(model.input_shape[1:], dtype="float32", name="features"), scaled]
    else:
        height, width, channels = model.input_shape[1:]
        shape = (height, width) if channels == 1 else (height, width, channels)
        with_channels = keras.layers.Reshape((height, width, channels), dtype="float32", name="channels")
        given = [keras.Input(shape, dtype=dtype, name="pixels"), with_channels, scaled]
    made = [keras.layers.Rescaling(target.divisor, target.offset, dtype="float32", name="unscaling")] if target else []
    return keras.Sequential([*given, *model.layers, *made], name="serving")
