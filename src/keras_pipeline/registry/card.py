"""The model card of a run: Markdown with the YAML head that model hubs read, all of it from what the run recorded."""

import importlib.metadata
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import FiniteFloat, TypeAdapter
from ruamel.yaml import YAML

from keras_pipeline.comparison import page
from keras_pipeline.comparison.find_run import FoundRun
from keras_pipeline.config.tasks import format_headline, format_score, is_no_better_than_constant
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Scalar, read_json
from keras_pipeline.evaluation import binary, multiclass, regression
from keras_pipeline.export import manifest as manifests
from keras_pipeline.export.manifest import Manifest
from keras_pipeline.records.git import describe_git
from keras_pipeline.records.record import batch_size

EXPORTS, AGREEMENT = "models/export", "reports/export.json"
BINS = 10
"""Of the table of calibration: the reports have more."""
MOST_CONFUSIONS = 5
MOST_CLASSES = 40
"""How many classes have a line each."""
HUB_METRICS = {
    "test/accuracy": ("accuracy", "Accuracy"),
    "test/f1_macro": ("f1", "F1, mean of the classes"),
    "test/f1": ("f1", "F1"),
    "test/roc_auc": ("roc_auc", "ROC AUC"),
    "test/r2": ("r_squared", "R²"),
    "test/mean_absolute_error": ("mae", "Mean absolute error"),
}
"""Those that model hubs know: their names there, and for people."""
HUB_TASKS = {
    ("images", "classes"): ("image-classification", "Image classification"),
    ("images", "binary"): ("image-classification", "Image classification, one class against the rest"),
    ("table", "classes"): ("tabular-classification", "Tabular classification"),
    ("table", "binary"): ("tabular-classification", "Tabular classification, one class against the rest"),
    ("table", "regression"): ("tabular-regression", "Tabular regression"),
}
FIGURES = TypeAdapter(dict[str, FiniteFloat | int])
TOLD = {
    "largest_difference": "largest difference {:.1e}",
    "labels_flipped": "{:g} labels flipped",
    "accuracy": "accuracy {:.4f}",
    "r2": "R² {:.4f}",
}
"""How a figure of reports/export.json is told, behind export/FORMAT/."""


@dataclass(frozen=True)
class Exports:
    """What a run was exported to: the manifest, and reports/export.json, how each format agrees with the evaluated
    network."""

    manifest: Manifest
    agreement: Mapping[str, float]


def read_exports(folder: Path, model: str) -> Exports | None:
    """The exports of the network with this digest below `folder`, which has models/ and reports/; None where there are
    none, or they are of another network. Raises ModelFileError or DataError where they cannot be read."""
    if not (folder / EXPORTS / manifests.NAME).exists():
        return None
    found = manifests.read_manifest(folder / EXPORTS)
    if found["model_sha256"] != model:
        return None
    agreement = folder / AGREEMENT
    if not agreement.exists():
        return Exports(found, {})
    figures = read_json(agreement, FIGURES, "export")
    return Exports(found, figures)


def write_card(found: FoundRun, exports: Exports | None, name: str, *, looked_up: bool = True) -> str:
    """The card of the run, called `name` on a hub; the same run gives the same card. `looked_up`: whether it is known
    that there are no other exports.

    Raises DataError where the answers of the run cannot be judged.
    """
    record = found.record
    dataset = record["dataset"]
    intervals = _intervals(found)
    environment = Environment(
        loader=PackageLoader("keras_pipeline.registry"),
        undefined=StrictUndefined,
        trim_blocks=True,
        autoescape=False,  # noqa: S701  # Markdown; what a user wrote goes through page.markdown_text
    )
    environment.filters |= {"code": page.markdown_code}
    environment.finalize = page.markdown_text
    text = environment.get_template("model_card.md").render(
        name=name,
        record=record,
        title=dataset["title"],
        licence=dataset["licence"],
        task=found.task,
        things=found.things,
        headline=headline(found),
        useless=is_no_better_than_constant(found.scores),
        commit=describe_git(record["git"]),
        revision=record["git"]["commit"],
        scaling=_scaling(dataset["scaling"]),
        input=_input(found),
        output=_output(found),
        metrics=list(_metrics(found.scores, intervals)),
        classes=(classes := _per_class(found)),
        shown_classes=_extremes(classes),
        confusions=list(_confusions(found)),
        calibration=_calibration(found),
        looked_up=looked_up,
        formats=list(_formats(exports)) if exports else [],
        batch_size=batch_size(record),
        versions=record["versions"],
        params=Markup(_yaml(_nested(record["params"])).strip()),  # noqa: S704  # in a block of code
    )
    return f"---\n{_yaml(_head(found, intervals, name))}---\n\n{text.strip()}\n"


def _head(found: FoundRun, intervals: Mapping[str, tuple[float, float]], name: str) -> dict[str, Any]:
    """As huggingface.co/docs/hub/model-cards specifies it."""
    record, dataset = found.record, found.record["dataset"]
    task, title = HUB_TASKS[dataset["input"]["kind"], found.task.name]
    reached = {metric: found.scores[metric] for metric in HUB_METRICS if metric in found.scores}
    results = []
    for metric, value in reached.items():
        kind, words = HUB_METRICS[metric]
        if metric in intervals:
            low, high = intervals[metric]
            words += f", 95 % interval {format_score(low)} to {format_score(high)}"
        results.append({"type": kind, "value": float(f"{value:.6g}"), "name": words})
    return {
        "license": _licence(),
        "library_name": "keras",
        "pipeline_tag": task,
        "tags": ["keras", "dvc", "mlflow", str(record["params"]["model.architecture"]), task],
        "datasets": [dataset["dataset"]],
        "metrics": list(dict.fromkeys(HUB_METRICS[metric][0] for metric in reached)),
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": task, "name": title},
                        "dataset": {"type": dataset["dataset"], "name": dataset["title"], "split": "test"},
                        "metrics": results,
                    }
                ],
            }
        ],
    }


