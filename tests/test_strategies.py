"""Strategies: what is refused before TensorFlow starts, and that the rest trains what it says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import small
from keras_pipeline import strategies
from keras_pipeline.errors import ParamsError

IMAGES = {"train": 1293, "validation": 144, "test": 360}


def test_the_batch_size_of_full_is_every_training_image() -> None:
    assert strategies.check(small.params({"train.batch_size": "full"}).train, IMAGES) == 1293
    assert strategies.check(small.params({"train.batch_size": 100}).train, IMAGES) == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train.batch_size": 1294},
            "params.yaml: train.batch_size: 1294 is more than the 1293 training images. "
            "Expected: at most 1293, or full.",
        ),
        (
            {"train.batch_size": "full", "train.strategy": "mirrored", "train.devices": 2},
            "params.yaml: train.batch_size: full is 1293 images, which 2 devices cannot share evenly. "
            "Use a number that is a multiple of 2, such as 1292.",
        ),
    ],
)
def test_batches_that_cannot_be_shared_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError) as refusal:
        strategies.check(small.params(changes).train, IMAGES)
    assert str(refusal.value) == message


def test_every_strategy_of_the_params_has_a_row() -> None:
    field = type(small.params().train).model_fields["strategy"]
    assert set(strategies.STRATEGIES) == set(field.annotation.__args__)  # type: ignore[union-attr]


def train(folder: Path, name: str, changes: dict[str, object]) -> Path:
    """Run the stage train in a process of its own: devices can be divided only before TensorFlow starts."""
    (folder / f"{name}.yaml").write_bytes(small.params_text({**small.QUICK, **changes}))
    program = (
        "import sys; from pathlib import Path; from keras_pipeline import params; "
        "from keras_pipeline.stages import train; folder = Path(sys.argv[1]); name = sys.argv[2]; "
        "train.run(params.load(folder / f'{name}.yaml'), folder / 'normalized', folder / name, train.NoObserver())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, folder, name], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = tmp_path_factory.mktemp("strategies")
    small.normalized_digits(result, validation_share=0.0995)  # 1,294 training images: 10 × 128 + 2 × 7
    return result


@pytest.mark.slow
def test_mirrored_and_one_device_train_what_one_device_does(folder: Path) -> None:
    """With BatchNormalization, L2 and a smaller last batch; without Dropout, whose masks are others there."""
    changes = {"model.dropout": 0.0, "train.batch_size": 128, "train.epochs": 3}
    alone = train(folder, "none", changes)
    one = train(folder, "one_device", {**changes, "train.strategy": "one_device"})
    two = train(folder, "mirrored", {**changes, "train.strategy": "mirrored", "train.devices": 2})
    assert (one / "model.keras").read_bytes() == (alone / "model.keras").read_bytes()
    assert (one / "history.csv").read_bytes() == (alone / "history.csv").read_bytes()
    history = [np.loadtxt(path / "history.csv", delimiter=",", skiprows=1) for path in (alone, two)]
    np.testing.assert_allclose(history[1][:, 1:3], history[0][:, 1:3], atol=1e-5)
    # 143 validation images cannot be shared evenly: the odd one out weighs a little more.
    np.testing.assert_allclose(history[1][:, 3:], history[0][:, 3:], atol=1e-4)
    record = json.loads((two / "run.json").read_text())
    assert record["strategy"] == {"name": "mirrored", "devices": ["/cpu:0", "/cpu:1"], "batch_per_replica": 64}


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_refused_with_what_there_is(folder: Path) -> None:
    (folder / "gpu.yaml").write_bytes(small.params_text({**small.QUICK, "train.device_type": "gpu"}))
    done = subprocess.run(
        [
            Path(sys.executable).parent / "keras-pipeline",
            "train",
            "--params",
            "gpu.yaml",
            "--normalized",
            "normalized",
            "--models",
            "gpu",
        ],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "-1", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 6
    assert done.stderr.startswith(
        "params.yaml: train.device_type: gpu asked for, but this machine has no GPU, only a CPU. "
        "Use device_type: auto or cpu; for a GPU see `keras-pipeline doctor`.\n"
    )
    assert not (folder / "gpu" / "model.keras").exists()
