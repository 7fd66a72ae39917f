"""A dataset of letters, its row in a copy of the package, and the command line of that copy."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import small
from keras_pipeline.sources import formats
from places import ROOT

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
TRAIN, TEST = 12, 4
"""Images of each letter."""


class OwnDataset:
    """26 letters whose labels count from `first`, as files in `folder`, in the row `letters` of the copied package."""

    def __init__(self, folder: Path, first: int = 0) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "src" / "keras_pipeline", folder / "source" / "keras_pipeline")
        random = np.random.default_rng(0)
        shapes = random.integers(0, 256, (len(LETTERS), 28, 28))
        files = []
        for split, count in (("train", TRAIN), ("test", TEST)):
            labels = np.tile(np.arange(len(LETTERS)), count)
            images = np.clip(shapes[labels] + random.normal(0, 20, (len(labels), 28, 28)), 0, 255).astype(np.uint8)
            for kind, array in (("images", images), ("labels", (labels + first).astype(np.uint8))):
                payload = formats.write_idx(array)
                name = f"letters-{split}-{kind}.gz"
                (folder / name).write_bytes(gzip.compress(payload, mtime=0))
                digest = hashlib.sha256(payload).hexdigest()
                files.append(f'"{split}-{kind}": RemoteFile("{name}", "payload sha256", "{digest}", {len(payload)}),')
        row = f"""
    Dataset(
        name="letters", title="Letters", licence="CC0 1.0", class_names=tuple("{"".join(LETTERS)}"),
        train_count={TRAIN * len(LETTERS)}, test_count={TEST * len(LETTERS)}, files={{{" ".join(files)}}},
        mirrors=("https://letters.invalid/",),
    ),"""
        table = folder / "source" / "keras_pipeline" / "config" / "datasets.py"
        text = table.read_text(encoding="utf-8")
        assert text.count("_ROWS = (\n") == 1
        table.write_text(text.replace("_ROWS = (\n", f"_ROWS = ({row}\n"), encoding="utf-8")

    def run(self, *arguments: str, **changes: Any) -> "subprocess.CompletedProcess[str]":
        """The command with these values of params.yaml, by the last parts of their keys."""
        given = {"fetch.dataset": "letters", "train.epochs": 8, "train.batch_size": 32, **changes}
        (self.folder / "params.yaml").write_bytes(small.params_text(given))
        environment = {
            **os.environ, "PYTHONPATH": str(self.folder / "source"), "KERAS_PIPELINE_MIRRORS": str(self.folder),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
        }  # fmt: skip
        command = [sys.executable, "-m", "keras_pipeline.cli.main", *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
