"""What all benchmarks share: the networks, MNIST as arrays, and a clock. Imports NumPy alone."""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NETWORKS = {"784-128-10": ((128,), False), "regularized": ((256, 128), True), "default": ((512, 256), True)}
"""Hidden units, and whether with BatchNormalization, Dropout and L2; `default` as in the shipped params."""
CNN = {"cnn": ((128,), True)}
"""The same behind three blocks of 3×3 convolution and pooling, of FILTERS: for Keras and for ours."""
FILTERS = (32, 64, 128)
DROPOUT, L2, VALIDATION = 0.3, 1e-5, 6000


def arguments(text: str | None) -> argparse.Namespace:
    """The network and how it trains, from the command line."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", default="784-128-10", choices=[*NETWORKS, *CNN])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--raw", type=Path, default=Path("data/raw"), help="as `dvc repro fetch` writes it")
    chosen = parser.parse_args()
    chosen.units, chosen.regularized = (NETWORKS | CNN)[chosen.network]
    chosen.filters = FILTERS if chosen.network in CNN else ()
    chosen.dropout, chosen.l2 = DROPOUT, L2
    return chosen


def mnist(chosen: argparse.Namespace) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """54,000 training images, the rest left for validation, and the test images: float32 (n, 28, 28, 1) in 0 … 1."""
    splits = []
    for name, count in (("train", 60_000 - VALIDATION), ("test", 10_000)):
        images, labels = (np.load(chosen.raw / f"{name}_{kind}.npy") for kind in ("images", "labels"))
        splits.append((images[:count].astype("float32") / 255, labels[:count]))
    return splits[0], splits[1]


class Clock:
    """The seconds of each epoch; the first compiles."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last = time.perf_counter()

    def epoch(self) -> None:
        """An epoch is done."""
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now

    def report(self) -> None:
        """The last line of a benchmark's output, for `epochs.py`."""
        print(json.dumps({"seconds": self.seconds}))
