"""Does a format give the answers of the evaluated network? One number after the other, and what ends the stage.

Outputs are compared as they are; of a predicted number, in its own units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.task_spec import predicted_classes
from keras_pipeline.evaluation import multiclass, regression
from keras_pipeline.export.runtimes import Answers

MOST_DIFFERENCE = 1e-5
"""Of a format that computes in float32; of a number as a share of the greatest one that the network predicts."""
NO_ANSWER = 5e-7
"""Two outputs that are nearer, as a share of the greater one, differ by the rounding of float32: the network itself
does not say which class it is."""
QUANTIZED = ("litert_dynamic_int8", "litert_int8")
"""The formats that are of other numbers than the network's: they may differ, at the price of `export.accuracy_loss`."""
Outputs = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """What the formats are held against: the outputs of the network, float32 (n, k), of a predicted number in its own
    units; the right answers, labels int64 (n,) or numbers float64 (n,) in their units; the names of the classes, none
    for a number; the `seed` of the intervals of a number; what an input is called."""

    outputs: Outputs
    targets: NDArray[Any]
    class_names: Sequence[str]
    seed: int
    thing: Literal["image", "row"]

    @property
    def score(self) -> str:
        """What is told of the answers: the name of a metric."""
        return "accuracy" if self.class_names else "r2"

    @property
    def limit(self) -> float:
        """The largest difference that a float format may have."""
        return MOST_DIFFERENCE * max(1.0, float(np.abs(self.outputs).max()))


@dataclass(frozen=True)
class Agreement:
    """One set of outputs held against the reference: the largest difference and the index of its input; the inputs
    whose label is another, without those of which the network itself gives two classes the same output; the score with
    its 95 % interval."""

    largest_difference: float
    at: int
    flipped: tuple[int, ...]
    score: float
    low: float
    high: float


def in_units(outputs: Outputs, target: Scaling | None) -> Outputs:
    """The outputs of the network as the formats give them: a predicted number in its own units."""
    return target.undo(outputs).astype(np.float32) if target else outputs


def hold_against(outputs: Outputs, reference: Reference) -> Agreement:
    """How far these outputs are from the reference's, and how good they are. Raises ModelFileError where one is no
    finite number."""
    if not np.isfinite(outputs).all():
        first = int(np.argwhere(~np.isfinite(outputs))[0][0])
        raise ModelFileError(
            f"test {reference.thing} {first}: got the outputs {outputs[first].tolist()}. Expected: finite numbers."
        )
    apart = np.abs(outputs.astype(np.float64) - reference.outputs).max(axis=1)
    score, low, high = _score(outputs, reference)
    at = int(apart.argmax())
    return Agreement(float(apart[at]), at, tuple(map(int, _flipped(outputs, reference))), score, low, high)


def _flipped(outputs: Outputs, reference: Reference) -> NDArray[np.int64]:
    """The inputs whose label is another one than the network's."""
    if not reference.class_names:
        return np.zeros(0, np.int64)
    of_network, of_format = predicted_classes(reference.outputs), predicted_classes(outputs)
    differing = np.flatnonzero(of_network != of_format)
    if reference.outputs.shape[1] == 1:
        higher, lower = reference.outputs[differing, 0], np.full(len(differing), 0.5)
    else:
        higher = reference.outputs[differing, of_network[differing]]
        lower = reference.outputs[differing, of_format[differing]]
    flipped: NDArray[np.int64] = differing[np.abs(higher - lower) > NO_ANSWER * np.abs(higher)]
    return flipped


def _score(outputs: Outputs, reference: Reference) -> tuple[float, float, float]:
    if reference.class_names:
        right, count = int((predicted_classes(outputs) == reference.targets).sum()), len(outputs)
        return right / count, *multiclass.wilson_interval(right, count)
    predicted = outputs[:, 0].astype(np.float64)
    scores = regression.regression_scores(predicted, reference.targets)
    intervals = regression.regression_intervals(predicted, reference.targets, reference.seed)
    return scores["test/r2"], *intervals["test/r2"]


