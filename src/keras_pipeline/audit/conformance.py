"""The conformance check: every strategy against one device, feature by feature, in tables for docs/strategies.md.

Each strategy is one process (or one launch of workers) that trains all features in turn; the process that compares
them imports no framework. What is compared with is strategy none on the same backend, with the same seed, the same
global batches and the same images.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_pipeline.audit import conformance_report
from keras_pipeline.audit.conformance_report import Cell, Tolerance
from keras_pipeline.audit.conformance_worker import Results, TrainingJob
from keras_pipeline.checks.params import load_params
from keras_pipeline.core import files
from keras_pipeline.core.errors import MachineError, ParamsError
from keras_pipeline.data import splits
from keras_pipeline.data.scaling import fit_scaling
from keras_pipeline.data.statistics import Statistics, read_statistics, write_statistics
from keras_pipeline.distribution import cluster, launcher, strategies
from keras_pipeline.records import provenance
from keras_pipeline.sources.kinds import made

SMALL_IMAGES, SMALL_VALIDATION = 512, 141


@dataclass(frozen=True)
class Placement:
    """Where and how a network trains: a strategy with its backend, on `devices` of each of `workers`, its steps one
    by one or `fused`."""

    strategy: str
    backend: str
    devices: int = 1
    workers: int = 1
    fused: bool = False

    @property
    def name(self) -> str:
        """Such as `mirrored, 2 devices`."""
        if self.workers > 1:
            return f"{self.strategy}, {self.workers} workers"
        if self.devices > 1:
            return f"{self.strategy}, {self.devices} devices"
        return f"{self.strategy}, {self.backend}{', fused' if self.fused else ''}"

    @property
    def replicas(self) -> int:
        """How many copies of the network train together."""
        return self.devices * self.workers


PLACEMENTS = (
    Placement("none", "tensorflow", fused=True),
    Placement("one_device", "tensorflow"),
    Placement("mirrored", "tensorflow", devices=2),
    Placement("mirrored", "tensorflow", devices=4),
    Placement("multi_worker", "tensorflow", workers=2),
    Placement("none", "jax", fused=True),
    Placement("data_parallel", "jax", devices=2),
    Placement("data_parallel", "jax", devices=4),
    Placement("data_parallel", "jax", workers=2),
    Placement("ddp", "torch", workers=2),
)


@dataclass(frozen=True)
class Feature:
    """One thing that replicas could get wrong.

    `changes`: of the params; `last_batch`: how many images the last batch of an epoch has, given the replicas;
    `uneven_classes`: whether the classes have unequal numbers of images; `differs`: why replicas may differ from
    one device (not on JAX, where a batch is one array however it is divided).
    """

    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    last_batch: Callable[[int], int] | None = None
    uneven_classes: bool = False
    differs: str = ""
    tolerance: Tolerance = Tolerance()  # noqa: RUF009


PLAIN: dict[str, Any] = {
    "normalize.positive_class": "none",
    "normalize.validation_share": 0.01,  # as many images as a folder of the dataset can have are left to train with
    "model.architecture": "mlp",
    "model.dropout": 0.0,
    "model.batch_normalization": False,
    "model.l2": 0.0,
    "model.output_activation": "softmax",
    "train.loss": "categorical_crossentropy",
    "train.schedule": {"name": "constant"},
    "train.early_stopping": {"monitor": "val/loss", "patience": 0},
    "train.class_weights": "none",
    "train.augmentation": {
        "shift": 0.0,
        "rotation": 0.0,
        "scale": 0.0,
        "elastic": 0.0,
        "smoothness": 4.0,
        "horizontal_flip": False,
    },
    "train.precision": "float32",
    "train.engine": "keras",
    "train.missing_devices": "error",
    "train.batch_statistics": "synchronized",
    "train.reproducibility": "seeded",
    "train.checkpoint_steps": 0,
}
"""What the features are changes of; the rest is as params.yaml has it, and with the small images as in `SMALL`."""
SMALL: dict[str, Any] = {
    "seed": 1,
    "fetch.dataset": "digits",
    "model.hidden_units": [64],
    "model.activation": "relu",
    "train.batch_size": 64,
    "train.optimizer": {"name": "adam", "learning_rate": 0.01},
}
NORMALIZED = {"model.batch_normalization": True}
MIXED = Tolerance(losses=2e-2, weights=1e-1)
"""Half precision keeps 8 or 11 bits of a number: another order of adding up is another rounding in the third digit."""
UNSIGNED = {"train.optimizer": {"name": "sgd", "learning_rate": 0.05}}
"""For half precision: where such a rounding is the sign of a gradient near zero, Adam would take a whole step the other
way, and so would hide whether the gradients agree."""
FEATURES: dict[str, Feature] = {
    "plain": Feature("plain"),
    "dropout": Feature(
        "Dropout", {"model.dropout": 0.3, "train.epochs": 8}, differs="each replica draws masks of its own"
    ),
    "synchronized": Feature("BatchNormalization, synchronized", NORMALIZED),
    "synchronized_uneven": Feature("the same, a smaller last batch", NORMALIZED, last_batch=lambda replicas: 24),
    "per_replica": Feature(
        "BatchNormalization, per replica",
        {**NORMALIZED, "train.batch_statistics": "per_replica", "train.epochs": 6},
        differs="each replica normalizes by the statistics of its own share of a batch",
    ),
    "l2": Feature("L2", {"model.l2": 0.001}),
    "smaller_batch": Feature("a smaller last batch", last_batch=lambda replicas: 24),
    "one_more": Feature("a last batch of one image more than replicas", last_batch=lambda replicas: replicas + 1),
    "cosine": Feature("schedule: cosine", {"train.schedule": {"name": "cosine", "warmup_epochs": 1}}),
    "exponential": Feature("schedule: exponential", {"train.schedule": {"name": "exponential", "decay_rate": 0.7}}),
    "reduce_on_plateau": Feature(
        "schedule: reduce_on_plateau",
        {
            # So slow that val/loss stands still for certain.
            "train.schedule": {"name": "reduce_on_plateau", "patience": 1, "factor": 0.5},
            "train.optimizer": {"name": "sgd", "learning_rate": 1e-6},
        },
    ),
    "early_stopping": Feature(
        "early stopping, best weights",
        {"train.early_stopping": {"monitor": "val/accuracy", "patience": 1}, "train.epochs": 12},
    ),
    "class_weights": Feature("class weights, uneven classes", {"train.class_weights": "balanced"}, uneven_classes=True),
    "augmentation": Feature(
        "augmentation",
        {
            "train.augmentation": {
                "shift": 1.0,
                "rotation": 10.0,
                "scale": 0.1,
                "elastic": 1.0,
                "smoothness": 4.0,
                "horizontal_flip": True,
            }
        },
    ),
    "mixed_bfloat16": Feature("mixed_bfloat16", {**UNSIGNED, "train.precision": "mixed_bfloat16"}, tolerance=MIXED),
    "mixed_float16": Feature("mixed_float16", {**UNSIGNED, "train.precision": "mixed_float16"}, tolerance=MIXED),
}
COMPARED_BACKENDS = ("plain", "synchronized", "augmentation")
"""The features for which the backends are compared with each other."""
Cells = dict[tuple[str, Placement], Cell]
Tasks = dict[Placement, dict[str, TrainingJob]]
Trained = dict[Placement, Mapping[str, Results] | Cell]


def check_conformance(
    params_file: Path,
    data: Path | None,
    epochs: int,
    strategies: Sequence[str],
    features: Sequence[str],
    command: Sequence[str],
) -> tuple[str, bool]:
    """The tables as Markdown, and whether all is as it must be.

    `data`: a folder as normalize writes it, for the network of `params_file`; None: small images and a small network.
    `strategies` and `features`: which, none for all. `command` with a folder behind it is
    `conformance_worker.train_jobs` in a process. A line for each place goes to standard error. Raises ParamsError,
    DataError.
    """
    values = load_params(params_file).model_dump(exclude_unset=True, mode="json")
    for key, value in {**PLAIN, **({} if data else SMALL), "train.epochs": epochs}.items():
        set_value(values, key, value)
    _refuse_unknown("--strategy", strategies, {placement.strategy for placement in PLACEMENTS})
    _refuse_unknown("--feature", features, FEATURES)
    placements = [placement for placement in PLACEMENTS if not strategies or placement.strategy in strategies]
    names = list(features or FEATURES)
    with tempfile.TemporaryDirectory(prefix="conformance-") as temporary:
        folder = Path(temporary)
        data = (data or write_small_images(folder)).absolute()
        statistics = read_statistics(data)
        images = statistics["images"]
        set_value(values, "fetch.dataset", statistics["dataset"])
        cells, tasks = plan_cells(values, placements, names, images)
        trained: Trained = {}
        for count, (placement, jobs) in enumerate(tasks.items(), 1):
            print(f"conformance: {count} of {len(tasks)}: {placement.name}: ", end="", file=sys.stderr, flush=True)
            began = time.monotonic()
            trained[placement] = _train(placement, jobs, data, folder / str(count), command)
            print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    for placement, name in itertools.product(placements, names):
        if (name, placement) not in cells:
            cells[name, placement] = _cell(name, placement, trained)
    lines = [
        _conditions(values, images, trained),
        "",
        *_strategies(names, placements, cells),
        *_backends(names, trained),
    ]
    return "\n".join(lines), not any(cell.wrong for cell in cells.values())


def write_small_images(folder: Path) -> Path:
    """Write some of the digits inside scikit-learn as normalize writes them; gives `folder`."""
    pixels, labels = made.digits()["train"]
    scaling = fit_scaling("unit", [pixels])
    digests: dict[str, str] = {}
    parts = {"train": slice(SMALL_IMAGES)} | dict.fromkeys(("validation", "test"), slice(-SMALL_VALIDATION, None))
    for name, part in parts.items():
        digests |= splits.write_split(folder, name, [pixels[part]], labels[part])
    names, shape = list("0123456789"), list(pixels.shape[1:])
    statistics: Statistics = {
        "dataset": "digits",
        "title": "handwritten digits, inside scikit-learn",
        "licence": "CC BY 4.0",
        "source": None,
        "facts": {},
        "normalize": {},
        "task": "classes",
        "input": {"kind": "images", "shape": shape, "dtype": "|u1", "low": 0.0, "high": 255.0},
        "shape": shape,
        "drawing": None,
        "preparation": None,
        "class_names": names,
        "scaling": scaling.constants(),
        "target": None,
        "images": {name: len(labels[part]) for name, part in parts.items()},
        "class_counts": {
            name: np.bincount(labels[part], minlength=len(names)).tolist() for name, part in parts.items()
        },
        "test_images_also_in_train": 0,
        "sha256": digests,
    }
    write_statistics(folder, statistics)
    return folder


def plan_cells(
    values: Mapping[str, Any], placements: Sequence[Placement], names: Sequence[str], images: Mapping[str, int]
) -> tuple[Cells, Tasks]:
    """The cells that need no training, and what each place trains for the others: one device first."""
    cells: Cells = {}
    tasks: Tasks = {}
    for placement, name in itertools.product(placements, names):
        alone, key = Placement("none", placement.backend), _key(name, placement.replicas)
        one, reference = (
            make_job(values, at, FEATURES[name], placement.replicas, images["train"]) for at in (placement, alone)
        )
        refused = find_refusal(one, {**images, "train": one.images})
        if refused:
            cells[name, placement] = refused
        else:
            tasks.setdefault(placement, {})[key] = one
        if not refused or (name in COMPARED_BACKENDS and not find_refusal(reference, images)):
            tasks.setdefault(alone, {})[key] = reference
    return cells, dict(sorted(tasks.items(), key=lambda task: (task[0].strategy != "none", task[0].fused)))


def _key(name: str, replicas: int) -> str:
    """The name of a training; what does not depend on the replicas is trained once on one device."""
    last = FEATURES[name].last_batch
    return f"{name}-{last(replicas)}" if last else name


def make_job(
    values: Mapping[str, Any], placement: Placement, feature: Feature, replicas: int, images: int
) -> TrainingJob:
    """The training of a feature at a place, with `images` at most; the last batch is as so many replicas have it."""
    where = {f"train.{key}": getattr(placement, key) for key in ("strategy", "backend", "devices", "workers", "fused")}
    changed: dict[str, Any] = json.loads(json.dumps(values))
    for key, value in {**feature.changes, **where}.items():
        set_value(changed, key, value)
    if feature.uneven_classes:
        images //= 2
    if feature.last_batch:
        size = changed["train"]["batch_size"]
        images = (images // size - 1) * size + feature.last_batch(replicas)
    set_value(changed, "normalize.training_images", images)
    return TrainingJob(changed, images, feature.uneven_classes)


def set_value(values: dict[str, Any], key: str, value: Any) -> None:
    """Replace the value at a dotted key; of a block only the keys given, but an optimizer as a whole."""
    *blocks, last = key.split(".")
    for name in blocks:
        values = values[name]
    values[last] = {**values[last], **value} if isinstance(value, dict) and last != "optimizer" else value


def find_refusal(one: TrainingJob, images: Mapping[str, int]) -> Cell | None:
    """Why this training is not begun, by our own refusal; None where it is."""
    try:
        chosen = one.params()
        strategies.plan_training(chosen.train, images, {})
    except ParamsError as error:
        return Cell("refused", note=f"{re.sub(r'^[^ ]*: ', '', str(error)).split('. ')[0]}.")
    except MachineError:
        return Cell(f"not installed: pip install -e '.[{one.values['train']['backend']}]'")
    return None


def run_placement(placement: Placement, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit code of a command that trains there, in one process or several, which end with this one."""
    if placement.workers > 1:
        return launcher.launch_workers(command, placement.workers, placement.strategy, environ)
    own = {**environ, launcher.PARENT: str(os.getpid())}
    return subprocess.run(command, env=own, check=False).returncode


