"""A training is what params.yaml says, also in a home and an environment with other wishes."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import numpy_params
import small
from keras_pipeline.core import files
from places import PROGRAM
from real_workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.own_processes]

KERAS_FILE = {
    "image_data_format": "channels_first",
    "floatx": "float16",
    "epsilon": 1e-3,
    "backend": "torch",
    "nnx_enabled": True,
}
HOSTILE = {
    "KERAS_BACKEND": "torch",
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "2",
    "KERAS_NNX_ENABLED": "1",
    "KERAS_TORCH_DEVICE": "meta",
    "TF_USE_LEGACY_KERAS": "1",
    "TF2_BEHAVIOR": "0",
    "JAX_ENABLE_X64": "1",
    "JAX_DISABLE_JIT": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_NUM_CPU_DEVICES": "3",
    "TORCH_LOGS": "nonsense",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "1",
    "PYTHONHASHSEED": "7",
}
PLANTED = ("json", "yaml", "numpy", "keras", "tensorflow", "jax", "torch", "mlflow", "sqlalchemy", "multiprocessing")
TENSORFLOW: dict[str, Any] = {"model.architecture": "cnn", "model.filters": [4], "train.fused": False}


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("data"))


def train(folder: Path, normalized: Path, changes: dict[str, Any], environment: dict[str, str]) -> Any:
    """`keras-pipeline train` in a folder of its own: its process, ended."""
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_bytes(small.params_text({**small.QUICK, **changes}))
    inherited = {name: value for name, value in os.environ.items() if name not in ("HOME", "MLFLOW_TRACKING_URI")}
    # In an environment with other wishes the current folder is a place for modules, too.
    search_path = f"{':' if 'PYTHONWARNINGS' in environment else ''}{inherited.get('PYTHONPATH', '')}"
    return subprocess.run(
        [PROGRAM, "train", "--normalized", normalized],
        cwd=folder,
        env={**inherited, "PYTHONPATH": search_path, "MLFLOW_TRACKING_URI": "http://127.0.0.1:1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def results(folder: Path) -> list[str]:
    """The digests of the network and of the history."""
    return [files.file_sha256(folder / "models" / name) for name in ("model.keras", "history.csv")]


@pytest.mark.parametrize(
    "changes",
    [
        TENSORFLOW,
        numpy_params.PLAIN,
        pytest.param({"train.backend": "jax"}, marks=pytest.mark.needs_jax),
        pytest.param({"train.backend": "torch"}, marks=pytest.mark.needs_torch),
    ],
    ids=["tensorflow", "numpy", "jax", "torch"],
)
def test_neither_the_home_nor_the_environment_changes_a_training(
    changes: dict[str, Any], normalized: Path, tmp_path: Path
) -> None:
    plain = train(tmp_path / "plain", normalized, changes, {"HOME": str(tmp_path / "empty")})
    assert plain.returncode == 0, plain.stderr
    home, folder = tmp_path / "home", tmp_path / "hostile"
    (home / ".keras").mkdir(parents=True)
    (home / ".keras" / "keras.json").write_text(json.dumps(KERAS_FILE))
    folder.mkdir()
    (folder / "dvc.yaml").touch()  # the store of runs is here
    for name in PLANTED:
        (folder / f"{name}.py").write_text("raise SystemExit('planted')\n")
    hostile = train(folder, normalized, changes, {"HOME": str(home), **HOSTILE, "MLFLOW_TRACKING_URI": ""})
    assert hostile.returncode == 0, hostile.stderr
    assert "not used, because params.yaml decides: " in hostile.stderr
    assert "TF_USE_LEGACY_KERAS" in hostile.stderr
    assert results(tmp_path / "plain") == results(folder)
    assert not (tmp_path / "empty").exists()
    (run,) = Workspace(folder).runs()
    assert run.status == "FINISHED"
    assert len(run.models) == (changes is TENSORFLOW)  # `track` sends those of the others


@pytest.mark.parametrize(
    ("variable", "value"),
    [("XLA_FLAGS", "--nonsense"), ("TF_NUM_INTRAOP_THREADS", "-3")],
)
def test_a_setting_with_which_tensorflow_ends_is_named(
    variable: str, value: str, normalized: Path, tmp_path: Path
) -> None:
    done = train(tmp_path, normalized, {}, {"HOME": "/proc", variable: value})
    assert done.returncode == 6
    assert f"Set outside of params.yaml: {variable}={value}. Correct" in done.stderr
    assert not (tmp_path / "models" / "run.json").exists()


@pytest.mark.needs_jax
def test_a_platform_that_jax_does_not_know_is_named(normalized: Path, tmp_path: Path) -> None:
    done = train(tmp_path, normalized, {"train.backend": "jax"}, {"JAX_PLATFORMS": "nonsense"})
    assert done.returncode == 6
    assert "Set outside of params.yaml: JAX_PLATFORMS=nonsense. Correct" in done.stderr
