"""What limits memory, and a training whose images do not fit into it."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

import real_workspace
import small
from keras_pipeline.core import files
from keras_pipeline.data import splits
from keras_pipeline.data.scaling import fit_scaling, read_blocks
from keras_pipeline.models import frameworks
from keras_pipeline.sources.made import digits

MEBIBYTE = 2**20


def test_the_limit_is_the_least_of_machine_and_container(tmp_path: Path) -> None:
    whole = psutil.virtual_memory().total
    assert frameworks.memory_limit(tmp_path) <= whole
    (tmp_path / "memory.max").write_text("max\n")
    assert frameworks.memory_limit(tmp_path) <= whole
    (tmp_path / "memory.max").write_text("104857600\n")
    assert frameworks.memory_limit(tmp_path) == 100 * MEBIBYTE
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("52428800\n")
    assert frameworks.memory_limit(tmp_path) == 50 * MEBIBYTE


@pytest.mark.parametrize("kind", [resource.RLIMIT_DATA, resource.RLIMIT_AS])
def test_the_limit_is_that_of_ulimit_too(kind: int) -> None:
    program = "from keras_pipeline.models.frameworks import memory_limit; print(memory_limit())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **real_workspace.ONE_THREAD, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(kind, (800 * MEBIBYTE, 800 * MEBIBYTE)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == 800 * MEBIBYTE


def many_digits(folder: Path, counts: dict[str, int]) -> int:
    """The digits over and over, as `normalize` writes them; the bytes of the training images."""
    made = digits()
    pixels, labels = made["train-images"], made["train-labels"]
    scaling = fit_scaling("unit", [])
    digests: dict[str, str] = {}
    for name, count in counts.items():
        chosen = np.arange(count) % len(labels)
        parts = read_blocks(pixels, chosen)
        digests |= splits.write_split(folder, name, parts, labels[chosen], scaling)
    statistics = {"dataset": "digits", "class_names": list("0123456789"), "scaling": vars(scaling), "images": counts}
    statistics |= {"task": "classes", "shape": [28, 28, 1], "target": None}
    made = small.params().normalize.model_dump()
    files.write_json(folder / "statistics.json", {**statistics, "normalize": made, "sha256": digests})
    return (folder / "train_images.npy").stat().st_size


@pytest.mark.slow
def test_images_that_do_not_fit_into_memory_are_trained_on(tmp_path: Path) -> None:
    """With all of them in memory, beside what TensorFlow itself takes, the process would be over the limit."""
    limit = 900 * MEBIBYTE
    size = many_digits(tmp_path / "data" / "normalized", {"train": 250_000, "validation": 50_000, "test": 100})
    assert size > 0.8 * limit
    chosen = {"train.epochs": 1, "train.schedule.name": "constant", "train.batch_size": 1000}
    (tmp_path / "params.yaml").write_bytes(small.params_text({**small.QUICK, **chosen}))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    done = subprocess.run(
        [sys.executable, "-m", "keras_pipeline.cli.main", "train"],
        cwd=tmp_path,
        env={**os.environ, **real_workspace.ONE_THREAD, "MLFLOW_TRACKING_URI": ""},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((tmp_path / "models" / "run.json").read_text())
    assert run["strategy"]["fused"] is False  # the program would hold all images
    assert run["history"][0]["val/accuracy"] > 0.95
