"""A recorded run, made by hand, and a small git repository."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import small
from keras_pipeline.audit.differences import Difference
from keras_pipeline.records import record
from keras_pipeline.records.provenance import TRAINING

STATISTICS = {
    **small.described(),
    "task": "classes",
    "target": None,
    "class_names": ["0", "1"],
    "scaling": {"name": "unit", "offset": 0.0, "divisor": 255.0},
    "images": {"train": 2, "validation": 1, "test": 1},
    "sha256": {
        f"{split}_{kind}.npy": f"{number}{kind[0].encode().hex()}" + 61 * "0"
        for number, split in enumerate(("train", "validation", "test"))
        for kind in ("images", "labels")
    },
}
"""As a record has it."""
WHOLE = {
    "format": 2,
    **STATISTICS,
    "normalize": {},
    "class_counts": {"train": [1, 1], "validation": [1, 0], "test": [0, 1]},
    "test_images_also_in_train": 0,
}
"""statistics.json."""
Edit = Callable[[dict[str, Any]], object]


def recorded(changes: dict[str, Any] | None = None, normalized: Path = Path()) -> dict[str, Any]:
    """The record of a run of the quick params that this machine has just trained, on the data of this folder."""
    run = record.begin_record(small.params(changes), normalized, STATISTICS, TRAINING)
    run["git"] = {"commit": "c" * 40, "dirty": False}
    run["sha256"]["model"] = "4" * 64
    run["strategy"] = {
        "name": run["params"]["train.strategy"],
        "asked": run["params"]["train.strategy"],
        "backend": run["params"]["train.backend"],
        "devices": [f"/cpu:{number}" for number in range(run["params"]["train.devices"])],
        "workers": run["params"]["train.workers"],
        "replicas": run["params"]["train.devices"] * run["params"]["train.workers"],
    }
    run |= {"weights": 7, "ended": 1.0, "train_seconds": 1.0, "best_epoch": 2, "history": rows(1.5, 0.75)}
    return run


def rows(*losses: float) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "train/loss": loss, "val/loss": loss + 1, "val/accuracy": 0.5, "time": 1e9 + epoch}
        for epoch, loss in enumerate(losses, 1)
    ]


def told(found: Iterator[Difference]) -> list[tuple[str, str]]:
    return [(difference.kind, difference.text) for difference in found]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


MAIN = """\
import json, os, sys, time
def main():
    with open(sys.argv[2], "w") as file:
        json.dump({"arguments": sys.argv[1:], "folder": os.getcwd(), "pid": os.getpid(), **os.environ}, file)
    time.sleep(float(sys.argv[3]))
    return int(sys.argv[4])
"""
