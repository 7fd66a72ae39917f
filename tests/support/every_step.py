"""Trainings that go on from each of their steps."""

import json
import re
from pathlib import Path
from typing import Any

from programs import run_program

EVERY_STEP = {"train.epochs": 3, "train.batch_size": 16, "train.checkpoint_steps": 1}
PLATEAU = {"name": "reduce_on_plateau", "warmup_epochs": 0, "decay_rate": 0.9, "factor": 0.5, "patience": 1}
EVERYTHING_KEPT = {
    "train.precision": "mixed_float16",
    "train.schedule": PLATEAU,
    "train.optimizer": {"name": "adamw", "learning_rate": 0.5, "use_ema": True, "ema_momentum": 0.9},
}
"""Params of which more than weights has to be kept: a loss scale, a schedule that looks back, averages of weights."""
REPLICAS = {"train.strategy": "mirrored", "train.devices": 2, "train.batch_statistics": "per_replica"}


def check(normalized: Path, changes: dict[str, Any], every: int) -> None:
    """One process trains once, keeping every step, and again from (each of) them, with another seed for anything that
    is not ours. Also counts the optimizer's steps: no phantom one, none lost."""
    printed = run_program("resume_everywhere.py", normalized, json.dumps({**EVERY_STEP, **changes}), str(every))
    found = re.search(r"(\d+) positions of (\d+), the same bytes", printed)
    assert found, printed
    assert int(found[1]) >= 3
    assert int(found[2]) == 15  # 5 steps in each of 3 epochs
