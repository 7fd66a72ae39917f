"""A dataset of letters, its file in a folder, and the command line there."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import small
from keras_pipeline.sources.files import formats

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
TRAIN, TEST = 12, 4
"""Images of each letter."""


class OwnDataset:
    """26 letters whose labels count from `first`, as IDX files in the folder `letters` of `folder`."""

    def __init__(self, folder: Path, first: int = 0) -> None:
        self.folder = folder
        (folder / "letters").mkdir()
        (folder / "datasets").mkdir()
        random = np.random.default_rng(0)
        shapes = random.integers(0, 256, (len(LETTERS), 28, 28))
        for split, count in (("train", TRAIN), ("test", TEST)):
            labels = np.tile(np.arange(len(LETTERS)), count)
            images = np.clip(shapes[labels] + random.normal(0, 20, (len(labels), 28, 28)), 0, 255).astype(np.uint8)
            arrays: dict[str, NDArray[np.uint8]] = {"images": images, "labels": (labels + first).astype(np.uint8)}
            for kind, array in arrays.items():
                (folder / "letters" / f"{split}-{kind}").write_bytes(formats.write_idx(array))
        (folder / "datasets" / "letters.yaml").write_text(
            f"""\
kind: idx
title: Letters
licence: CC0 1.0
path: letters
size: [28, 28]
train: {{images: train-images, labels: train-labels}}
test: {{images: test-images, labels: test-labels}}
classes: {[*LETTERS]}
counts: {{train: {TRAIN * len(LETTERS)}, test: {TEST * len(LETTERS)}}}
""",
            encoding="utf-8",
        )

    def key(self) -> str:
        """Of the run whose network is there."""
        key: str = json.loads((self.folder / "models" / "run.json").read_text())["key"]
        return key

    def run(self, *arguments: str, **changes: Any) -> "subprocess.CompletedProcess[str]":
        """The command with these values of params.yaml, by the last parts of their keys."""
        given = {"fetch.dataset": "letters", "train.epochs": 8, "train.batch_size": 32, **changes}
        (self.folder / "params.yaml").write_bytes(small.params_text(given))
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
        }
        command = [sys.executable, "-m", "keras_pipeline.cli.main", *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
