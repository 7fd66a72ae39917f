"""The pipeline on one NVIDIA GPU, with JAX and PyTorch and without TensorFlow: how fast, and whether it is the same.

python benchmarks/gpu.py [--raw FOLDER] [--output gpu.md] [--seconds 460] [--small] [--section NAME] [--network NAME]

Six sections: the card's measured peak; seconds of an epoch of five programs; trainings on the CPU against the same on
the GPU; the bytes of two trainings at each level of reproducibility; sixteen seeds as one program; a training killed
and resumed. The result is a Markdown table and, beside it, all numbers as JSON: both are written anew after every case,
so whatever ends this script leaves what was measured until then. It ends after `--seconds`, whatever happens; what no
time was left for is listed as such, and so is what failed, with the error's last line. Each program runs in a process
of its own. Without a GPU everything runs on the CPU, which `--small` makes bearable.

Images: `--raw` as `dvc repro fetch` writes it, or, where that is not given, the files of a folder or mirror that
KERAS_PIPELINE_MIRRORS names; `--small` needs none. On a machine without Keras and a network, carry the packages:
docs/gpu.md has the command.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
sys.path.insert(0, str(SOURCE))

import gpu_bare
import numpy as np

from keras_pipeline.core import files

Row = dict[str, Any]
IMAGES = 53_760
"""Whole batches of every size below, so that no program compiles twice."""
VALIDATION = 6_000
PARTS = 5_120
"""Training images where bytes are compared and not times."""
LEAST_SECONDS = 12
"""What a process needs to begin with: less left is none."""
CELL_SECONDS = 75
"""How long one case may say nothing."""
SECTIONS = ("peak", "conformance", "reproducibility", "resume", "speed", "together")
WAITING, DONE, FAILED, NO_TIME, ABSENT = "not reached", "done", "failed", "no time was left", "not installed"


def network(units: Sequence[int], batch: int, *, filters: Sequence[int] = (), regularized: bool = True) -> Row:
    """As `gpu_bare.kernels` reads it."""
    return {"units": list(units), "filters": list(filters), "regularized": regularized, "batch": batch}


NETWORKS = {
    "784-128-10; 32": network([128], 32, regularized=False),
    "784-128-10; 128": network([128], 128, regularized=False),
    "regularized; 128": network([256, 128], 128),
    "default; 256": network([512, 256], 256),
    "cnn; 256": network([512, 256], 256, filters=[32, 64, 128]),
    "cnn, twice the filters; 256": network([512, 256], 256, filters=[64, 128, 256]),
}
"""By name and batch; those of `networks.py`, the architecture `cnn` of params.yaml, and a wider one."""
PRECISIONS = ("float32", "mixed_bfloat16")
PEAKS = {"float32": "float32", "mixed_bfloat16": "bfloat16"}
PROGRAMS: dict[str, Row] = {
    "Keras on JAX, fused": {"program": "speed", "backend": "jax", "fused": True},
    "Keras on JAX, step by step": {"program": "speed", "backend": "jax", "fused": False},
    "Keras on PyTorch": {"program": "speed", "backend": "torch", "fused": False},
    "PyTorch, the usual loop": {"program": "torch_loop", "backend": "torch"},
    "JAX by hand": {"program": "jax_by_hand", "backend": "jax"},
}
LEVELS = ("deterministic", "seeded", "fast")
BACKENDS = ("jax", "torch")
FEATURES = ("plain", "synchronized", "augmentation", "mixed_bfloat16", "dropout", "cnn")
"""Of `keras-pipeline conformance`, but for the last; Dropout's masks are the device's own on PyTorch."""
CONVOLUTIONS = {"model.architecture": "cnn", "model.filters": [16, 32]}
"""Without BatchNormalization: with it, one rounding turns a unit on or off, and soon the weights are others."""


@dataclass
class Job:
    """What one process works through; a new one goes on where it dies. The rows hold the cells and their results."""

    task: Row
    rows: list[Row]


class Bench:
    """The rows of all cases, the files they are written to, and the time that is left."""

    def __init__(self, chosen: argparse.Namespace, folder: Path, began: float) -> None:
        self.chosen, self.folder, self.began = chosen, folder, began
        self.ends = began + chosen.seconds
        self.lock = threading.RLock()
        self.stopped = threading.Event()
        self.rows: list[Row] = []
        self.card = card()
        self.count = 0
        self.threads: int | None = None
        self.ended = False

    def add(self, section: str, **key: Any) -> Row:
        """A case that is to be run."""
        row = {"section": section, **key, "state": WAITING}
        if section in (self.chosen.section or SECTIONS):
            self.rows.append(row)
        return row

    def job(self, rows: Sequence[Row], **task: Any) -> Job:
        """Of those rows that were asked for."""
        asked = [row for row in rows if any(row is one for one in self.rows)]
        return Job({"device": "gpu" if self.card else "auto", **task}, asked)

    def told(self, row: Row, state: str, found: Mapping[str, Any] = {}) -> None:
        """A case has ended: keep it, write everything, say so."""
        with self.lock:
            row.update(found, state=state)
            self.write()
            label = ", ".join(str(row[name]) for name in LABELS if name in row)
            print(f"{time.monotonic() - self.began:5.0f} s  {label}: {shown(row)}", flush=True)

    def write(self) -> None:
        """Both files, each complete or as it was."""
        with self.lock:
            kept = [{name: value for name, value in row.items() if name != "cell"} for row in self.rows]
            conditions = {**self.conditions(), "complete": self.ended}
            lines = tables(self.rows, conditions, self.chosen.seconds)
            text = "".join(f"{line.rstrip()}\n" for line in lines)
            files.write_atomically(self.chosen.output, text.encode())
            content = json.dumps({"conditions": conditions, "rows": kept}, indent=1)
            files.write_atomically(self.chosen.output.with_suffix(".json"), content.encode())

    def conditions(self) -> Row:
        """On what this was measured."""
        names = ("keras", "jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin", "torch", "numpy", "tensorflow")
        found = {}
        for name in names:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {
            "card": self.card,
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "versions": found,
            "images": self.chosen.images,
            "small": self.chosen.small,
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.began, 1),
        }

    def run(self, job: Job, ends: float) -> None:
        """Work through a job until the time `ends`, in one process, or in several where one dies."""
        waiting = list(job.rows)
        backend = job.task["backend"]
        if waiting and not importlib.util.find_spec(backend):
            for row in waiting:
                self.told(row, ABSENT)
            return
        while waiting and not self.stopped.is_set():
            if ends - time.monotonic() < min(LEAST_SECONDS, self.chosen.seconds / 10):
                for row in waiting:
                    self.told(row, NO_TIME)
                return
            before = len(waiting)
            code, reason, killed = self._process(job, waiting, ends)
            if not waiting or killed or self.stopped.is_set():
                continue
            if reason == NO_TIME:
                for row in waiting:
                    self.told(row, NO_TIME)
                return
            if reason and "run" in waiting[0]:  # the other runs of the same training would take as long
                lost = [row for row in waiting if row["network"] == waiting[0]["network"]]
            else:  # what was in work died with the process; where nothing was reported, the rest would too
                lost = waiting[: 1 if reason or len(waiting) < before else None]
            for row in lost:
                self.told(row, FAILED, {"error": reason or f"exit code {code}: {job.task['last']}"})
            waiting = waiting[len(lost) :]

    def _process(self, job: Job, waiting: list[Row], ends: float) -> tuple[int, str, bool]:
        """One process of a job, whose rows are taken out of `waiting` as they are done: its exit code, why it was
        ended from here, if it was, and whether it was to kill itself and did."""
        with self.lock:
            self.count += 1
            base = self.folder / f"process-{self.count}"
        lines, log = base.with_suffix(".lines"), base.with_suffix(".log")
        lines.touch()
        rows = {number: row for number, row in enumerate(job.rows) if any(row is one for one in waiting)}
        task = {
            **job.task, "data": str(self.folder), "lines": str(lines), "parent": os.getpid(),
            "cells": [(number, row["cell"]) for number, row in rows.items()],
        }  # fmt: skip
        base.with_suffix(".json").write_text(json.dumps(task))
        environ = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environ["PYTHONPATH"] = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
        if self.threads:
            environ.setdefault("OMP_NUM_THREADS", str(self.threads))
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, HERE / "gpu_work.py", base.with_suffix(".json")],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ, start_new_session=True,
            )  # fmt: skip
        read, reason, killed, heard = 0, "", False, time.monotonic()
        try:
            while True:
                over = process.poll() is not None
                for line in lines.read_text().splitlines()[read:]:
                    read, heard = read + 1, time.monotonic()
                    found = json.loads(line)
                    row = rows[found.pop("cell")]
                    waiting[:] = [one for one in waiting if one is not row]
                    killed = "killed" in found
                    self.told(row, FAILED if "error" in found else DONE, found)
                now = time.monotonic()
                if over or self.stopped.is_set():
                    break
                if now > ends or now > heard + CELL_SECONDS:
                    reason = NO_TIME if now > ends else f"no result within {CELL_SECONDS} s"
                    break
                time.sleep(0.05)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        job.task["last"] = said[-1][:300] if said else "it said nothing"
        return code, reason, killed


LABELS = ("section", "backend", "device", "level", "network", "precision", "feature", "program", "run")


def card() -> str:
    """Name, driver and memory of the first NVIDIA GPU; empty where there is none. The card is read, never set."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
        name, driver, memory = done.stdout.splitlines()[0].split(", ")
    except (OSError, subprocess.TimeoutExpired, IndexError, ValueError):
        return "an NVIDIA GPU that nvidia-smi does not name" if Path("/dev/nvidia0").exists() else ""
    return f"{name}, driver {driver}, {memory}"


