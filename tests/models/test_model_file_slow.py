"""The model file: equal networks give equal bytes, nothing but numbers is read, and raw pixels are served."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import small
from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.data.scaling import fit_scaling
from keras_pipeline.models import architectures
from places import SUPPORT
from small import IMAGE_SHAPE

pytestmark = pytest.mark.slow

SAVE = """
import sys; from pathlib import Path
import small
from keras_pipeline.models import architectures, frameworks, model_file
from small import IMAGE_SHAPE
frameworks.seed_everything(3, "float32")
model_file.save_network(architectures.build_network(small.params().model, IMAGE_SHAPE, 10), Path(sys.argv[1]))
"""


def network(seed: int = 3):  # type: ignore[no-untyped-def]
    from keras_pipeline.models import frameworks

    frameworks.seed_everything(seed, "float32")
    return architectures.build_network(small.params().model, IMAGE_SHAPE, 10)


def test_the_same_network_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    from keras_pipeline.models import model_file

    model_file.save_network(network(), tmp_path / "here.keras")
    child = [sys.executable, "-c", SAVE, tmp_path / "there.keras"]
    subprocess.run(child, cwd=SUPPORT, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "here.keras").read_bytes() == (tmp_path / "there.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "here.keras") as archive:
        assert json.loads(archive.read("metadata.json"))["keras_version"]


def test_stock_keras_loads_the_file(tmp_path: Path) -> None:
    import keras

    from keras_pipeline.models import model_file

    model, images = network(), np.random.default_rng(0).random((5, *IMAGE_SHAPE), np.float32)
    model_file.save_network(model, tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


def not_finite(content: bytes) -> bytes:
    """The file with a weight that is no number."""
    import h5py

    numbers, made = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(made, "w") as after:
        numbers.write(before.read("model.weights.h5"))
        with h5py.File(numbers, "r+") as weights:
            weights["layers/dense/vars/0"][0, 0] = np.nan
        for name in before.namelist():
            after.writestr(name, numbers.getvalue() if name == "model.weights.h5" else before.read(name))
    return made.getvalue()


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "not a zip", "NaN", "other network"])
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, damage: str) -> None:
    from keras_pipeline.models import model_file

    path = tmp_path / "model.keras"
    if damage != "missing":
        model_file.save_network(network(), path)
        content = path.read_bytes()
        path.write_bytes(
            {
                "empty": b"",
                "truncated": content[: len(content) // 2],
                "not a zip": b"<html>",
                "NaN": not_finite(content),
                "other network": content,
            }[damage]
        )
    units = [16, 16] if damage == "other network" else [16]
    model = architectures.build_network(small.params({"model.hidden_units": units}).model, IMAGE_SHAPE, 10)
    with pytest.raises(ModelFileError) as refusal:
        model_file.load_weights(model, path)
    what = {
        "other network": "cannot be loaded into the network of params.yaml: ", "missing": "not there. ",
        "NaN": "layers/dense/vars/0: got NaN. Expected: finite numbers. ",
    }  # fmt: skip
    assert str(refusal.value).startswith(f"{path}: {what.get(damage, 'no network of ours: ')}")
    assert "run `dvc repro train`" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("scaling", ["none", "unit", "symmetric", "standard"])
def test_what_is_served_takes_raw_pixels(scaling: str) -> None:
    from keras_pipeline.models import model_file

    pixels = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
    fitted, model = fit_scaling(scaling, [pixels]), network()
    served = model_file.serving_model(model, fitted)
    expected = model.predict(fitted.apply(pixels), verbose=0)
    np.testing.assert_allclose(served.predict(pixels, verbose=0), expected, atol=1e-5)
