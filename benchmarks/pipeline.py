"""The whole tracked pipeline beside the bare Keras script: `dvc repro` from data/raw to the finished MLflow run, with
everything that it writes, and bare_keras.py, which trains the same network as long and writes nothing.

python benchmarks/pipeline.py [--pairs 5]

In a clone of this checkout, with another seed each time, so that nothing is taken from a cache. Both are cold
processes; wall time. KERAS_PIPELINE_MIRRORS may name a folder with the MNIST files.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "checkout"
        _seconds(["git", "clone", "--quiet", str(HERE.parent), str(clone)], Path(folder))
        shipped = (clone / "params.yaml").read_text()
        epochs = re.search(r"(?m)^  epochs: (\d+)", shipped)[1]
        _seconds(["dvc", "repro", "--quiet", "fetch"], clone)
        bare = [sys.executable, str(HERE / "bare_keras.py"), "default", "--batch", "256", "--epochs", epochs]
        ratios = []
        for pair in range(chosen.pairs):
            (clone / "params.yaml").write_text(re.sub(r"(?m)^( *(?:split_)?seed): \d+", rf"\1: {100 + pair}", shipped))
            ours, theirs = _seconds(["dvc", "repro", "--quiet"], clone), _seconds(bare, clone)
            ratios.append(ours / theirs)
            print(f"dvc repro {ours:.1f} s, bare script {theirs:.1f} s: {ratios[-1]:.2f}", flush=True)
    print(f"median ratio of {chosen.pairs} pairs: {statistics.median(ratios):.2f}")


def _seconds(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
