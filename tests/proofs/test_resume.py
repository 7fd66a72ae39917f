"""Trainings that go on from each of their steps."""

from pathlib import Path
from typing import Any

import pytest

import every_step
import small
from resumed_trainings import ENGINES, check_killed_at_the_end

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
