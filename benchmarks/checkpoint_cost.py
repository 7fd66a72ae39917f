"""What checkpoints cost: trainings with and without them in turn, of the shipped params on data/normalized.

python benchmarks/checkpoint_cost.py [--pairs 5] [--epochs 3]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from keras_pipeline.checks.params import load_params
from keras_pipeline.config.datasets import IMAGE_SHAPE
from keras_pipeline.core import files
from keras_pipeline.data.splits import read_split
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.distribution import strategies
from keras_pipeline.training.checkpoints import Checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--normalized", type=Path, default=Path("data/normalized"))
    chosen = parser.parse_args()
    values = load_params(Path("params.yaml"))
    train = values.train.model_copy(update={"epochs": chosen.epochs})
    statistics_of_data = files.read_json(chosen.normalized / "statistics.json", "normalize")
    splits = [read_split(chosen.normalized, name, statistics_of_data) for name in ("train", "validation")]
    plan = strategies.plan_training(train, statistics_of_data["images"], os.environ)
    strategies.set_environment(plan)
    place = strategies.open_strategy(plan)

    from keras_pipeline.training import batches, compilation, fit, state

    weights = batches.class_weights(splits[0].targets, 10, train.class_weights)
    data = batches.Data(splits[0], splits[1], weights, values.seed, plan.batch_size, plan.validation_batch)
    in_saves = [0.0]

    def seconds(kept: Checkpoints | None) -> float:
        def save(state: state.TrainingState, progress: dict[str, object]) -> None:
            began = time.perf_counter()
            if kept:
                kept.save(state, progress)
            in_saves[0] += time.perf_counter() - began

        model = compilation.new_network(
            values.model, train, values.seed, place, data.steps, TaskSpec("classes", IMAGE_SHAPE, 10)
        )
        began = time.perf_counter()
        fit.fit_network(model, place, data, train, fit.FitHooks(save=save, quiet=True), fit.Progress())
        return time.perf_counter() - began

    seconds(None)  # the first one compiles
    ratios, shares = [], []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for pair in range(chosen.pairs):
            without = seconds(None)
            in_saves[0] = 0.0
            with_them = seconds(Checkpoints(Path(folder), {"pair": pair}))
            ratios.append(with_them / without)
            shares.append(in_saves[0] / with_them)
            print(
                f"without {without:.2f} s, with {with_them:.2f} s, of it in writing {100 * shares[-1]:.2f} %",
                flush=True,
            )
    print(
        f"median ratio {statistics.median(ratios):.4f}, median share of writing {100 * statistics.median(shares):.2f} %"
    )


if __name__ == "__main__":
    main()
