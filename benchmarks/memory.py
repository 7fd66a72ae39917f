"""How much memory a training takes whose images do not fit into it: 7.5 GB of them, under a limit of a tenth.

python benchmarks/memory.py [--images 2400000] [--limit 750] [--backend tensorflow] [--folder PATH]

Writes the images (scikit-learn's digits, moved at random, with noise) as the stage normalize does, trains on them for
two epochs with the limit set as `ulimit -d` sets it, in MiB, and looks at the memory of the process every half second:
what is its own (RssAnon), without the pages of files, which the kernel takes back when it needs them.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from keras_pipeline.checks.params import load_params
from keras_pipeline.core.process import python
from keras_pipeline.data import splits
from keras_pipeline.data.scaling import fit_scaling
from keras_pipeline.data.statistics import Statistics, write_statistics
from keras_pipeline.sources import made

BLOCK = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2_400_000)
    parser.add_argument("--limit", type=int, default=750)
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--folder", type=Path, help="keeps the images there; another run finds them")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        if not (folder / "statistics.json").exists():
            print(f"writing {chosen.images:,} images …", flush=True)
            write(folder, {"train": chosen.images, "validation": 20_000, "test": 10_000})
        size = (folder / "train_images.npy").stat().st_size
        print(
            f"train_images.npy: {size / 2**20:,.0f} MiB, {size / 2**20 / chosen.limit:.1f} times the limit", flush=True
        )
        train(folder, chosen.limit, chosen.backend)


def write(folder: Path, counts: dict[str, int]) -> None:
    """The splits, and statistics.json last."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = made.digits()
    scaling = fit_scaling("unit", [])
    digests: dict[str, str] = {}
    class_counts: dict[str, list[int]] = {}
    for number, (name, count) in enumerate(counts.items()):
        random = np.random.default_rng([1, number])
        origin = random.integers(len(digits["train-labels"]), size=count)
        class_counts[name] = np.bincount(digits["train-labels"][origin], minlength=10).tolist()
        blocks = moved(digits["train-images"], origin, random)
        digests |= splits.write_split(folder, name, blocks, digits["train-labels"][origin], scaling)
    described: Statistics = {
        "dataset": "digits",  # of which they are made
        "normalize": load_params(Path("params.yaml")).normalize.model_dump(),
        "task": "classes",
        "shape": [28, 28, 1],
        "class_names": list("0123456789"),
        "scaling": scaling.constants(),
        "target": None,
        "images": counts,
        "class_counts": class_counts,
        "test_images_also_in_train": 0,
        "sha256": digests,
    }
    write_statistics(folder, described)


def moved(images: np.ndarray, origin: np.ndarray, random: np.random.Generator) -> Iterator[np.ndarray]:
    """The images of those numbers, each moved by up to 3 pixels, with noise."""
    for start in range(0, len(origin), BLOCK):
        block = images[origin[start : start + BLOCK]]
        for axis in (1, 2):
            places = (np.arange(28) + random.integers(-3, 4, (len(block), 1))) % 28
            block = np.take_along_axis(block, places[:, :, None] if axis == 1 else places[:, None, :], axis)
        noise = random.integers(0, 64, block.shape, np.uint8)
        yield np.maximum(block, noise)


def train(folder: Path, limit: int, backend: str) -> None:
    """Train for two epochs under the limit, and tell what was seen."""
    values = YAML(typ="safe", pure=True).load(Path("params.yaml").read_text())
    values["model"] |= {"architecture": "mlp", "hidden_units": [128]}
    values["fetch"]["dataset"] = "digits"
    values["train"] |= {"epochs": 2, "batch_size": 256, "backend": backend}
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "params.yaml").write_text(json.dumps(values))
        (Path(place) / "dvc.yaml").write_text("stages: {}\n")
        command = python("-m", "keras_pipeline.cli.main", "train", "--normalized", str(folder.resolve()))
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=place,
            env={**os.environ, "MLFLOW_TRACKING_URI": ""},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit * 2**20, limit * 2**20)),
        )
        seen = []
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except FileNotFoundError:
                break
            if found := re.search(r"RssAnon:\s+(\d+) kB", status):
                seen.append(int(found[1]) / 1024)
            time.sleep(0.5)
        seconds = time.monotonic() - began
    if process.wait():
        sys.exit(f"the training ended with {process.returncode}")
    quarters = [seen[len(seen) * part // 4 : len(seen) * (part + 1) // 4] for part in range(4)]
    shown = ", ".join(f"{statistics.median(quarter):.0f}" for quarter in quarters)
    print(f"{backend}: own memory at most {max(seen):.0f} MiB; medians of the quarters of its {seconds:.0f} s: {shown}")


if __name__ == "__main__":
    main()
