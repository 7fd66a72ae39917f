"""What checkpoints cost: trainings with and without them in turn, of the shipped params on data/normalized.

python benchmarks/checkpoint_cost.py [--pairs 5] [--epochs 3]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from keras_pipeline.checks.params import load_params
from keras_pipeline.data.splits import read_split
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.distribution import strategies
from keras_pipeline.records.observer import Observer
from keras_pipeline.training.checkpoints import Checkpoints
from keras_pipeline.training.training import Training, prepare_training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--normalized", type=Path, default=Path("data/normalized"))
    chosen = parser.parse_args()
    values = load_params(Path("params.yaml"))
    params = values.model_copy(update={"train": values.train.model_copy(update={"epochs": chosen.epochs})})
    statistics_of_data = read_statistics(chosen.normalized)
    splits = [read_split(chosen.normalized, name, statistics_of_data) for name in ("train", "validation")]
    plan = strategies.plan_training(params.train, statistics_of_data["images"], os.environ)
    ratios, shares = [], []
    with strategies.open_strategy(plan) as strategy, tempfile.TemporaryDirectory(dir=".") as folder:
        ten_classes = TaskSpec("classes", (28, 28, 1), 10)
        training = prepare_training(params, plan, strategy, splits, ten_classes, statistics_of_data["scaling"])
        seconds(training)  # the first one compiles
        for pair in range(chosen.pairs):
            without = seconds(training)
            keeper = Keeper(Checkpoints(Path(folder), {"pair": pair}))
            with_them = seconds(training, keeper)
            ratios.append(with_them / without)
            shares.append(keeper.seconds / with_them)
            print(
                f"without {without:.2f} s, with {with_them:.2f} s, of it in writing {100 * shares[-1]:.2f} %",
                flush=True,
            )
    print(
        f"median ratio {statistics.median(ratios):.4f}, median share of writing {100 * statistics.median(shares):.2f} %"
    )


class Keeper(Observer):
    """Keeps checkpoints; `seconds`: how long that took."""

    def __init__(self, kept: Checkpoints) -> None:
        self.kept, self.seconds = kept, 0.0

    def checkpoint(self, state: Any, progress: Any) -> None:
        began = time.perf_counter()
        self.kept.save(state, progress)
        self.seconds += time.perf_counter() - began


def seconds(training: Training, *observers: Observer) -> float:
    """Of the training from its first weights on."""
    from keras_pipeline.training import fit

    again = training.begun_anew(training.strategy)
    began = time.perf_counter()
    fit.fit_network(again, fit.Progress(), observers=observers, quiet=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
