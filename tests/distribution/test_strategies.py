"""Strategies: what is refused before a framework starts."""

import json
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

import small
from keras_pipeline.checks.params import REFUSED
from keras_pipeline.core.errors import MachineError, ParamsError
from keras_pipeline.distribution import strategies
from keras_pipeline.distribution.strategies import STRATEGIES
from places import SUPPORT

IMAGES = {"train": 1293, "validation": 144, "test": 360}
EVEN = {**IMAGES, "train": 1200}


def plan(changes: dict[str, Any], images: dict[str, int] = IMAGES, environ: dict[str, str] | None = None) -> Any:
    chosen = small.params({"normalize.training_images": images["train"], **changes})
    return strategies.plan_training(chosen.train, images, environ or {})


def refusal(changes: dict[str, Any], images: dict[str, int] = IMAGES, environ: dict[str, str] | None = None) -> str:
    with pytest.raises((ParamsError, MachineError)) as refused:
        plan(changes, images, environ)
    return str(refused.value)


def test_the_batch_size_of_full_is_every_training_image() -> None:
    assert plan({"train.batch_size": "full"}).batch_size == 1293
    assert plan({"train.batch_size": 100}).batch_size == 100


@pytest.mark.parametrize(("validation", "replicas"), [(6000, 1), (6000, 4), (6000, 7), (144, 5), (3, 4), (1001, 2)])
def test_validation_batches_are_even_and_not_much_more_than_the_images(validation: int, replicas: int) -> None:
    changes = {"train.strategy": "mirrored", "train.devices": replicas, "train.batch_size": 10 * replicas}
    size = plan(changes, {"train": 100 * replicas, "validation": validation}).validation_batch
    assert size % replicas == 0
    assert size <= strategies.VALIDATION_BATCH + replicas
    batches = -(-validation // size)
    assert batches * (size - replicas) < validation <= batches * size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.batch_size": 1294}, "train.batch_size: 1294 is more than the 1293 training images."),
        (
            {"train.batch_size": "full", "train.strategy": "mirrored", "train.devices": 2},
            "train.strategy: the last batch of 1293 training images cannot be shared evenly by 2 replicas, and Keras "
            "would report a loss that weighs unequal shares alike. "
            "Use normalize.training_images: 1292, or train.devices: 1.",
        ),
        ({"train.strategy": "mirrored", "train.devices": 3}, "cannot be shared evenly by 3 replicas"),
        (
            {"train.strategy": "none", "train.devices": 2},
            "train.devices: strategy 'none' trains on one device, not on 2",
        ),
        (
            {"train.strategy": "mirrored", "train.workers": 2},
            "'mirrored' trains on one process, not on 2. Use workers: 1",
        ),
        ({"train.strategy": "ddp"}, "'ddp' does not work with backend tensorflow. Use backend: torch"),
        ({"train.strategy": "mirrored", "train.backend": "jax"}, "'mirrored' does not work with backend jax"),
        (
            {"train.strategy": "data_parallel"},
            "'data_parallel' does not work with backend tensorflow (keras.distribution trains on one device, without "
            "a word, with TensorFlow and PyTorch). Use backend: jax",
        ),
        (
            {"train.strategy": "ddp", "train.backend": "torch", "train.workers": 2},
            "train.batch_statistics: 'synchronized' does not work with strategy 'ddp'. Use per_replica",
        ),
        (
            {
                "train.strategy": "data_parallel",
                "train.backend": "jax",
                "train.devices": 2,
                "train.batch_statistics": "per_replica",
            },
            "train.batch_statistics: 'per_replica' does not work with strategy 'data_parallel'. Use synchronized",
        ),
        (
            {"train.strategy": "data_parallel", "train.backend": "jax", "train.devices": 2},
            "train.strategy: the last batch of 1293 training images cannot be shared evenly by 2 replicas",
        ),
        *(({"train.strategy": name}, f"'{name}' is refused: {reason}.") for name, reason in REFUSED.items()),
    ],
)
def test_what_would_train_something_else_is_refused(changes: dict[str, object], message: str) -> None:
    assert message in refusal(changes)


def test_workers_in_the_environment_must_be_those_of_the_params() -> None:
    cluster = {"cluster": {"worker": ["a:1", "b:1", "c:1"]}, "task": {"type": "worker", "index": 1}}
    changes: dict[str, Any] = {"train.strategy": "multi_worker", "train.workers": 2}
    assert "train.workers: 2, but the environment names 3 workers" in refusal(
        changes, EVEN, {"TF_CONFIG": json.dumps(cluster)}
    )
    changes["train.workers"], changes["train.batch_size"] = 3, 99
    made = plan(changes, EVEN, {"TF_CONFIG": json.dumps(cluster)})
    assert (made.chief, made.cluster.rank, made.cluster.count) == (False, 1, 3)


def test_a_backend_that_is_not_installed_is_refused_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    assert refusal({"train.backend": "torch"}) == (
        "params.yaml: train.backend: torch is not installed. Install it: pip install -e '.[torch]', or use "
        "backend: tensorflow."
    )


def test_every_strategy_is_a_row_with_a_function() -> None:
    for name, row in STRATEGIES.items():
        assert row.open.__name__ == f"_{name}"
    assert not set(REFUSED) & set(STRATEGIES)


@pytest.mark.own_processes
def test_a_plan_takes_a_moment_and_no_framework() -> None:
    program = (
        "import sys, os, small; from keras_pipeline.distribution import strategies; chosen = small.params();"
        "strategies.plan_training(chosen.train, {'train': 1293, 'validation': 144}, os.environ);"
        "print([name for name in ('tensorflow', 'keras', 'jax', 'torch', 'mlflow') if name in sys.modules])"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], cwd=SUPPORT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert time.monotonic() - began < 10  # far from the seconds that any of them takes
