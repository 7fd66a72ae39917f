"""The determinism matrix: whether a training repeated gives the same bytes, by strategy and settings of the machine.

Each cell is processes with the settings in their environment, of which each trains a small network many times over.
"""

import hashlib
import itertools
import json
import os
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_pipeline import (
    clusters,
    conformance,
    distribution,
    files,
    params,
    preprocessing,
    provenance,
    roll_call,
    verdicts,
    workers,
)
from keras_pipeline.conformance import Place
from keras_pipeline.conformance_work import Job
from keras_pipeline.datasets import IMAGE_SHAPE
from keras_pipeline.errors import MachineError, ParamsError
from keras_pipeline.preprocessing import STATISTICS, Question

PLACES = (
    Place("none", "tensorflow"),
    Place("none", "tensorflow", fused=True),
    Place("mirrored", "tensorflow", devices=2),
    Place("multi_worker", "tensorflow", workers=2),
    Place("none", "jax"),
    Place("data_parallel", "jax", devices=2),
    Place("none", "torch"),
    Place("ddp", "torch", workers=2),
)
THREADS = (1, 2)
PROCESSES = 2
EPOCHS = 2

Cells = dict[tuple[Place, str, int], list[str]]


def run(params_file: Path, runs: int, command: Sequence[str]) -> str:
    """The matrix as a Markdown table, from `runs` trainings a cell, half of them in each of two processes.

    `command` with a folder behind it is `work` in a process. A line for each cell goes to standard error.
    """
    values = params.load(params_file).model_dump(exclude_unset=True, mode="json")
    changes = {**conformance.PLAIN, **conformance.SMALL, "model.dropout": 0.3, "model.batch_normalization": True}
    for key, value in {**changes, "train.epochs": EPOCHS}.items():
        conformance.set_value(values, key, value)
    cells: Cells = {}
    with tempfile.TemporaryDirectory(prefix="determinism-") as temporary:
        data = conformance.small_images(Path(temporary))
        every = [(place, onednn, threads) for place in PLACES for onednn in _onednn(place) for threads in THREADS]
        for count, (place, onednn, threads) in enumerate(every, 1):
            print(f"determinism: {count} of {len(every)}: {place.name}, oneDNN {onednn}, threads {threads}: ", end="")
            began = time.monotonic()
            one = conformance.job(values, place, _feature(place), place.replicas, conformance.SMALL_IMAGES)
            task = {"data": str(data.absolute()), "job": vars(one), "runs": runs // PROCESSES}
            environ = _environment(onednn, threads)
            digests: list[str] = []
            for process in range(PROCESSES):
                digests += _digests(place, task, data / f"{count}-{process}", environ, command)
            cells[place, onednn, threads] = digests
            print(f"{len(set(digests))} of {len(digests)}, {time.monotonic() - began:.0f} s", flush=True)
    return "\n".join([_conditions(values), "", *_table(cells)])


def work(folder: Path) -> None:
    """Train `folder`/task.json's job over and over in this process; the chief leaves digests.json."""
    task = files.read_json(folder / "task.json", "determinism")
    job, data = Job(**task["job"]), Path(task["data"])
    chosen = job.params()
    statistics = files.read_json(data / "statistics.json", "normalize", STATISTICS)
    train, validation = (preprocessing.read_split(data, name, statistics) for name in ("train", "validation"))
    images = {"train": len(train.labels), "validation": len(validation.labels)}
    plan = distribution.plan(chosen.train, images, os.environ)
    watch = roll_call.attend(plan.cluster, {}) if plan.cluster else None
    distribution.prepare(plan)
    place = distribution.open_distribution(plan)
    from keras_pipeline import fitting, training, training_state

    classes = int(train.labels.max()) + 1
    weights = training.class_weights(train.labels, classes, "none")
    split = training.Data(train, validation, weights, chosen.seed, plan.batch_size, plan.validation_batch)
    model = training.new_network(
        chosen.model, chosen.train, chosen.seed, place, split.steps, Question("classes", IMAGE_SHAPE, classes)
    )
    first = training_state.first_state(model, place, split)
    digests = []
    for _ in range(task["runs"]):
        progress = fitting.Progress()
        fitting.fit(model, place, split, chosen.train, fitting.Watcher(quiet=True), progress, first)
        digest = hashlib.sha256(json.dumps([{**row, "time": 0} for row in progress.history]).encode())
        for array in model.get_weights():
            digest.update(array.tobytes())
        digests.append(digest.hexdigest())
    if plan.chief:
        files.write_json(folder / "digests.json", digests)
    if watch:
        watch.leave()
    place.close()


def _onednn(place: Place) -> tuple[str, ...]:
    return ("on", "off") if place.backend == "tensorflow" else ("-",)


def _feature(place: Place) -> conformance.Feature:
    name = "per_replica" if place.strategy == "ddp" else "synchronized"
    changes = {"train.batch_statistics": name}
    return conformance.Feature(name, changes)


def _environment(onednn: str, threads: int) -> dict[str, str]:
    """The settings as each framework reads them; whatever was set outside must not mix in."""
    kept = {
        name: value for name, value in os.environ.items() if name not in itertools.chain(*clusters.VARIABLES.values())
    }
    chosen = {name: str(threads) for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")}
    if onednn != "-":
        chosen["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn == "on"))
    # XLA has as many threads as it believes there are cores.
    return {**kept, **chosen, "NPROC": str(4 * threads)}


def _digests(
    place: Place, task: Mapping[str, Any], folder: Path, environ: Mapping[str, str], command: Sequence[str]
) -> list[str]:
    files.write_json(folder / "task.json", task)
    try:
        Job(**task["job"]).params()
        distribution.installed(place.backend)
    except (MachineError, ParamsError):
        return []
    if place.workers > 1:
        code = workers.launch([*command, str(folder)], place.workers, place.strategy, environ)
    else:
        code = subprocess.run([*command, str(folder)], env=environ, check=False).returncode
    if code:
        raise MachineError(f"the process of {place.name} ended with {code}; see its lines above.")
    digests: list[str] = files.read_json(folder / "digests.json", "determinism")
    return digests


def _conditions(values: Mapping[str, Any]) -> str:
    versions = provenance.versions()
    libraries = [name for name in ("keras", "tensorflow", "jax", "torch") if name in versions]
    return (
        f"{EPOCHS} epochs of {conformance.SMALL_IMAGES} digits, with Dropout and BatchNormalization, seed "
        f"{values['seed']}, reproducibility {values['train']['reproducibility']}; {os.cpu_count()} cores, "
        f"{versions['system']}, {', '.join(f'{name} {versions[name]}' for name in libraries)}."
    )


def _table(cells: Cells) -> Iterator[str]:
    """How many different results each cell has, and letters: the same letter, the same bytes, in one row."""
    rows = []
    for place in PLACES:
        letters: dict[str, str] = {}
        for onednn in ("on", "off", "-"):
            row = [place.name, onednn]
            for threads in THREADS:
                digests = cells.get((place, onednn, threads))
                if digests is None:
                    break
                for digest in digests:
                    letters.setdefault(digest, string.ascii_uppercase[len(letters) % 26])
                different = dict.fromkeys(letters[digest] for digest in digests)
                row.append(f"{len(digests)} runs: {', '.join(different)}" if digests else "not installed")
            else:
                rows.append(row)
    yield from verdicts.table(["strategy", "oneDNN", *(f"{count} thread(s)" for count in THREADS)], rows)


def write(path: Path, text: str) -> None:
    """Put the table between its comments in a Markdown file."""
    verdicts.write(path, "determinism", text)
    print(f"determinism: written to {path}", file=sys.stderr)
