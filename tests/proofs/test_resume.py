"""Trainings that go on from each of their steps."""

from pathlib import Path
from typing import Any

import psutil
import pytest

import every_step
import small
from real_workspace import wait_until
from resumed_trainings import ENGINES, Training, check_killed_at_the_end

pytestmark = pytest.mark.proof

STOPPING = {"monitor": "val/loss", "patience": 2}
DATA_PARALLEL = {"train.backend": "jax", "train.strategy": "data_parallel", "train.devices": 2}


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("resume"), validation_share=0.2)


@pytest.mark.parametrize(
    ("changes", "every"),
    [
        pytest.param({"train.early_stopping": STOPPING, "train.class_weights": "balanced"}, 1, id="none"),
        pytest.param(every_step.EVERYTHING_KEPT, 3, id="none, loss scale, plateau, averaged weights"),
        pytest.param({"train.strategy": "mirrored", "train.devices": 2}, 4, id="mirrored"),
        pytest.param(every_step.REPLICAS, 5, id="mirrored, statistics per replica"),
        pytest.param({"train.backend": "jax"}, 3, id="jax", marks=pytest.mark.needs_jax),
        pytest.param(DATA_PARALLEL, 5, id="data_parallel", marks=pytest.mark.needs_jax),
        pytest.param({"train.backend": "torch"}, 3, id="torch", marks=pytest.mark.needs_torch),
    ],
)
def test_from_every_step(normalized: Path, changes: dict[str, Any], every: int) -> None:
    """A training that goes on from any of its steps ends in the same bytes, on every strategy and backend."""
    every_step.check(normalized, changes, every)


def test_killed_after_its_last_checkpoint_it_writes_what_the_checkpoint_holds(tmp_path: Path) -> None:
    """A training that is killed when its network is to be written writes it from its checkpoint, in every engine."""
    check_killed_at_the_end(tmp_path, *ENGINES)


@pytest.mark.own_processes
def test_a_killed_worker_ends_all_and_the_same_command_goes_on(normalized: Path, tmp_path: Path) -> None:
    """Of two workers one is killed: both end, and the same command goes on to the same bytes."""
    changes = {"train.strategy": "multi_worker", "train.workers": 2, "train.checkpoint_steps": 20, "train.epochs": 3}
    undisturbed = Training(tmp_path / "undisturbed", normalized, changes)
    undisturbed.finish()
    training = Training(tmp_path / "training", normalized, changes)
    launcher = training.start()
    try:
        wait_until(lambda: training.generation() >= 2 or launcher.poll() is not None, 200, "checkpoints")
        workers = psutil.Process(launcher.pid).children(recursive=True)
        victim = next(one for one in workers if one.environ().get("LOCAL_RANK") == "1")
        victim.kill()
        assert launcher.wait(60) == 75, training.log.read_text()
    finally:
        launcher.kill()
        launcher.wait()
    assert "worker 1 of 2" in training.log.read_text()
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []
    text = training.finish()
    assert "train: goes on from its checkpoint" in text
    assert training.digests() == undisturbed.digests()
    assert not list((training.folder / ".checkpoints").iterdir())
