"""Images that do not fit into memory, from data/raw to a trained and evaluated network: time, memory and disk.

python benchmarks/large_data.py FOLDER [--count 100000] [--shape 96 96 3] [--classes 10] [--stages normalize train …]
                                       [--limit MIB] [--param KEY=VALUE …]

FOLDER, outside of the checkout, keeps data/raw, whose images are noise that a class makes brighter here and there, so
that a second call makes none. Each stage is a process of its own. Of its memory two figures are told: the largest that
it had at a time, as the kernel tells it, which counts the pages of files too, and the largest that was its own
(RssAnon), looked at ten times a second. `--limit`: of its own memory, as `ulimit -d` sets it.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

HERE = Path(__file__).parent
BLOCK = 500
CHANGES = {
    "fetch.dataset": "large",
    "model.architecture": "mlp",
    "model.hidden_units": [16],
    "train.epochs": 1,
    "train.schedule.name": "constant",
    "export.formats": [],
}
"""Of the shipped params."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100_000, help="of training and test images, a tenth for the test")
    parser.add_argument("--shape", type=int, nargs=3, default=[96, 96, 3])
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--stages", nargs="+", default=["normalize", "train", "evaluate"])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--param", nargs="+", default=[], help="such as train.backend=jax")
    chosen = parser.parse_args()
    project = chosen.folder.resolve()
    described = [chosen.count, chosen.shape, chosen.classes]
    made = project / "made.json"
    if not made.exists() or json.loads(made.read_text()) != described:
        shutil.rmtree(project / "data", ignore_errors=True)
        _make(project / "data" / "raw", *described)
        made.write_text(json.dumps(described))
    _write_project(project, chosen.shape, chosen.classes, chosen.param)
    print(
        f"{chosen.count:,} images {chosen.shape}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True
    )
    for stage in chosen.stages:
        _measure(stage, project, chosen.limit)
    raw, normalized = (_size(project / "data" / name) for name in ("raw", "normalized"))
    print(f"data/raw {raw / 1e6:,.0f} MB, data/normalized {normalized / 1e6:,.0f} MB, {normalized / raw:.3f} of it")


def _make(raw: Path, count: int, shape: list[int], classes: int) -> None:
    from keras_pipeline.core.files import file_sha256

    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    bright = random.integers(0, 64, (classes, *shape), np.uint8)
    images = {"train": count - count // 10, "test": count // 10}
    for split, size in images.items():
        labels = random.integers(classes, size=size)
        np.save(raw / f"{split}_labels.npy", labels)
        pixels = np.lib.format.open_memmap(raw / f"{split}_images.npy", "w+", np.uint8, (size, *shape))
        for start in range(0, size, BLOCK):
            own = bright[labels[start : start + BLOCK]]
            pixels[start : start + BLOCK] = own + random.integers(0, 192, own.shape, np.uint8)
            pixels.flush()
    description = {
        "format": 2, "name": "large", "title": "noise", "licence": "CC0 1.0", "definition": "0" * 64,
        "input": {"kind": "images", "shape": shape, "dtype": "|u1", "low": 0.0, "high": 255.0},
        "class_names": _classes(classes), "drawing": None, "preparation": None, "images": images, "left_out": 0,
        "source": None, "facts": {}, "origins": [],
        "files": {
            path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size} for path in sorted(raw.iterdir())
        },
    }  # fmt: skip
    (raw / "dataset.json").write_text(json.dumps(description))


def _classes(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


def _write_project(project: Path, shape: list[int], classes: int, params: list[str]) -> None:
    values = YAML(typ="safe", pure=True).load((HERE.parent / "params.yaml").read_text())
    for key, value in {**CHANGES, **dict(one.split("=", 1) for one in params)}.items():
        *blocks, last = key.split(".")
        block = values
        for name in blocks:
            block = block[name]
        block[last] = YAML(typ="safe", pure=True).load(value) if isinstance(value, str) else value
    (project / "params.yaml").write_text(json.dumps(values))
    (project / "dvc.yaml").write_text("stages: {}\n")
    (project / "datasets").mkdir(exist_ok=True)
    colour = "rgb" if shape[2] == 3 else "grey"
    (project / "datasets" / "large.yaml").write_text(
        json.dumps(
            {"kind": "images", "path": "none", "size": shape[:2], "colour": colour, "classes": _classes(classes)}
        )
    )


def _measure(stage: str, project: Path, limit: int | None) -> None:
    def limited() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_DATA, (limit * 2**20, limit * 2**20))

    began, own = time.monotonic(), 0.0
    environment = {**os.environ, "MLFLOW_TRACKING_URI": ""}
    process = subprocess.Popen(["keras-pipeline", stage], cwd=project, env=environment, preexec_fn=limited)
    status = Path(f"/proc/{process.pid}/status")
    while True:
        if found := re.search(r"RssAnon:\s+(\d+) kB", status.read_text()):
            own = max(own, int(found[1]) / 1e3)
        done, code, used = os.wait4(process.pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit(f"{stage} ended with {process.returncode}")
    print(
        f"{stage}: {time.monotonic() - began:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processors, "
        f"{used.ru_maxrss / 1e3:,.0f} MB of memory at most, {own:,.0f} MB of its own",
        flush=True,
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
