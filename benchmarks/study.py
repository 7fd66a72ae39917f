"""A study beside as many experiments of DVC, one after the other: the same runs, all of them tracked.

python benchmarks/study.py [--runs 12] [--epochs 5] [--pairs 1]

In a clone of this checkout, with other seeds in every pair, so that nothing is taken from a cache. Wall time.
KERAS_PIPELINE_MIRRORS may name a folder with the MNIST files.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from keras_pipeline.core.process import python

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=1)
    chosen = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "checkout"
        _seconds(["git", "clone", "--quiet", str(HERE.parent), str(clone)], Path(folder))
        _seconds(["dvc", "repro", "--quiet", "normalize"], clone)
        for pair in range(chosen.pairs):
            seeds = range(100 * (pair + 1), 100 * (pair + 1) + chosen.runs)
            study = clone / "studies" / f"seeds-{pair}.yaml"
            study.parent.mkdir(exist_ok=True)
            asked = {
                "question": "How much do seeds differ?",
                "seeds": list(seeds),
                "baseline": "a",
                "variants": {"a": {"train.epochs": chosen.epochs}},
            }
            study.write_text(json.dumps(asked))
            command = python("-m", "keras_pipeline.cli.main", "study", "run", study.stem)
            ours, theirs = _seconds(command, clone), 0.0
            for seed in seeds:
                changes = ["-S", f"seed={seed}", "-S", f"train.epochs={chosen.epochs}"]
                theirs += _seconds(["dvc", "exp", "run", "--quiet", *changes], clone)
            ratios.append(ours / theirs)
            print(f"study {ours:.0f} s, dvc exp run {theirs:.0f} s: {ratios[-1]:.2f}", flush=True)
    print(f"median ratio of {chosen.pairs} pairs, {chosen.runs} runs each: {statistics.median(ratios):.2f}")


def _seconds(command: list[str], folder: Path) -> float:
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