def main() -> None:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, help="as `dvc repro fetch` writes it; else KERAS_PIPELINE_MIRRORS")
    parser.add_argument("--output", type=Path, default=HERE / "gpu.md", help="and the same with .json")
    parser.add_argument("--seconds", type=float, default=460, help="when this ends, whatever happens")
    parser.add_argument("--small", action="store_true", help="digits, fewer images and epochs: for a CPU")
    parser.add_argument("--section", action="append", choices=SECTIONS, help="only this one; repeatable")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="of speed: only this one; repeatable")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        prepare_images(chosen, Path(folder))
        bench = Bench(chosen, Path(folder), began)

        def stop(number: int, frame: FrameType | None) -> None:
            bench.stopped.set()
            raise SystemExit(128 + number)

        signal.signal(signal.SIGTERM, stop)
        try:
            work(bench)
        finally:
            bench.stopped.set()
            bench.ended = all(row["state"] != WAITING for row in bench.rows)
            bench.write()
    states = [row["state"] for row in bench.rows]
    print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)), flush=True)
    print(f"{chosen.output} and {chosen.output.with_suffix('.json')} are written", flush=True)


def prepare_images(chosen: argparse.Namespace, folder: Path) -> None:
    """Leave the splits in `folder` as uint8."""
    from types import SimpleNamespace

    from keras_pipeline.sources.raw import read_raw
    from keras_pipeline.stages.fetch import fetch_dataset

    count, validation = IMAGES, VALIDATION
    raw = chosen.raw
    if chosen.small:
        count, validation = 768, 300
    if chosen.small or not raw:
        raw = folder / "raw"
        name = "digits" if chosen.small else "mnist"
        fetch_dataset(SimpleNamespace(fetch=SimpleNamespace(dataset=name)), raw, folder / "downloads")
    found = read_raw(raw)
    arrays = {f"{split}-images": found.images[split][..., 0] for split in ("train", "test")}
    arrays |= {f"{split}-labels": found.labels[split].astype(np.uint8) for split in ("train", "test")}
    chosen.count = count
    chosen.images = f"{count:,} training images of {'digits' if chosen.small else 'MNIST'}, {validation:,} to validate"
    for split, source, number in (("train", "train", count), ("validation", "test", validation)):
        for kind in ("images", "labels"):
            np.save(folder / f"{split}-{kind}.npy", arrays[f"{source}-{kind}"][:number])