def _train(
    placement: Placement, jobs: Mapping[str, TrainingJob], data: Path, folder: Path, command: Sequence[str]
) -> Mapping[str, Results] | Cell:
    """The results of all jobs; a cell where the place is not to be had, or failed."""
    files.write_json(folder / "task.json", {"data": str(data), "jobs": {name: vars(one) for name, one in jobs.items()}})
    ours = {cluster.ROLL_CALL, *itertools.chain(*cluster.VARIABLES.values())}
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    code = run_placement(placement, [*command, str(folder)], environ)
    if code:
        for log in sorted(folder.glob("log-*.txt")):
            print("", *log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:], sep="\n  ", file=sys.stderr)
        if code == MachineError.exit_code:
            return Cell("not here: this machine lacks something")
        return Cell(f"**FAILED** with exit {code}", wrong=True)
    results: dict[str, Results] = {}
    for name in jobs:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
            results[name] = dict(arrays)
    return results


def _cell(name: str, placement: Placement, trained: Trained) -> Cell:
    reference, found = trained[Placement("none", placement.backend)], trained[placement]
    if isinstance(reference, Cell):
        return reference
    if isinstance(found, Cell):
        return found
    key, feature = _key(name, placement.replicas), FEATURES[name]
    may_differ = bool(feature.differs) and placement.replicas > 1 and placement.backend != "jax"
    return conformance_report.compare_results(reference[key], found[key], feature.tolerance, may_differ=may_differ)


