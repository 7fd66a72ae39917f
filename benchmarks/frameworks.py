"""How long the runs of a study agree with its baseline, seed by seed: same first weights, same batches, other code.

python benchmarks/frameworks.py [STUDY]

Reads what `keras-pipeline study run frameworks` left in studies/runs. Of each epoch the largest difference over the
seeds of the mean training loss, over that of the baseline; of the weights kept in the end the largest difference over
the largest weight; seconds of an epoch, the median of all but each run's first.
"""

import argparse
import os
import statistics
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_pipeline import answer, studies
from keras_pipeline.study_folders import Folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default="frameworks")
    study = studies.load(Path("studies", f"{parser.parse_args().study}.yaml"), Path("params.yaml"))
    by_variant: dict[str, dict[int, answer.Result]] = {}
    for result in answer.results(study.runs, Folders(Path("studies")).run):
        by_variant.setdefault(result.variant, {})[result.seed] = result
    baseline = by_variant.pop(study.asked.baseline)
    epochs = len(next(iter(baseline.values())).record["history"])
    print(f"| beside {study.asked.baseline} |", *(f"epoch {epoch} |" for epoch in range(1, epochs + 1)), "weights |")
    print("|---" * (epochs + 2) + "|")
    for name, runs in by_variant.items():
        pairs = [(runs[seed], baseline[seed]) for seed in sorted(runs.keys() & baseline.keys())]
        losses = np.array([[_losses(one) for one in pair] for pair in pairs])  # (seeds, 2, epochs)
        apart = np.max(np.abs(losses[:, 0] / losses[:, 1] - 1), axis=0)
        weights = max(_apart(*(_weights(one) for one in pair)) for pair in pairs)
        print(f"| {name} |", *(f"{value:.0e} |" for value in apart), f"{weights:.0e} |")
    print("\n| | seconds of an epoch |\n|---|---|")
    for name, runs in {study.asked.baseline: baseline, **by_variant}.items():
        print(f"| {name} | {statistics.median(second for one in runs.values() for second in _seconds(one)):.2f} |")


def _losses(one: answer.Result) -> list[float]:
    return [epoch["train/loss"] for epoch in one.record["history"]]


def _seconds(one: answer.Result) -> Iterator[float]:
    ends = [epoch["time"] for epoch in one.record["history"]]
    return (later - earlier for earlier, later in pairwise(ends))


def _weights(one: answer.Result) -> list[Any]:
    return list(keras.saving.load_model(one.folder / "models" / "model.keras").get_weights())


def _apart(ours: list[Any], theirs: list[Any]) -> float:
    largest = max(float(np.abs(one).max()) for one in theirs)
    return max(float(np.abs(one - other).max()) for one, other in zip(ours, theirs, strict=True)) / largest


if __name__ == "__main__":
    main()