def work(bench: Bench) -> None:
    """First what is compared, several processes side by side; then what is timed, one alone, the important first."""
    small = bench.chosen.small
    compared = comparisons(bench)
    timed = timings(bench)
    bench.write()
    now = time.monotonic()
    cores = os.cpu_count() or 1
    at_once = max(2, min(6, cores // 2))
    bench.threads = max(1, cores // at_once)  # those of several processes would wait for each other
    ends = now + (bench.ends - now) / 2 if any(job.rows for job in timed) and not small else bench.ends
    with ThreadPoolExecutor(at_once) as pool:
        for one in [pool.submit(bench.run, job, ends) for job in compared if job.rows]:
            one.result()
    bench.threads = None
    for job in timed:
        bench.run(job, bench.ends)


def comparisons(bench: Bench) -> list[Job]:
    """The jobs of which no time is taken."""
    small = bench.chosen.small
    count, steps = (512, 1) if small else (PARTS, 15)
    shapes = {"regularized": network([16, 8] if small else [256, 128], 128)}
    if not small:
        shapes["cnn"] = network([128], 128, filters=[32, 64])
    jobs: list[Job] = []

    def cell(name: str, folder: str) -> Row:
        return {
            "name": name,
            "network": shapes[name],
            "images": count,
            "epochs": 2,
            "folder": str(bench.folder / folder),
        }

    for level in LEVELS[::2] if small else LEVELS:
        for backend in BACKENDS:
            for run in (1, 2):
                folder = f"{level}-{backend}-{run}"
                rows = [
                    bench.add(
                        "reproducibility", backend=backend, level=level, network=name, run=run,
                        cell=cell(name, f"{folder}-{name}"),
                    )
                    for name in shapes
                ]  # fmt: skip
                jobs.append(bench.job(rows, program="repeated", backend=backend, level=level, checkpoint_steps=steps))
        if level == "deterministic":
            for backend in BACKENDS:
                rows = []
                for name in shapes:
                    made = cell(name, f"killed-{backend}-{name}")
                    for run in ("undisturbed", "killed", "resumed"):
                        own = {**made, "folder": f"{made['folder']}-alone"} if run == "undisturbed" else made
                        own = {**own, "kill": run == "killed"}
                        rows.append(bench.add("resume", backend=backend, level=level, network=name, run=run, cell=own))
                jobs.append(bench.job(rows, program="repeated", backend=backend, level=level, checkpoint_steps=steps))
            jobs += conformance(bench)
    return jobs


def conformance(bench: Bench) -> list[Job]:
    """The same trainings on the CPU and on the GPU."""
    jobs = []
    for backend in BACKENDS:
        for device in ("cpu", "gpu" if bench.card else "cpu, again"):
            rows = []
            for feature in FEATURES[:2] if bench.chosen.small else FEATURES:
                if feature == "dropout" and backend == "torch":
                    continue
                place = bench.folder / f"{backend}-{device[-3:]}-{feature}.npz"
                rows.append(
                    bench.add(
                        "conformance", backend=backend, device=device, feature=feature,
                        cell={
                            "changes": feature_changes(feature), "file": str(place),
                            "images": 256 if bench.chosen.small else 2048, "epochs": 2 if bench.chosen.small else 3,
                        },
                    )
                )  # fmt: skip
            jobs.append(bench.job(rows, program="compared", backend=backend, device=device[:3]))
    return jobs


def feature_changes(name: str) -> dict[str, Any]:
    """What a feature changes of the params."""
    if name == "cnn":
        return CONVOLUTIONS
    from keras_pipeline.audit.conformance import FEATURES

    return {key: value for key, value in FEATURES[name].changes.items() if key != "train.epochs"}


def timings(bench: Bench) -> list[Job]:
    """The jobs that are timed, the important first."""
    small = bench.chosen.small
    shapes = {name: shape for name, shape in NETWORKS.items() if name in (bench.chosen.network or NETWORKS)}
    if small:
        shapes = {
            name: {**shape, "units": [8], "filters": [4 * bool(one) for one in shape["filters"]]}
            for name, shape in shapes.items()
        }
    size = 512 if small else 8192
    peaks = {
        program: [
            bench.add("peak", program=program, precision=kind, cell={"precision": kind, "size": size})
            for kind in ("float32", "TensorFloat-32", "bfloat16")
        ]
        for program in ("PyTorch, the usual loop", "JAX by hand")
    }
    rows: dict[tuple[str, str], list[Row]] = {}
    for precision in PRECISIONS:
        for program in PROGRAMS:
            slow = program in ("Keras on JAX, step by step", "Keras on PyTorch")
            rows[program, precision] = [
                bench.add(
                    "speed", network=name, precision=precision, program=program, images=bench.chosen.count,
                    operations=gpu_bare.operations(shape),
                    cell={"network": shape, "precision": precision, "epochs": 2 if slow or small else 4},
                )
                for name, shape in shapes.items()
            ]  # fmt: skip

    one, half = PRECISIONS

    def job(program: str, precision: str) -> Job:
        first = peaks.get(program, []) if precision == one else []
        return bench.job([*first, *rows[program, precision]], **PROGRAMS[program])

    many = [
        bench.add(
            "together", network=name, precision="float32", count=4 if small else 16,
            cell={
                "network": shapes[name], "precision": "float32", "epochs": 3 if small else 4,
                "count": 4 if small else 16,
            },
        )
        for name in ("784-128-10; 32", "default; 256", "cnn; 256")
        if name in shapes
    ]  # fmt: skip
    return [
        job("PyTorch, the usual loop", one),
        job("Keras on JAX, fused", one),
        job("JAX by hand", one),
        bench.job(many[:2], program="together", backend="jax"),
        job("Keras on JAX, step by step", one),
        job("Keras on PyTorch", one),
        *(job(program, half) for program in PROGRAMS),
        bench.job(many[2:], program="together", backend="jax"),
    ]


# The tables.


def shown(row: Row) -> str:
    """What came of a case, in a few words."""
    if row["state"] == FAILED:
        return f"FAILED: {row['error']}".replace("|", "/")
    if row["state"] != DONE:
        return str(row["state"])
    if "rate" in row:
        return f"{row['rate'] / 1e12:.3g} TFLOP/s"
    if "ratio" in row:
        return f"{row['ratio']:.2f} times as long as one"
    if "seconds" in row:
        return f"{_epoch(row):.3f} s an epoch"
    return str(row.get("killed") or row.get("digest", "")[:12] or f"loss {row['loss']:.6f}")


def tables(rows: Sequence[Row], conditions: Row, seconds: float) -> Iterator[str]:
    """The whole file."""
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    yield f"Card: {conditions['card'] or 'no GPU here: everything ran on the CPU'}. {conditions['cores']} cores, "
    yield f"{conditions['system']}; {versions}. {conditions['images']}. Written {conditions['written']}, "
    yield f"{conditions['seconds']:.0f} of at most {seconds:.0f} seconds after the start" + (
        "." if conditions["complete"] else "; **not complete**: it was still running, or was cut off."
    )
    if conditions["small"]:
        yield "`--small`: tiny networks and few images, which shows that the script works and measures nothing."
    yield ""
    yield "float32 products and convolutions keep all bits of float32 (TensorFloat-32 is off) in every program below, "
    yield "but where it is named."
    for name in SECTIONS:
        own = [row for row in rows if row["section"] == name]
        yield ""
        yield f"## {TITLES[name]}"
        yield ""
        if own:
            yield from TABLES[name](own, rows)
        else:
            yield "Not asked for."
    yield ""
    yield "## What has no result"
    yield ""
    lacking: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["state"] != DONE:
            of = ", ".join(row[name] for name in ("section", "backend", "program") if name in row)
            case = ", ".join(str(row[name]) for name in LABELS[2:] if name in row and name != "program")
            lacking.setdefault((of, shown(row)), []).append(case)
    for (of, why), cases in lacking.items():
        yield f"- {of}: {why} ({'; '.join(cases) if why != ABSENT else f'{len(cases)} cases'})"
    if not lacking:
        yield "Nothing: every case has one."


def _table(head: Sequence[str], body: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"{'|---' * len(head)}|"
    yield from (f"| {' | '.join(line)} |" for line in body)


def _epoch(row: Row) -> float:
    """The median of the epochs after the first, which compiles."""
    return statistics.median(row["seconds"][1:] or row["seconds"])


def _only(rows: Sequence[Row], **key: Any) -> Row:
    return next((row for row in rows if all(row.get(name) == value for name, value in key.items())), {"state": "-"})


def _short(row: Row) -> str:
    """Of a case without a result; its error is told below."""
    return "failed" if row["state"] == FAILED else str(row["state"])


def _peak_table(own: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    size = own[0]["cell"]["size"]
    yield f"One product of two random {size} × {size} matrices, the median of ten; TFLOP/s."
    yield ""
    kinds = list(dict.fromkeys(row["precision"] for row in own))
    programs = {"PyTorch, the usual loop": "PyTorch", "JAX by hand": "JAX"}
    yield from _table(
        ["", *kinds],
        [
            [name]
            + [
                f"{one['rate'] / 1e12:.3g}" if one["state"] == DONE else _short(one)
                for one in (_only(own, program=program, precision=kind) for kind in kinds)
            ]
            for program, name in programs.items()
        ],
    )


def _speed_table(own: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    peaks = {
        precision: max(
            (row["rate"] for row in rows if "rate" in row and row["precision"] == PEAKS[precision]), default=None
        )
        for precision in PRECISIONS
    }

    def cell(row: Row) -> str:
        if row["state"] != DONE:
            return _short(row)
        seconds, number = _epoch(row), row["images"]
        peak = peaks[row["precision"]]
        share = f", {100 * row['operations'] * number / seconds / peak:.2g} %" if peak else ""
        note = " (step by step)" if "fused" in row["program"] and not row["fused"] else ""
        return f"{seconds:.3g} s, {_thousands(number / seconds)}/s{share}{note}"

    yield "Seconds of an epoch (median of those after the first, which compiles), images a second, and the share of "
    yield "the measured peak of that precision that the products and convolutions of the training take. Keras' columns "
    yield "are the pipeline's own training: they also validate and keep a checkpoint after every epoch."
    yield ""
    cases = list(dict.fromkeys((row["network"], row["precision"]) for row in own))
    found = {
        case: [_only(own, network=case[0], precision=case[1], program=name) for name in PROGRAMS] for case in cases
    }
    yield from _table(
        ["network; batch", "precision", *PROGRAMS], [[*case, *map(cell, line)] for case, line in found.items()]
    )
    yield ""
    yield "Seconds of the first epoch, with what it compiles, and the share of right answers at the end:"
    yield ""

    def first(row: Row) -> str:
        return f"{row['seconds'][0]:.3g} s, {100 * row['accuracy']:.1f} %" if row["state"] == DONE else _short(row)

    yield from _table(
        ["network; batch", "precision", *PROGRAMS], [[*case, *map(first, line)] for case, line in found.items()]
    )


def _thousands(value: float) -> str:
    return f"{value / 1e6:.3g}M" if value >= 1e6 else f"{value / 1e3:.3g}k"


def _conformance_table(own: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    devices = list(dict.fromkeys(row["device"] for row in own))
    yield "The same first weights and batches on both devices, reproducibility `seeded`: largest difference relative "
    yield "to the largest value of losses and of each array of weights, share of the same answers; and the verdict of "
    yield "`keras-pipeline conformance` with its absolute tolerances for losses and weights."
    yield ""
    body = []
    for backend, feature in dict.fromkeys((row["backend"], row["feature"]) for row in own):
        pair = [_only(own, backend=backend, feature=feature, device=device) for device in devices]
        if all(one["state"] == DONE for one in pair):
            one = pair[0].setdefault("against", _against(*(row["cell"]["file"] for row in pair), feature))
            body.append(
                [
                    backend, feature, one["tolerance"], f"{one['losses']:.1e}", f"{one['weights']:.1e}",
                    f"{100 * one['answers']:.2f} %", one["verdict"],
                ]
            )  # fmt: skip
        else:
            states = " / ".join(_short(row) for row in pair)
            body.append([backend, feature, "", states, states, states, "no verdict"])
    yield from _table(
        [
            "backend",
            "feature",
            "tolerances",
            "losses",
            "weights",
            "same answers",
            f"verdict, {' against '.join(devices)}",
        ],
        body,
    )


def _against(one: str, other: str, feature: str) -> Row:
    """Two results of one training; once, since they do not change."""
    from keras_pipeline.audit import conformance_report
    from keras_pipeline.audit.conformance import FEATURES

    found = []
    for path in (one, other):
        with np.load(path, allow_pickle=False) as arrays:
            found.append(dict(arrays))
    answers = [results.pop("answers") for results in found]
    tolerance = FEATURES[feature].tolerance if feature in FEATURES else conformance_report.Tolerance()

    def relative(group: str) -> float:
        worst = 0.0
        for name, array in found[0].items():
            if name.startswith(group) or name.endswith(group):
                scale = float(np.abs(array).max()) or 1.0
                worst = max(worst, float(np.abs(array.astype(float) - found[1][name]).max()) / scale)
        return worst

    cell = conformance_report.compare_results(*found, tolerance, may_differ=False)
    return {
        "tolerance": tolerance.text,
        "losses": relative("/loss"),
        "weights": relative("weights/"),
        "answers": float((answers[0] == answers[1]).mean()),
        "verdict": cell.text,
        "wrong": cell.wrong,
    }


def _reproducibility_table(own: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    yield f"Two trainings of {own[0]['cell']['images']:,} images for {own[0]['cell']['epochs']} epochs, each in a "
    yield "process of its own with others beside it: whether history and last weights have the same bytes, and by how "
    yield "much the last validation losses differ."
    yield ""
    cases = dict.fromkeys((row["backend"], row["network"]) for row in own)

    def cell(backend: str, name: str, level: str) -> str:
        pair = [_only(own, backend=backend, network=name, level=level, run=run) for run in (1, 2)]
        if any(one["state"] != DONE for one in pair):
            return " / ".join(_short(one) for one in pair)
        if pair[0]["digest"] == pair[1]["digest"]:
            return "the same bytes"
        return f"**other bytes**, {abs(pair[0]['loss'] - pair[1]['loss']):.1e}"

    levels = list(dict.fromkeys(row["level"] for row in own))
    yield from _table(
        ["backend", "network", *levels], [[*case, *(cell(*case, level) for level in levels)] for case in cases]
    )


def _resume_table(own: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    yield "Killed by SIGKILL in the second epoch, then begun again: the bytes of history and last weights beside those "
    yield "of an undisturbed training, at the level `deterministic`."
    yield ""
    body = []
    for backend, name in dict.fromkeys((row["backend"], row["network"]) for row in own):
        alone, killed, resumed = (
            _only(own, backend=backend, network=name, run=run) for run in ("undisturbed", "killed", "resumed")
        )
        line = [killed.get("killed") or _short(killed), resumed.get("resumed") or _short(resumed)]
        if any(one["state"] != DONE for one in (alone, killed, resumed)):
            verdict = f"no verdict: undisturbed {_short(alone)}, killed {_short(killed)}, resumed {_short(resumed)}"
        elif not resumed["resumed"]:
            verdict = "**did not resume**"
        else:
            verdict = "the same bytes" if alone["digest"] == resumed["digest"] else "**other bytes**"
        body.append([backend, name, *line, verdict])
    yield from _table(["backend", "network", "killed", "resumed from", "verdict"], body)


def _together_table(own: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    yield f"{own[0]['count']} seeds as one program on JAX, as `study run --together` trains them, and one alone, fused:"
    yield "seconds of an epoch, validation included, float32."
    yield ""
    body = []
    for row in own:
        line = [_short(row)] * 4
        if row["state"] == DONE:
            note = "" if row["fused"] else " (step by step)"
            line = [f"{row['alone']:.3g}{note}", f"{row['together']:.3g}", f"{row['ratio']:.2f}"]
            line.append(f"{row['count'] / row['ratio']:.1f}")
        body.append([row["network"], *line])
    yield from _table(["network; batch", "one", "together", "times as long", "trainings in the time of one"], body)


TITLES = {
    "peak": "Peak",
    "conformance": "CPU against GPU",
    "reproducibility": "Two trainings, the same bytes?",
    "resume": "Killed and resumed",
    "speed": "Speed",
    "together": "Many seeds as one program",
}
TABLES = {
    "peak": _peak_table,
    "conformance": _conformance_table,
    "reproducibility": _reproducibility_table,
    "resume": _resume_table,
    "speed": _speed_table,
    "together": _together_table,
}

if __name__ == "__main__":
    main()
