"""How far the same training is the same in other frameworks: the same first weights and batches, other code.

python benchmarks/frameworks.py

Reads what `keras-pipeline study run frameworks` left in studies/runs, and trains MXNet beside it, from the arrays that
those runs began with, in the environment of `make mxnet`. Of each epoch the largest difference over the seeds of the
mean training loss, over that of the baseline; of the weights in the end the largest difference over the largest weight;
of how many test images all seeds' networks answer as the baseline's; seconds of an epoch with its validation, the
median of all but each run's first.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.config.params import Params
from keras_pipeline.data import splits, task_spec
from keras_pipeline.runs.folders import Folders
from keras_pipeline.studies import results
from keras_pipeline.studies.study import load_study

HERE = Path(__file__).parent
MXNET = HERE.parent / ".venv-mxnet"
NOT_INSTALLED = "not installed: make mxnet"


@dataclass(frozen=True)
class Trained:
    """Of one training the mean training loss of each epoch, the seconds of each but the first, the weights in the end,
    and the class that they answer for each test image."""

    losses: Sequence[float]
    seconds: Sequence[float]
    weights: Sequence[NDArray[Any]]
    answers: NDArray[Any]


def main() -> None:
    study, folders = load_study(Path("studies/frameworks.yaml"), Path("params.yaml")), Folders(Path("studies"))
    trained: dict[str, dict[int, Trained]] = {}
    for result in results.collect_results(study.runs, folders.run):
        trained.setdefault(result.variant, {})[result.seed] = _left(result)
    baseline = study.asked.baseline
    if baseline not in trained:
        sys.exit("No run of the baseline is done. Run `keras-pipeline study run frameworks --jobs 1` first.")
    trained["MXNet"] = {}
    for run in study.runs if is_installed() else ():
        if run.variant == baseline:
            trained["MXNet"][run.seed] = with_mxnet(given(run.params, folders.normalized(run.params)))
    print("\n".join([*compared(trained, baseline), "", *timed(trained)]))
    print(f"\n{cores()} cores; MXNet with a thread for each, as the others have by themselves.")


def compared(trained: Mapping[str, Mapping[int, Trained]], baseline: str) -> list[str]:
    """A table of how far each is from the baseline, over the seeds that both have."""
    against = trained[baseline]
    epochs = len(next(iter(against.values())).losses)
    heads = [f"beside {baseline}", *(f"epoch {epoch}" for epoch in range(1, epochs + 1)), "weights", "same answers"]
    lines = [_row(heads), "|---" * len(heads) + "|"]
    for name, runs in trained.items():
        pairs = [(runs[seed], against[seed]) for seed in sorted(runs.keys() & against.keys())]
        if name == baseline:
            continue
        if not pairs:
            lines.append(_row([name, NOT_INSTALLED, *[""] * (len(heads) - 2)]))
            continue
        losses = np.array([[one.losses for one in pair] for pair in pairs])  # (seeds, 2, epochs)
        apart = np.max(np.abs(losses[:, 0] / losses[:, 1] - 1), axis=0)
        weights = max(_apart(ours.weights, theirs.weights) for ours, theirs in pairs)
        same = min(int((ours.answers == theirs.answers).sum()) for ours, theirs in pairs)
        cells = [*(f"{value:.0e}" for value in [*apart, weights]), f"{same:,} of {len(pairs[0][0].answers):,}"]
        lines.append(_row([name, *cells]))
    return lines


def timed(trained: Mapping[str, Mapping[int, Trained]]) -> list[str]:
    """A table of the seconds of an epoch."""
    lines = [_row(["", "seconds of an epoch"]), "|---|---|"]
    for name, runs in trained.items():
        seconds = [second for one in runs.values() for second in one.seconds]
        lines.append(_row([name, f"{statistics.median(seconds):.2f}" if seconds else NOT_INSTALLED]))
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _apart(ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]) -> float:
    largest = max(float(np.abs(one).max()) for one in theirs)
    return max(float(np.abs(one - other).max()) for one, other in zip(ours, theirs, strict=True)) / largest


def _left(result: results.RunResult) -> Trained:
    """What a run of the study left."""
    import keras

    history = result.record["history"]
    with np.load(result.folder / "reports" / "predictions.npz", allow_pickle=False) as saved:
        answers = task_spec.predicted_classes(saved["outputs"])
    return Trained(
        losses=[epoch["train/loss"] for epoch in history],
        seconds=[later["time"] - earlier["time"] for earlier, later in pairwise(history)],
        weights=keras.saving.load_model(result.folder / "models" / "model.keras").get_weights(),
        answers=answers,
    )


def given(params: Params, normalized: Path) -> dict[str, Any]:
    """All that a training of dense layers with plain SGD on the cross-entropy begins with, as arrays: see
    peer_mxnet.py."""
    from keras_pipeline.data.statistics import read_statistics
    from keras_pipeline.models import architectures
    from keras_pipeline.training import batches, compilation

    statistics = read_statistics(normalized)
    arrays: dict[str, Any] = {}
    for name in ("train", "validation", "test"):
        split = splits.read_split(normalized, name, statistics)
        arrays[f"{name}_images"] = split.scaled().reshape(len(split.inputs), -1)
        arrays[f"{name}_labels"] = split.targets
    asked = task_spec.task_spec_from(statistics)
    network = architectures.build_network(params.model, asked.shape, asked.outputs, seed=params.seed)
    compilation.draw_weights(network, params.seed)
    count = len(arrays["train_labels"])
    return {
        **arrays,
        **{f"weights_{number}": array for number, array in enumerate(network.get_weights())},
        "orders": [batches.batch_order(count, params.seed, epoch) for epoch in range(params.train.epochs)],
        "batch_size": params.train.batch_size,
        "learning_rate": params.train.optimizer.learning_rate,
        "activation": params.model.activation,
    }


def with_mxnet(arrays: Mapping[str, Any]) -> Trained:
    """Train with MXNet, in its own environment: a process that is given these arrays and gives arrays back."""
    with tempfile.TemporaryDirectory() as folder:
        began, ended = Path(folder, "given.npz"), Path(folder, "trained.npz")
        np.savez(began, **arrays)
        done = subprocess.run(
            [MXNET / "bin" / "python", HERE / "peer_mxnet.py", began, ended],
            env={**os.environ, "OMP_NUM_THREADS": str(cores())},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"peer_mxnet.py failed ({done.returncode}):\n{done.stderr[-2000:]}")
        with np.load(ended, allow_pickle=False) as left:
            weights = [left[name] for name in arrays if name.startswith("weights_")]
            return Trained(left["losses"].tolist(), left["seconds"][1:].tolist(), weights, left["answers"])


def is_installed() -> bool:
    """Whether `make mxnet` has made its environment."""
    return (MXNET / ".ready").is_file()


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    main()