def check_agreement(
    name: str, found: Agreement, outputs: Outputs, reference: Reference, evaluated: Agreement, accuracy_loss: float
) -> None:
    """Raise ModelFileError, which says where, for a format that does not give the answers of the evaluated network.

    A float format must give every label, and every output to within the limit; a quantized one may lose so many
    percentage points (`accuracy_loss`) of the score of `evaluated`.
    """
    if name in QUANTIZED:
        lost = 100 * (evaluated.score - found.score)
        if lost > accuracy_loss + 1e-9:
            raise ModelFileError(
                f"export: {name}: got the {reference.score} {found.score:.4f}, {lost:.2f} percentage points less than "
                f"the network's {evaluated.score:.4f}. Expected: {accuracy_loss:g} at most (export.accuracy_loss). "
                f"No package is left. Allow more in params.yaml, or take {name} out of export.formats."
            )
        return
    at = found.flipped[0] if found.flipped else found.at
    if not found.flipped and found.largest_difference <= reference.limit:
        return
    flipped = f"{len(found.flipped)} of {len(outputs)} labels flipped, " if reference.class_names else ""
    allowed = f"{'no label flipped, ' if flipped else ''}{reference.limit:.2g} at most"
    raise ModelFileError(
        f"export: {name}: got {flipped}a largest difference of {found.largest_difference:.2g}; test {reference.thing} "
        f"{at}: {_shown(outputs[at], reference)}, of the evaluated network {_shown(reference.outputs[at], reference)}. "
        f"Expected: {allowed}. No package is left. Take {name} out of export.formats in params.yaml, or train with "
        "another normalize.scaling: the larger the numbers within the network, the coarser float32 is."
    )


def _shown(outputs: Outputs, reference: Reference) -> str:
    if not reference.class_names:
        return f"{outputs[0]:.8g}"
    label = reference.class_names[int(predicted_classes(outputs[np.newaxis])[0])]
    return f"{label!a} ({outputs.max():.7f})"


@dataclass(frozen=True)
class Row:
    """All that is told of a format, or of the evaluated network itself, of which nothing was measured."""

    name: str
    agreement: Agreement
    bytes: int
    answers: Answers | None = None


def agreement_metrics(rows: Sequence[Row], reference: Reference, parameters: int) -> dict[str, float]:
    """reports/export.json: agreement and sizes, which the same network gives again; the first row is the network's."""
    found: dict[str, float] = {"export/parameters": parameters}
    for row in rows[1:]:
        own: dict[str, float] = {"largest_difference": row.agreement.largest_difference}
        if reference.class_names:
            own["labels_flipped"] = len(row.agreement.flipped)
        own |= {
            reference.score: row.agreement.score,
            f"{reference.score}_low": row.agreement.low,
            f"{reference.score}_high": row.agreement.high,
        }
        own |= {"bytes": row.bytes} if row.bytes else {}
        found |= {f"export/{row.name}/{key}": value for key, value in own.items()}
    return found


def time_metrics(rows: Sequence[Row]) -> dict[str, float]:
    """What of the formats is of this machine and this hour: milliseconds of one input, inputs a second, megabytes."""
    found: dict[str, float] = {}
    for row in rows:
        if answers := row.answers:
            own = {
                "latency_median_ms": 1e3 * answers.latency_median,
                "latency_p99_ms": 1e3 * answers.latency_p99,
                "inputs_per_second": len(answers.outputs) / answers.seconds,
                "peak_memory_mb": answers.memory / 1e6,
            }
            found |= {f"export/{row.name}/{key}": float(f"{value:.4g}") for key, value in own.items()}
    return found


def table(rows: Sequence[Row], reference: Reference, parameters: int) -> list[dict[str, Any]]:
    """reports/export/formats.csv: a row for the network and each format, all that is known of it."""
    metrics = agreement_metrics([rows[0], *rows], reference, parameters) | time_metrics(rows)
    names = list(dict.fromkeys(key.rpartition("/")[2] for key in metrics if key.count("/") > 1))
    return [
        {"format": row.name, "parameters": parameters}
        | {name: metrics.get(f"export/{row.name}/{name}", "") for name in names}
        for row in rows
    ]
