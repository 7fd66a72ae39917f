"""reports/predictions.npz and reports/metrics.json: what a network answered to the test split, and its scores."""

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, TypeAdapter

from keras_pipeline.core import files
from keras_pipeline.core.array_files import Expected, read_arrays
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import read_json
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.statistics import DatasetDescription

PREDICTIONS, SCORES = "predictions.npz", "metrics.json"
VALUES = TypeAdapter(dict[str, FiniteFloat])
BACK = "`dvc checkout --force` gets back what belongs together."
OPTIONAL = ("coefficients", "loss", "model", "penalty")
"""Only of a linear network for numbers; not of the first versions."""


@dataclass(frozen=True)
class Predictions:
    """What predictions.npz holds: outputs float32 (n, outputs) as the network gave them; targets, in test order: labels
    int64 (n,), or numbers float32 (n,), scaled; loss, the training loss of all with the L2 penalty, as Keras reports
    it; of a linear network for numbers coefficients float32 (features + 1,), its weights and bias; the SHA-256 of the
    `model` file. Of an earlier version's the loss is NaN and the model None.
    """

    outputs: NDArray[np.float32]
    targets: NDArray[Any]
    loss: float
    coefficients: NDArray[np.float32] | None
    model: str | None


def write_predictions(path: Path, answers: Predictions) -> None:
    """As numpy.savez, without the time of writing in the archive: the same answers give the same bytes."""
    arrays: dict[str, NDArray[Any]] = {
        "outputs": answers.outputs,
        "targets" if answers.targets.dtype == np.float32 else "labels": answers.targets,
        "loss": np.array(answers.loss, np.float64),
    }
    if answers.coefficients is not None:
        arrays["coefficients"] = answers.coefficients
    if answers.model:
        arrays["model"] = np.frombuffer(bytes.fromhex(answers.model), np.uint8)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    files.write_atomically(path, content.getbuffer())


def read_predictions(path: Path, dataset: DatasetDescription, written_by: str = "evaluate") -> Predictions:
    """The answers to the test split of this dataset. Raises DataError where the file is none such."""
    images, classes = dataset["images"]["test"], len(dataset["class_names"])
    targets = "labels" if classes else "targets"
    expected = {
        "outputs": Expected("<f4", (images, classes if classes > 2 else 1)),
        targets: Expected("<i8" if classes else "<f4", (images,)),
        "loss": Expected("<f8", ()),
        "penalty": Expected("<f8", ()),  # of an earlier version
        "coefficients": Expected("<f4", (math.prod(dataset["shape"]) + 1,)),
        "model": Expected("|u1", (32,)),
    }
    arrays = read_arrays(path, expected, written_by, optional=OPTIONAL)
    for name, array in arrays.items():
        if not np.isfinite(array).all() or (name == "labels" and not 0 <= array.min() <= array.max() < classes):
            allowed = f"classes, 0 to {classes - 1}" if name == "labels" else "finite numbers"
            raise DataError(
                f"{path}: {name}: got {array.min()} to {array.max()}. Expected: {allowed}. "
                f"{files.remedy(written_by, 'delete it and ')}"
            )
    model = arrays["model"].tobytes().hex() if "model" in arrays else None
    loss = float(arrays.get("loss", math.nan))
    return Predictions(arrays["outputs"], arrays[targets], loss, arrays.get("coefficients"), model)


def read_scores(path: Path, written_by: str = "evaluate") -> dict[str, float]:
    """reports/metrics.json: finite numbers, the loss and the task's headline among them, each with both ends of its
    interval or none. Raises DataError for anything else."""
    return read_json(path, VALUES, written_by, check=_check_scores)


def read_export_metrics(reports: Path) -> dict[str, float]:
    """What is known of the exports: reports/export.json, and their times in reports/export; nothing where none were
    made. Raises DataError where a file is damaged."""
    paths = [reports / "export.json", reports / "export" / "times.json"]
    return {
        name: value for path in paths if path.is_file() for name, value in read_json(path, VALUES, "export").items()
    }


def _check_scores(scores: dict[str, float]) -> None:
    if "test/loss" not in scores or not {"test/accuracy", "test/mean_absolute_error"} & set(scores):
        raise ValueError("test/loss, and test/accuracy or test/mean_absolute_error, are missing.")
    for name in scores:
        other = f"{name.removesuffix('_low')}_high" if name.endswith("_low") else f"{name.removesuffix('_high')}_low"
        if name.endswith(("_low", "_high")) and other not in scores:
            raise ValueError(f"{other} is missing.")


def read_reports(
    reports: Path, dataset: DatasetDescription, model: str | None, written_by: str = "evaluate"
) -> tuple[dict[str, float], Predictions]:
    """Scores and answers that belong together, and to the network whose file has the digest `model`.

    Raises DataError where one cannot be read, or was exchanged for another run's.
    """
    scores = read_scores(reports / SCORES, written_by)
    try:
        answers = read_predictions(reports / PREDICTIONS, dataset, written_by)
    except DataError as fault:
        raise DataError(
            f"{fault} If that changes nothing, the run's record models/run.json was edited: {BACK}"
        ) from None
    if model and answers.model not in (None, model):
        raise DataError(
            f"{reports / PREDICTIONS}: the answers of the network {str(answers.model)[:12]}…. Expected: those of "
            f"{model[:12]}…, which the run's record names. {files.remedy(written_by)}"
        )
    metric, reached = _headline(answers, dataset)
    if not math.isclose(reached, scores.get(metric, math.inf), rel_tol=1e-9):
        raise DataError(
            f"{reports / SCORES} says {metric} {scores.get(metric)}, {PREDICTIONS} beside it gives {reached}: they are "
            f"of different runs, or one was changed. {files.remedy(written_by)}"
        )
    return scores, answers


def _headline(answers: Predictions, dataset: DatasetDescription) -> tuple[str, float]:
    if dataset["target"]:
        target = Scaling(**dataset["target"])
        apart = np.abs(target.undo(answers.outputs)[:, 0] - target.undo(answers.targets))
        return "test/mean_absolute_error", float(apart.mean())
    outputs = answers.outputs
    given = outputs.argmax(axis=1) if outputs.shape[1] > 1 else outputs[:, 0] > 0.5
    return "test/accuracy", float((given == answers.targets).mean())