def _conditions(values: Mapping[str, Any], images: Mapping[str, int], trained: Trained) -> str:
    train, versions = values["train"], provenance.library_versions()
    libraries = [name for name in versions if name == "keras" or name in {placement.backend for placement in trained}]
    return (
        f"{train['epochs']} epochs of {images['train']:,} images in batches of {train['batch_size']}, seed "
        f"{values['seed']}, hidden units {values['model']['hidden_units']}, {train['optimizer']['name']} with "
        f"learning rate {train['optimizer']['learning_rate']:g}; {os.cpu_count()} cores, {versions['system']}, "
        f"{', '.join(f'{name} {versions[name]}' for name in libraries)}."
    )


def _refuse_unknown(option: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ParamsError(f"{option} {name}: not known. Expected: one of {', '.join(sorted(known))}.")


def _strategies(names: Sequence[str], placements: Sequence[Placement], cells: Cells) -> Iterator[str]:
    """A row for each feature, and below what is said of a cell, once."""
    ordered = [cells[name, placement] for name, placement in itertools.product(names, placements)]
    notes = list(dict.fromkeys(cell.note for cell in ordered if cell.note))
    rows = (
        [
            FEATURES[name].title,
            FEATURES[name].tolerance.text,
            *(_shown(cells[name, placement], notes) for placement in placements),
        ]
        for name in names
    )
    yield from conformance_report.markdown_table(
        ["feature", "tolerance", *(placement.name for placement in placements)], rows
    )
    yield ""
    yield from (f"{number}. {note}" for number, note in enumerate(notes, 1))


def _shown(cell: Cell, notes: Sequence[str]) -> str:
    return f"{cell.text} ({notes.index(cell.note) + 1})" if cell.note else cell.text


def _backends(names: Sequence[str], trained: Trained) -> Iterator[str]:
    """The backends against each other, where several were trained."""
    alone = {
        placement.backend: results
        for placement, results in trained.items()
        if placement == Placement("none", placement.backend)
    }
    backends = {backend: results for backend, results in alone.items() if not isinstance(results, Cell)}
    pairs = list(itertools.combinations(backends, 2))
    shared = [name for name in COMPARED_BACKENDS if name in names]
    if pairs and shared:
        rows = (
            [
                FEATURES[name].title,
                *(conformance_report.agreement(*(backends[one][name] for one in pair)) for pair in pairs),
            ]
            for name in shared
        )
        yield ""
        yield from conformance_report.markdown_table(["on one device", *(", ".join(pair) for pair in pairs)], rows)
