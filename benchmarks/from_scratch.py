"""train.engine: numpy beside keras, on this machine, now: how far their weights are apart, and the seconds of an epoch.

python benchmarks/from_scratch.py agreement | speed | nielsen [--normalized data/normalized] [--rounds 3]

agreement: the largest difference of two weights over the largest weight, after so many steps of batches of 32, and
the difference of val/loss over val/loss at the end.
speed: of an epoch with its validation and its checkpoint; the median of the rounds, each the third epoch of a training.
nielsen: examples/nielsen.yaml with the first weights of his book, by from_scratch alone: right answers of each epoch.
"""

import argparse
import itertools
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from keras_pipeline.checks.params import load_params
from keras_pipeline.config import params
from keras_pipeline.data.splits import read_split
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.distribution import strategies
from keras_pipeline.records.observer import Observer
from keras_pipeline.training.checkpoints import Checkpoints
from keras_pipeline.training.engines import from_scratch
from keras_pipeline.training.training import prepare_training

NIELSEN = {"output_activation": "sigmoid", "activation": "sigmoid"}, "mean_squared_error", 15.0, {}
USUAL = {"output_activation": "softmax", "activation": "relu"}, "categorical_crossentropy", 0.01, {"momentum": 0.9}
NETWORKS = {"784-30-10": (30, *NIELSEN), "784-128-10": (128, *USUAL)}
ENGINES = {
    "NumPy": {"engine": "numpy"},
    "Keras, fused": {"engine": "keras", "fused": True},
    "Keras, step by step": {"engine": "keras", "fused": False},
}
LOOKS = (1, 10, 100)
EPOCHS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("agreement", "speed", "nielsen"))
    parser.add_argument("--normalized", type=Path, default=Path("data/normalized"))
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.what == "agreement":
        agreement(chosen.normalized)
    elif chosen.what == "speed":
        speed(chosen.normalized, chosen.rounds)
    else:
        nielsen(chosen.normalized)


def agreement(normalized: Path) -> None:
    print("| network | two ways | 1 step | 10 steps | 100 steps | 5 epochs | val/loss |\n|---|---|---|---|---|---|---|")
    for network in NETWORKS:
        trained = {}
        for name, engine in ENGINES.items():
            states: list[Any] = []
            change = {"epochs": EPOCHS, "batch_size": 32, "checkpoint_steps": 1, **engine}
            history = train(normalized, network, change, lambda state, states=states: states.append(weights(state)))
            trained[name] = [*(states[steps - 1] for steps in LOOKS), states[-1]], history[-1]["val/loss"]
        for one, other in itertools.combinations(ENGINES, 2):
            (ours, loss), (theirs, their_loss) = trained[one], trained[other]
            apart = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs, strict=True)]
            cells = " | ".join(f"{value:.0e}" for value in [*apart, abs(loss - their_loss) / their_loss])
            print(f"| {network} | {one}; {other} | {cells} |", flush=True)


def weights(state: dict[str, Any]) -> Any:
    return np.concatenate([one.ravel() for name, one in state.items() if name.startswith("trainable/")])


def speed(normalized: Path, rounds: int) -> None:
    print("| network | batch | " + " | ".join(ENGINES) + " |\n|---|---|---|---|---|")
    for network in NETWORKS:
        for batch in (10, 128):
            seconds: dict[str, list[float]] = {name: [] for name in ENGINES}
            for _ in range(rounds):
                for name, engine in ENGINES.items():
                    with tempfile.TemporaryDirectory() as folder:
                        kept = Checkpoints(Path(folder), {})
                        change = {"epochs": 3, "batch_size": batch, **engine}
                        history = train(normalized, network, change, lambda state, kept=kept: kept.save(state, {}))
                    seconds[name].append(history[2]["time"] - history[1]["time"])
            medians = " | ".join(f"{statistics.median(times):.2f} s" for times in seconds.values())
            print(f"| {network} | {batch} | {medians} |", flush=True)


def nielsen(normalized: Path) -> None:
    """Weights and biases are drawn from a normal distribution of mean 0 and deviation 1."""
    images, targets, test_images, test_targets = (
        array
        for split in (read_split(normalized, name, read_statistics(normalized)) for name in ("train", "test"))
        for array in (split.scaled().reshape(-1, 784), np.eye(10, dtype=np.float32)[split.targets])
    )
    chance = np.random.default_rng(1)
    arrays = [chance.standard_normal(size, np.float32) for size in ((784, 30), 30, (30, 10), 10)]
    layers = [from_scratch.Layer(*arrays[:2], "sigmoid"), from_scratch.Layer(*arrays[2:], "sigmoid")]
    network = from_scratch.Network(layers, "mean_squared_error")
    velocities = [np.zeros_like(one) for one in network.parameters]
    for epoch in range(1, 31):
        order = chance.permutation(len(images))
        for start in range(0, len(order), 10):
            own = order[start : start + 10]
            from_scratch.step(network, velocities, images[own], targets[own], 15.0, 0.0)
        _, right = from_scratch.evaluate(network, test_images, test_targets)
        print(f"epoch {epoch}: {right} of {len(test_images)}", flush=True)


def train(normalized: Path, network: str, change: dict[str, Any], save: Any) -> list[dict[str, float]]:
    """The rows of a training with the shipped params, this network and these values of the block train."""
    shipped = load_params(Path(__file__).parents[1] / "params.yaml")
    units, model_change, loss, rate, arguments = NETWORKS[network]
    plain = {"architecture": "mlp", "hidden_units": (units,), "dropout": 0.0, "batch_normalization": False, "l2": 0.0}
    model = shipped.model.model_copy(update=plain | model_change)
    values = shipped.train.model_dump(exclude_unset=True, mode="json") | {"loss": loss, **change}
    values["optimizer"] = {"name": "sgd", "learning_rate": rate, **arguments}
    values["schedule"]["name"] = "constant"
    values["early_stopping"]["patience"] = 0
    chosen = params.Train.model_validate(values, strict=False)
    statistics = read_statistics(normalized)
    splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
    plan = strategies.plan_training(chosen, statistics["images"], os.environ)
    all_params = shipped.model_copy(update={"seed": 1, "model": model, "train": chosen})
    ten_classes = TaskSpec("classes", (28, 28, 1), 10)

    class Keeper(Observer):
        def checkpoint(self, state: Any, progress: Any) -> None:
            save(state)

    with strategies.open_strategy(plan) as strategy:
        from keras_pipeline.training import fit

        progress = fit.Progress()
        training = prepare_training(all_params, plan, strategy, splits, ten_classes, statistics["scaling"])
        fit.fit_network(training, progress, observers=[Keeper()], quiet=True)
    return progress.history


if __name__ == "__main__":
    main()