def _licence() -> str:
    """The project's own, as pyproject.toml has it."""
    known = importlib.metadata.metadata("keras-pipeline")
    return known["License-Expression"].lower() if "License-Expression" in known else "unknown"


def _yaml(value: Any) -> str:
    yaml: Any = YAML(typ="safe", pure=True)
    written = io.StringIO()
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output, yaml.width = False, False, 120
    yaml.dump(value, written)
    return written.getvalue()


def _nested(params: Mapping[str, Scalar]) -> dict[str, Any]:
    """The recorded values in their blocks, lists as lists: what `keras-pipeline params use` takes."""
    blocks: dict[str, Any] = {}
    for key, value in params.items():
        *above, last = key.split(".")
        block = blocks
        for part in above:
            block = block.setdefault(part, {})
        block[last] = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
    return blocks


def _intervals(found: FoundRun) -> dict[str, tuple[float, float]]:
    """95 % intervals by metric, of this network, over other test images or rows."""
    seed = found.record["params"]["seed"]
    if found.task.name == "regression":
        return regression.regression_intervals(found.outputs[:, 0].astype(np.float64), found.labels, int(seed))
    if found.task.name == "binary":
        return binary.binary_intervals(found.outputs[:, 1:].astype(np.float32), found.labels)
    return multiclass.class_intervals(found.outputs, found.labels, int(seed))


def headline(found: FoundRun) -> str:
    """What is told first of a run, each metric with its interval."""
    ends = {
        f"{metric}_{end}": value
        for metric, interval in _intervals(found).items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }
    return format_headline({**found.scores, **ends})


def _metrics(scores: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> Iterator[tuple[str, ...]]:
    for metric, value in scores.items():
        if metric.endswith(("_low", "_high")):
            continue
        low, high = intervals.get(metric, (None, None))
        interval = f"{format_score(low)} to {format_score(high)}" if low is not None and high is not None else "–"
        yield metric, format_score(value), interval


def _per_class(found: FoundRun) -> list[dict[str, Any]]:
    if found.task.name == "regression":
        return []
    predicted = found.outputs.argmax(axis=1)
    return multiclass.per_class_rows(found.labels, predicted, found.record["dataset"]["class_names"])


def _extremes(classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All, or of many those of the lowest F1, and then of the highest."""
    by_score = sorted(classes, key=lambda row: float(row["f1"]))
    half = MOST_CLASSES // 2
    return classes if len(classes) <= MOST_CLASSES else [*by_score[:half], *by_score[-half:]]


def _confusions(found: FoundRun) -> Iterator[tuple[str, str, int]]:
    """The most common mistakes: the class, what was answered, how often."""
    if found.task.name == "regression":
        return
    names = found.record["dataset"]["class_names"]
    matrix = multiclass.confusion_matrix(found.labels, found.outputs.argmax(axis=1), len(names))
    for row in multiclass.confused_pairs(matrix, names)[:MOST_CONFUSIONS]:
        yield row["actual"], row["predicted"], row["count"]


def _calibration(found: FoundRun) -> list[dict[str, Any]]:
    """Bins of the largest probability that hold an image."""
    if found.task.name == "regression":
        return []
    return [row for row in multiclass.calibration_rows(found.outputs, found.labels, BINS) if row["count"]]


def _scaling(constants: Mapping[str, Any]) -> str:
    if isinstance(constants["offset"], list):
        return f"{constants['name']}, each feature by constants of its own"
    return f"{constants['name']}: (input - {constants['offset']:g}) / {constants['divisor']:g}"


def _input(found: FoundRun) -> str:
    dataset = found.record["dataset"]
    given = dataset["input"]
    if given["kind"] == "table":
        return f"raw values, float32 (n, {dataset['shape'][0]}): {', '.join(given['features'])}"
    height, width, channels = dataset["shape"]
    shape = f"(n, {height}, {width}{f', {channels}' if channels > 1 else ''})"
    kind = np.dtype(given["dtype"]).name
    return f"raw pixels, {kind} {shape}, {given['low']:g} to {given['high']:g}, as the dataset has them"


def _output(found: FoundRun) -> str:
    given, names = found.record["dataset"]["input"], found.record["dataset"]["class_names"]
    if found.task.name == "regression":
        name = f" {given['target']}" if given["kind"] == "table" else ""
        return f"the number{name}, in its own units"
    if found.task.name == "binary":
        return f"the probability of {names[1]}, against {names[0]}"
    return f"{len(names)} outputs, {found.record['params']['model.output_activation']}, for {', '.join(names)}"


def _formats(exports: Exports) -> Iterator[tuple[str, str, str]]:
    """Of each format its name, its size, and its agreement in words."""
    for name, described in exports.manifest["formats"].items():
        figures = {figure: exports.agreement.get(f"export/{name}/{figure}") for figure in TOLD}
        words = [TOLD[figure].format(value) for figure, value in figures.items() if value is not None]
        yield name, f"{manifests.size_of(described):,}", ", ".join(words) or "not recorded"


def keep_card(path: Path, text: str) -> None:
    """Write a card into a file, atomically. Raises DataError where a folder is there."""
    if path.is_dir():
        raise DataError(f"{path}: a folder. Expected: the name of a file, such as {path / 'README.md'}.")
    files.write_atomically(path, text.encode())
