"""The stage export: the evaluated network in other formats, each run over the whole test set and held against it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from keras_pipeline.config.layers import Dense, weight_count
from keras_pipeline.config.params import Params
from keras_pipeline.core import csv_files, files, process
from keras_pipeline.core.errors import DataError
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.splits import Split, prediction_batch, read_split
from keras_pipeline.data.statistics import Statistics, is_table, read_statistics
from keras_pipeline.data.task_spec import TaskSpec, task_spec_from
from keras_pipeline.evaluation.predictions import read_predictions
from keras_pipeline.export import javascript, manifest, onnx_file, operations, runtimes
from keras_pipeline.export.agreement import (
    Reference,
    Row,
    agreement_metrics,
    check_agreement,
    hold_against,
    in_units,
    table,
    time_metrics,
)
from keras_pipeline.export.manifest import Manifest
from keras_pipeline.export.operations import Step
from keras_pipeline.models import architectures, frameworks
from keras_pipeline.records.record import check_model, read_record

if TYPE_CHECKING:
    import keras

FLOAT32 = "float32"
"""The row of the network computed in float32, where it was trained, and evaluated, in mixed precision."""
LITERT: dict[str, Literal["float32", "dynamic_int8", "int8"]] = {
    "litert_float32": "float32",
    "litert_dynamic_int8": "dynamic_int8",
    "litert_int8": "int8",
}
REPRESENTATIVE = 500
"""So many training images, about, spread over all of them, tell int8 the ranges of what it computes."""


def export_network(params: Params, normalized: Path, models: Path, reports: Path) -> None:
    """Write models/export, whose manifest is export.json; reports/export.json and reports/export say how each format
    agrees with the network that was evaluated.

    A format that does not agree ends it with a ModelFileError, and no package is left. Raises DataError or
    ModelFileError where a file is missing or damaged, or the network, its answers and the data are not of one run.
    """
    with files.lock_folder(models), files.lock_folder(reports):
        statistics = read_statistics(normalized)
        record = read_record(models / "run.json")
        check_model(record, models / "model.keras")
        described = _describe(params, statistics, record["key"], files.file_sha256(models / "model.keras"))
        evaluated, test = _evaluated(params, statistics, normalized, reports, described["model_sha256"])
        for folder in (models / "export", reports / "export"):
            shutil.rmtree(folder, ignore_errors=True)
        (reports / "export.json").unlink(missing_ok=True)
        with _package(models / "export") as folder:
            network = models / "model.keras"
            rows = _export(params, statistics, normalized, network, folder, described, evaluated, test)
            manifest.write_manifest(folder, described)
            _write_reports(reports, rows, evaluated, described["parameters"])
    for row in rows[1:]:
        print(f"export: {_line(row, evaluated)}")
    if not params.export.formats:
        print("export: export.formats is empty, so no format is written")


@contextmanager
def _package(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name of `folder` when all is in it, and vanishes where anything fails."""
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _describe(params: Params, statistics: Statistics, key: str, model: str) -> Manifest:
    """The manifest without formats."""
    spec, given = task_spec_from(statistics), statistics["input"]
    hidden = architectures.hidden_layers(params.model)
    return {
        "format": manifest.FORMAT,
        "model_sha256": model,
        "run": key,
        "architecture": params.model.architecture,
        "parameters": weight_count([*hidden, Dense(units=spec.outputs)], spec.shape),
        "task": statistics["task"],
        "dataset": statistics["dataset"],
        "class_names": statistics["class_names"],
        "target": given["target"] if given["kind"] == "table" else None,
        "input": (
            given
            if given["kind"] == "table"
            else {
                "kind": "images", "height": spec.shape[0], "width": spec.shape[1], "channels": spec.shape[2],
                "dtype": given["dtype"], "low": given["low"], "high": given["high"],
            }
        ),
        "preparation": statistics["preparation"],
        "drawing": {**statistics["drawing"]} if statistics["drawing"] else None,
        "output_activation": params.model.output_activation,
        "outputs": spec.outputs,
        "scaling": statistics["scaling"],
        "formats": {},
    }  # fmt: skip


def _evaluated(
    params: Params, statistics: Statistics, normalized: Path, reports: Path, model: str
) -> tuple[Reference, Split]:
    """What the evaluated network answered, and the test split."""
    path = reports / "predictions.npz"
    saved = read_predictions(path, statistics)
    if saved.model not in (None, model):
        raise DataError(
            f"{path}: the answers of the network {str(saved.model)[:12]}…. Expected: those of models/model.keras, "
            f"{model[:12]}…. {files.remedy('evaluate')}"
        )
    test = read_split(normalized, "test", statistics)
    target = task_spec_from(statistics).target
    targets = target.undo(test.targets) if target else test.targets
    thing: Literal["image", "row"] = "row" if is_table(statistics) else "image"
    outputs = in_units(saved.outputs, target)
    return Reference(outputs, targets, statistics["class_names"], params.seed, thing), test


