"""The determinism matrix: whether a training repeated gives the same bytes, by strategy and settings of the machine.

Each cell is processes with the settings in their environment, of which each trains a small network many times over.
"""

import hashlib
import itertools
import json
import os
import string
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_pipeline.audit import conformance, conformance_report
from keras_pipeline.audit.conformance import Placement
from keras_pipeline.audit.conformance_worker import TrainingJob
from keras_pipeline.checks.params import load_params
from keras_pipeline.core import files
from keras_pipeline.core.errors import MachineError, ParamsError
from keras_pipeline.core.json_files import parse_json
from keras_pipeline.data import splits
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.distribution import cluster, strategies
from keras_pipeline.records import provenance
from keras_pipeline.training.training import prepare_training

PLACEMENTS = (
    Placement("none", "tensorflow"),
    Placement("none", "tensorflow", fused=True),
    Placement("mirrored", "tensorflow", devices=2),
    Placement("multi_worker", "tensorflow", workers=2),
    Placement("none", "jax"),
    Placement("data_parallel", "jax", devices=2),
    Placement("none", "torch"),
    Placement("ddp", "torch", workers=2),
)
THREADS = (1, 2)
PROCESSES = 2
EPOCHS = 2
Cells = dict[tuple[Placement, str, int], list[str]]


def measure_determinism(params_file: Path, runs: int, command: Sequence[str]) -> str:
    """The matrix as a Markdown table, from `runs` trainings a cell, half of them in each of two processes.

    `command` with a folder behind it is `train_repeatedly` in a process. A line for each cell goes to standard error.
    """
    values = load_params(params_file).model_dump(exclude_unset=True, mode="json")
    changes = {**conformance.PLAIN, **conformance.SMALL, "model.dropout": 0.3, "model.batch_normalization": True}
    for key, value in {**changes, "train.epochs": EPOCHS}.items():
        conformance.set_value(values, key, value)
    cells: Cells = {}
    with tempfile.TemporaryDirectory(prefix="determinism-") as temporary:
        data = conformance.write_small_images(Path(temporary))
        every = [
            (placement, onednn, threads)
            for placement in PLACEMENTS
            for onednn in _onednn(placement)
            for threads in THREADS
        ]
        for count, (placement, onednn, threads) in enumerate(every, 1):
            print(
                f"determinism: {count} of {len(every)}: {placement.name}, oneDNN {onednn}, threads {threads}: ", end=""
            )
            began = time.monotonic()
            one = conformance.make_job(
                values, placement, _feature(placement), placement.replicas, conformance.SMALL_IMAGES
            )
            task = {"data": str(data.absolute()), "job": vars(one), "runs": runs // PROCESSES}
            environ = _environment(onednn, threads)
            digests: list[str] = []
            for process in range(PROCESSES):
                digests += _digests(placement, task, data / f"{count}-{process}", environ, command)
            cells[placement, onednn, threads] = digests
            print(f"{len(set(digests))} of {len(digests)}, {time.monotonic() - began:.0f} s", flush=True)
    return "\n".join([_conditions(values), "", *_table(cells)])


def train_repeatedly(folder: Path) -> None:
    """Train `folder`/task.json's job over and over in this process; the chief leaves digests.json."""
    task = parse_json((folder / "task.json").read_bytes())
    job, data = TrainingJob(**task["job"]), Path(task["data"])
    chosen = job.params()
    statistics = read_statistics(data)
    train, validation = (splits.read_split(data, name, statistics) for name in ("train", "validation"))
    images = {"train": len(train.targets), "validation": len(validation.targets)}
    plan = strategies.plan_training(chosen.train, images, os.environ)
    task_spec = TaskSpec("classes", tuple(statistics["shape"]), int(train.targets.max()) + 1)
    with strategies.open_strategy(plan) as strategy:
        from keras_pipeline.training import fit, state

        training = prepare_training(chosen, plan, strategy, [train, validation], task_spec, statistics["scaling"])
        first = state.first_state(training.model, strategy, training.data)
        digests = []
        for _ in range(task["runs"]):
            progress = fit.Progress()
            fit.fit_network(training, progress, first, quiet=True)
            digest = hashlib.sha256(json.dumps([{**row, "time": 0} for row in progress.history]).encode())
            for array in training.model.get_weights():
                digest.update(array.tobytes())
            digests.append(digest.hexdigest())
        if plan.chief:
            files.write_json(folder / "digests.json", digests)


def _onednn(placement: Placement) -> tuple[str, ...]:
    return ("on", "off") if placement.backend == "tensorflow" else ("-",)


def _feature(placement: Placement) -> conformance.Feature:
    name = "per_replica" if placement.strategy == "ddp" else "synchronized"
    changes = {"train.batch_statistics": name}
    return conformance.Feature(name, changes)


def _environment(onednn: str, threads: int) -> dict[str, str]:
    """The settings as each framework reads them; whatever was set outside must not mix in."""
    kept = {
        name: value for name, value in os.environ.items() if name not in itertools.chain(*cluster.VARIABLES.values())
    }
    chosen = {name: str(threads) for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")}
    if onednn != "-":
        chosen["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn == "on"))
    # XLA has as many threads as it believes there are cores.
    return {**kept, **chosen, "NPROC": str(4 * threads)}


def _digests(
    placement: Placement, task: Mapping[str, Any], folder: Path, environ: Mapping[str, str], command: Sequence[str]
) -> list[str]:
    files.write_json(folder / "task.json", task)
    try:
        TrainingJob(**task["job"]).params()
        strategies.check_installed(placement.backend)
    except (MachineError, ParamsError):
        return []
    code = conformance.run_placement(placement, [*command, str(folder)], environ)
    if code:
        raise MachineError(f"the process of {placement.name} ended with {code}; see its lines above.")
    digests: list[str] = parse_json((folder / "digests.json").read_bytes())
    return digests


def _conditions(values: Mapping[str, Any]) -> str:
    versions = provenance.library_versions()
    libraries = [name for name in ("keras", "tensorflow", "jax", "torch") if name in versions]
    return (
        f"{EPOCHS} epochs of {conformance.SMALL_IMAGES} digits, with Dropout and BatchNormalization, seed "
        f"{values['seed']}, reproducibility {values['train']['reproducibility']}; {os.cpu_count()} cores, "
        f"{versions['system']}, {', '.join(f'{name} {versions[name]}' for name in libraries)}."
    )


def _table(cells: Cells) -> Iterator[str]:
    """How many different results each cell has, and letters: the same letter, the same bytes, in one row."""
    rows = []
    for placement in PLACEMENTS:
        letters: dict[str, str] = {}
        for onednn in ("on", "off", "-"):
            row = [placement.name, onednn]
            for threads in THREADS:
                digests = cells.get((placement, onednn, threads))
                if digests is None:
                    break
                for digest in digests:
                    letters.setdefault(digest, string.ascii_uppercase[len(letters) % 26])
                different = dict.fromkeys(letters[digest] for digest in digests)
                row.append(f"{len(digests)} runs: {', '.join(different)}" if digests else "not installed")
            else:
                rows.append(row)
    yield from conformance_report.markdown_table(
        ["strategy", "oneDNN", *(f"{count} thread(s)" for count in THREADS)], rows
    )


def write_matrix(path: Path, text: str) -> None:
    """Put the table between its comments in a Markdown file."""
    conformance_report.replace_section(path, "determinism", text)
    print(f"determinism: written to {path}", file=sys.stderr)
