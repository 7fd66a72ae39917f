"""Many picture files to data/normalized: time, memory and disk of each stage, for 100,000 files of 96 × 96 pixels.

python benchmarks/own_pictures.py FOLDER [--count 100000] [--format PNG] [--stages scan fetch normalize]

FOLDER, outside of the checkout, keeps the pictures (parts of scikit-learn's two photographs, in ten folders), so that a
second call makes none; the project's files for the measurement are made anew beside them. Each stage is a process of
its own; its memory is the largest that it had at a time, as the kernel tells it.
"""

import argparse
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SIDE, CLASSES = 96, 10
ENDINGS = {"PNG": "png", "JPEG": "jpg"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--format", choices=list(ENDINGS), default="PNG")
    parser.add_argument("--stages", nargs="+", default=["scan", "fetch", "normalize"])
    chosen = parser.parse_args()
    pictures = chosen.folder.resolve() / f"{chosen.format.lower()}_{chosen.count}"
    if not pictures.exists():
        _make(pictures, chosen.count, chosen.format)
    project = chosen.folder.resolve() / "project"
    shutil.rmtree(project, ignore_errors=True)
    (project / "datasets").mkdir(parents=True)
    shipped = (HERE.parent / "params.yaml").read_text()
    (project / "params.yaml").write_text(shipped.replace("dataset: mnist", "dataset: many"))
    (project / "datasets" / "many.yaml").write_text(
        f"kind: images\npath: {pictures}\nsize: [{SIDE}, {SIDE}]\nclasses: [{', '.join(_classes())}]\n"
    )
    print(f"{chosen.count:,} files {chosen.format}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for stage in chosen.stages:
        _measure(stage, project)
    raw = chosen.count * SIDE * SIDE * 3
    for folder, size in ((name, _size(project / "data" / name)) for name in ("raw", "normalized")):
        print(f"data/{folder}: {size / 1e6:,.0f} MB, {size / raw:.3f} of the pixels")


def _classes() -> Iterator[str]:
    return (f"class_{number}" for number in range(CLASSES))


def _make(folder: Path, count: int, kind: str) -> None:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    began = time.perf_counter()
    photographs = load_sample_images().images
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in _classes():
        (unfinished / name).mkdir(parents=True)

    def write(number: int) -> None:
        chance = np.random.default_rng(number)
        photograph = photographs[number % len(photographs)]
        top, left = (int(chance.integers(length - SIDE)) for length in photograph.shape[:2])
        part = photograph[top : top + SIDE, left : left + SIDE] ^ chance.integers(0, 4, dtype=np.uint8)
        options = {"compress_level": 1} if kind == "PNG" else {"quality": 90}
        path = unfinished / f"class_{number % CLASSES}" / f"{number:06}.{ENDINGS[kind]}"
        Image.fromarray(part).save(path, kind, **options)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(write, range(count), chunksize=100))
    unfinished.rename(folder)
    print(f"{folder}: {_size(folder) / 1e6:,.0f} MB, made in {time.perf_counter() - began:.0f} s")


def _measure(stage: str, project: Path) -> None:
    began = time.perf_counter()
    process = subprocess.Popen(["keras-pipeline", stage], cwd=project, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{stage} ended with {process.returncode}")
    print(
        f"{stage}: {seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processors, "
        f"{used.ru_maxrss / 1e3:,.0f} MB of memory",
        flush=True,
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
