"""Seconds of an epoch of the pipeline beside those of others, on this machine, now: each case in turn, again and again.

python benchmarks/epochs.py [--rounds 5] [--epochs 4] [--network NAME] [--output benchmarks/epochs.md]

One round runs every program once for each network; the time of a program is the median of its epochs after the
first, which compiles. A ratio is that of two programs of one round; the table shows the medians of all rounds. The
limit is what the matrix products alone take: their number over the rate of one large product in NumPy.
"""

import argparse
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import networks
import numpy as np

HERE = Path(__file__).parent
CASES = (("784-128-10", 32), ("784-128-10", 128), ("regularized", 128), ("default", 256), ("cnn", 256))
PROGRAMS = {
    "ours": ["ours.py"],
    "ours, augmented": ["ours.py", "--augmented"],
    "ours, step by step": ["ours.py", "--stepwise"],
    "Keras' fit on TensorFlow": ["bare_keras.py"],
    "PyTorch, the usual loop": ["bare_torch.py"],
    "JAX by hand": ["bare_jax.py"],
}
FOR_CNN = ("ours", "ours, augmented", "ours, step by step", "Keras' fit on TensorFlow")
NEEDS = {"PyTorch, the usual loop": "torch", "JAX by hand": "jax"}
LIMIT = "matrix products alone"
IMAGES = 60_000 - networks.VALIDATION


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--network", choices=[network for network, _ in CASES], help="only this one")
    parser.add_argument("--output", type=Path, default=HERE / "epochs.md")
    chosen = parser.parse_args()
    cases = [case for case in CASES if chosen.network in (None, case[0])]
    seconds: dict[tuple[str, int], dict[str, list[float]]] = {case: {} for case in cases}
    for number in range(1, chosen.rounds + 1):
        for case in cases:
            network, batch = case
            for name, program in PROGRAMS.items():
                if network in networks.CNN and name not in FOR_CNN:
                    continue
                if name in NEEDS and not importlib.util.find_spec(NEEDS[name]):
                    continue
                options = [network, "--batch", str(batch), "--epochs", str(chosen.epochs)]
                seconds[case].setdefault(name, []).append(_run([*program, *options]))
            if network in networks.NETWORKS:
                seconds[case].setdefault(LIMIT, []).append(_products(network) / _rate())
            latest = ", ".join(f"{name} {times[-1]:.2f} s" for name, times in seconds[case].items())
            print(f"round {number}: {network}, batch {batch}: {latest}", flush=True)
    text = "\n".join(_table(seconds, chosen.rounds))
    print(text)
    chosen.output.write_text(text + "\n")


def _run(program: list[str]) -> float:
    done = subprocess.run(
        [sys.executable, HERE / program[0], *program[1:]], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(program)} failed:\n{done.stderr[-2000:]}")
    return statistics.median(json.loads(done.stdout.splitlines()[-1])["seconds"][1:])


def _products(network: str) -> float:
    """Floating-point operations of an epoch's matrix products: outputs, gradients of weights, and, but for the first
    layer, of inputs."""
    sizes = [784, *networks.NETWORKS[network][0], 10]
    weights = [inputs * outputs for inputs, outputs in itertools.pairwise(sizes)]
    return 2.0 * IMAGES * (3 * sum(weights) - weights[0])


def _rate() -> float:
    """Floating-point operations a second of one large product."""
    size = 2048
    matrix = np.random.default_rng(1).random((size, size), np.float32)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - began)
    return 2.0 * size**3 / statistics.median(times)


def _table(seconds: dict[tuple[str, int], dict[str, list[float]]], rounds: int) -> list[str]:
    lines = [
        f"Seconds of an epoch of {IMAGES:,} images, Adam, medians of {rounds} rounds, and in brackets how many times "
        f"as long as ours in the same round. {os.cpu_count()} cores, {platform.system()} {platform.machine()}.",
        "",
        "| network, batch | " + " | ".join([*PROGRAMS, LIMIT]) + " |",
        "|---" * (len(PROGRAMS) + 2) + "|",
    ]
    for (network, batch), times in seconds.items():
        cells = []
        for name in [*PROGRAMS, LIMIT]:
            if name not in times:
                cells.append("–" if network in networks.CNN else "not installed")
                continue
            ratio = statistics.median(one / own for one, own in zip(times[name], times["ours"], strict=True))
            cells.append(f"{statistics.median(times[name]):.2f}" + (f" ({ratio:.2f})" if name != "ours" else ""))
        lines.append(f"| {network}, {batch} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