def _export(
    params: Params,
    statistics: Statistics,
    normalized: Path,
    network: Path,
    folder: Path,
    described: Manifest,
    evaluated: Reference,
    test: Split,
) -> list[Row]:
    """Write the formats into the folder, and into the manifest; the row of the network, and of each format."""
    spec = task_spec_from(statistics)

    @cache
    def in_keras() -> "keras.Sequential":
        return _keras_network(params, spec, network)

    steps = operations.read_operations(network, params.model, statistics)
    raw = operations.raw_inputs(test.inputs, statistics)
    in_full = hold_against(evaluated.outputs, evaluated)
    rows = [Row("evaluated", in_full, network.stat().st_size)]
    reference = evaluated
    if params.train.precision != "float32" and params.export.formats:
        size = prediction_batch(spec.shape)
        blocks = (test.scaled(slice(start, start + size)) for start in range(0, len(test.targets), size))
        outputs = np.concatenate([in_keras().predict(block, batch_size=size, verbose=0) for block in blocks])
        outputs = in_units(outputs, spec.target)
        rows.append(Row(FLOAT32, hold_against(outputs, evaluated), 0))
        reference = replace(evaluated, outputs=outputs)
    for name in params.export.formats:
        with process.time_part("write"):
            if name in LITERT or name == "saved_model":
                _write_tensorflow(name, folder, in_keras(), statistics, normalized)
            else:
                _write(name, folder, steps, statistics, described)
        described["formats"][name] = made = _made(folder, name)
        with process.time_part(name):
            answers = runtimes.ask_format(name, folder, raw, spec.outputs, operations.multiplications(steps))
        found = hold_against(answers.outputs, reference)
        check_agreement(name, found, answers.outputs, reference, in_full, params.export.accuracy_loss)
        rows.append(Row(name, found, manifest.size_of(made), answers))
    return rows


def _write(name: str, folder: Path, steps: list[Step], statistics: Statistics, described: Manifest) -> None:
    """Write one format into the folder."""
    match name:
        case "onnx":
            onnx_file.write_onnx(folder / manifest.PATHS[name], steps, operations.input_shape(statistics))
        case "javascript":
            about = {key: value for key, value in described.items() if key not in ("format", "formats")}
            javascript.write_javascript(folder, steps, about)


def _write_tensorflow(
    name: str, folder: Path, network: "keras.Sequential", statistics: Statistics, normalized: Path
) -> None:
    """Write one of TensorFlow's formats into the folder."""
    from keras_pipeline.export import tensorflow_formats
    from keras_pipeline.models.model_file import serving_model

    given = statistics["input"]
    dtype = np.dtype(given["dtype"]).name if given["kind"] == "images" else "float32"
    network = serving_model(network, Scaling(**statistics["scaling"]), task_spec_from(statistics).target, dtype)
    path = folder / manifest.PATHS[name]
    if name == "saved_model":
        tensorflow_formats.write_saved_model(network, path)
        return
    inputs = read_split(normalized, "train", statistics).inputs if LITERT[name] == "int8" else None
    if inputs is not None:
        inputs = operations.raw_inputs(np.array(inputs[:: -(-len(inputs) // REPRESENTATIVE)]), statistics)
    tensorflow_formats.write_litert(network, path, LITERT[name], inputs)


def _made(folder: Path, name: str) -> manifest.ExportedFormat:
    path = folder / manifest.PATHS[name]
    found = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return manifest.describe_format(folder, [str(one.relative_to(folder)) for one in found])


def _keras_network(params: Params, spec: TaskSpec, path: Path) -> "keras.Sequential":
    """The network in float32, in TensorFlow, whatever it was trained with."""
    frameworks.start_framework()
    from keras_pipeline.models import model_file

    frameworks.seed_everything(params.seed, "float32")
    model = architectures.build_network(params.model, spec.shape, spec.outputs)
    model_file.load_weights(model, path)
    return model


def _write_reports(reports: Path, rows: list[Row], reference: Reference, parameters: int) -> None:
    files.write_json(reports / "export.json", agreement_metrics(rows, reference, parameters))
    files.write_json(reports / "export" / "times.json", time_metrics(rows))
    csv_files.write_table(reports / "export" / "formats.csv", table(rows, reference, parameters))
    measured = [row for row in rows if row.answers]
    if measured:
        with process.time_part("import"), process.no_garbage():
            from keras_pipeline.evaluation.figures import save_figure
            from keras_pipeline.export import figures
        with process.time_part("figures"):
            save_figure(figures.draw_formats([rows[0], *measured], reference), reports / "export" / "formats.png")


def _line(row: Row, reference: Reference) -> str:
    """What is worth telling of a format."""
    found = row.agreement
    flipped = f"{len(found.flipped)} of {len(reference.outputs):,} labels flipped, " if reference.class_names else ""
    said = f"{row.name}: {flipped}largest difference {found.largest_difference:.1e}"
    if not row.answers:
        return f"{said}, of the network in float32 from the evaluated one, which is of mixed precision"
    latency = 1e3 * row.answers.latency_median
    return f"{said}, {reference.score} {found.score:.4f}; {row.bytes / 1e6:.2g} MB, {latency:.2g} ms an input"
