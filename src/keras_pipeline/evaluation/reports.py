"""What is reported of a network, one function a task: its answers on the test split as numbers, tables and figures."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from keras_pipeline.config.params import Evaluate
from keras_pipeline.config.tasks import format_headline, is_no_better_than_constant
from keras_pipeline.core import process
from keras_pipeline.data import task_spec
from keras_pipeline.data.encoding import decode
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.data.splits import Split
from keras_pipeline.data.statistics import DatasetDescription, is_table, things
from keras_pipeline.evaluation import binary, figures, many_classes, multiclass, regression
from keras_pipeline.evaluation.predictions import Predictions

Rows = list[dict[str, Any]]
Coefficients = NDArray[np.float32]
MOST_IN_MATRIX = 30
"""How many classes have their names and counts in a confusion matrix."""
MOST_BESIDE = 40
"""How many classes have their scores side by side in a figure."""


@dataclass(frozen=True)
class Report:
    """`scores` and `intervals` by metric; `tables` and `figures` by the names of their files; `lines`: what is worth
    telling beside the headline."""

    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    tables: dict[str, Rows]
    figures: dict[str, Figure]
    lines: list[str]


def make_report(
    answers: Predictions, test: Split, statistics: DatasetDescription, settings: Evaluate, seed: int
) -> Report:
    """The report of the task that statistics.json names; its first line is the headline."""
    report = REPORTS[statistics["task"]](answers, test, statistics, settings, seed)
    report.lines.insert(0, f"{format_headline(report.scores)} on {len(test.targets):,} {things(statistics)}")
    return report


def _classes(
    answers: Predictions, test: Split, statistics: DatasetDescription, settings: Evaluate, seed: int
) -> Report:
    scores = multiclass.class_scores(answers.outputs, test.targets, answers.loss, settings.calibration_bins)
    intervals = multiclass.class_intervals(answers.outputs, test.targets, seed)
    tables, drawn, lines = _by_class(answers.outputs, test, statistics, settings, scores)
    return Report(scores, intervals, tables, drawn, lines)


def _binary(answers: Predictions, test: Split, statistics: DatasetDescription, settings: Evaluate, seed: int) -> Report:
    outputs, labels, names = answers.outputs, test.targets, statistics["class_names"]
    scores = binary.binary_scores(outputs, labels, answers.loss, settings.calibration_bins)
    intervals = binary.binary_intervals(outputs, labels)
    two = binary.class_shares(outputs)
    tables, drawn, lines = _by_class(two, test, statistics, settings, scores)
    tables |= {
        "roc": binary.roc_curve(outputs, labels),
        "precision_recall": binary.precision_recall_curve(outputs, labels),
    }
    area, precision, share = scores["test/roc_auc"], scores["test/average_precision"], float(labels.mean())
    with process.time_part("figures"):
        drawn |= {
            "roc": figures.draw_roc(tables["roc"], area, names[1]),
            "precision_recall": figures.draw_precision_recall(
                tables["precision_recall"], precision, share, names[1], things(statistics)
            ),
        }
    if lines and intervals["test/roc_auc"][0] > 0.5:
        lines.append(
            f"its outputs tell the classes apart all the same (test/roc_auc {area:.4f}), by another threshold than a "
            "half: see figures/roc.png and figures/precision_recall.png"
        )
    return Report(scores, intervals, tables, drawn, lines)


def _by_class(
    outputs: multiclass.Floats,
    test: Split,
    statistics: DatasetDescription,
    settings: Evaluate,
    scores: Mapping[str, float],
) -> tuple[dict[str, Rows], dict[str, Figure], list[str]]:
    """Tables and figures from outputs (n, classes), and a line where nothing was learned. DVC's plot has a cell for
    each pair of the classes in tables/confusion.csv: of many classes, those that are confused most. The worst mistakes
    are images, or a table: `row` is that of data/raw/test.csv, from 1, without its header."""
    names, labels, predicted = statistics["class_names"], test.targets, task_spec.predicted_classes(outputs)
    rows = multiclass.per_class_rows(labels, predicted, names)
    calibration = multiclass.calibration_rows(outputs, labels, settings.calibration_bins)
    matrix = multiclass.confusion_matrix(labels, predicted, len(names))
    confused = multiclass.confused_pairs(matrix, names)
    plotted = set(multiclass.most_confused(matrix, MOST_IN_MATRIX))
    pairs = ((true, answer) for true, answer in zip(labels.tolist(), predicted.tolist(), strict=True))
    tables = {
        "per_class": rows,
        "calibration": calibration,
        "confusion": [
            {"actual": names[true], "predicted": names[answer]} for true, answer in pairs if {true, answer} <= plotted
        ],
        **({"confused_pairs": confused} if confused else {}),
    }
    tested = things(statistics)
    with process.time_part("figures"):
        drawn = {
            "confusion_matrix": figures.draw_confusion_matrix(matrix, names, tested)
            if len(names) <= MOST_IN_MATRIX
            else many_classes.draw_confusions(matrix, confused, names, tested),
            "per_class": figures.draw_per_class(rows, tested)
            if len(names) <= MOST_BESIDE
            else many_classes.draw_extremes(rows, tested),
            "reliability": figures.draw_reliability(calibration, tested),
        }
        worst = multiclass.find_worst_mistakes(outputs, labels, settings.worst_mistakes)
        actual, answered = labels[worst].tolist(), predicted[worst].tolist()
        surest = multiclass.of_each_image(outputs, labels).confidence[worst].tolist()
        if not is_table(statistics):
            images = [figures.thumbnail(test.scaled([index])[0]) for index in worst]
            drawn["worst_mistakes"] = figures.draw_worst_mistakes(images, actual, answered, surest, names)
        elif len(worst):
            tables["worst_mistakes"] = [
                {"row": row + 1, "actual": names[true], "predicted": names[answer], "probability": probability, **asked}
                for row, true, answer, probability, asked in zip(
                    worst.tolist(), actual, answered, surest, _asked(test, statistics, worst), strict=True
                )
            ]
    return tables, drawn, list(_nothing_learned(outputs, predicted, rows, scores, tested.removesuffix("s")))


def _asked(test: Split, statistics: DatasetDescription, rows: NDArray[np.intp]) -> Rows:
    """What the network was given of these rows, by column: missing numbers are filled, and six digits are right."""
    given: Any = statistics["input"]
    columns = decode(given["columns"], Scaling(**statistics["scaling"]).undo(test.inputs[rows]))
    ours = {"row", "actual", "predicted", "probability"}
    return [
        {
            f"{name} (column)" if name in ours else name: float(f"{value:.6g}") if isinstance(value, float) else value
            for name, value in zip(columns, values, strict=True)
        }
        for values in zip(*columns.values(), strict=True)
    ]


def _nothing_learned(
    outputs: multiclass.Floats, predicted: multiclass.Integers, rows: Rows, scores: Mapping[str, float], thing: str
) -> Iterator[str]:
    """Why the answers are of no use, where they are not; `rows`: those of `multiclass.per_class_rows`; `thing`: what an
    input is called."""
    if not is_no_better_than_constant(scores):
        return
    common = max(rows, key=lambda row: int(row["support"]))
    share = common["support"] / len(predicted)
    said = f"no better than always giving the most common answer, {common['class']} ({share:.1%})"
    if np.ptp(outputs, axis=0).max() == 0:
        said += (
            f"; it gives the same outputs to every {thing} ({rows[predicted[0]]['class']}), as dead units or exploded "
            "weights do"
        )
    elif np.ptp(predicted) == 0:
        said += f"; it answers {rows[predicted[0]]['class']} to every {thing}"
    yield f"{said}. Try another train.optimizer.learning_rate, mostly a lower one, or more train.epochs."


def _regression(
    answers: Predictions, test: Split, statistics: DatasetDescription, settings: Evaluate, seed: int
) -> Report:
    constants: Any = statistics["target"]
    target = Scaling(**constants)
    given: Any = statistics["input"]
    features, name = given["features"], given["target"]
    predicted, true = target.undo(answers.outputs[:, 0]), target.undo(test.targets)
    found = regression.regression_scores(predicted, true)
    intervals = regression.regression_intervals(predicted, true, seed)
    columns = zip(true.tolist(), predicted.tolist(), strict=True)
    tables: dict[str, Rows] = {
        "predicted": [{"actual": right, "predicted": value, "residual": value - right} for right, value in columns]
    }
    lines = []
    if is_no_better_than_constant(found):
        same = ", and gives the same to every row" if np.ptp(predicted) == 0 else ""
        lines.append(
            f"no better than always giving the mean{same}. Try another train.optimizer.learning_rate, mostly a lower "
            "one, or more train.epochs."
        )
    if answers.coefficients is not None:
        tables["coefficients"] = _coefficients(answers.coefficients, Scaling(**statistics["scaling"]), target, features)
        *slopes, intercept = (row["value"] for row in tables["coefficients"])
        if len(slopes) == 1:
            sign = "-" if intercept < 0 else "+"
            lines.append(f"the network is the line {name} = {slopes[0]:.4f} {features[0]} {sign} {abs(intercept):.4f}")
        else:
            lines.append("the network is linear: its slopes are in tables/coefficients.csv")
    with process.time_part("figures"):
        drawn = {
            "predicted": figures.draw_predicted(predicted, true, name, found["test/r2"]),
            "residuals": figures.draw_residuals(predicted, true, name),
        }
    return Report({"test/loss": answers.loss, **found}, intervals, tables, drawn, lines)


def _coefficients(network: Coefficients, inputs: Scaling, target: Scaling, features: list[str]) -> Rows:
    """A row for each feature's slope, and the intercept, in the units of the raw table."""
    weights, bias = network[:-1].astype(np.float64), float(network[-1])
    slopes = weights * target.divisor / np.asarray(inputs.divisor)
    intercept = bias * target.divisor + target.offset - float(slopes @ np.asarray(inputs.offset))
    values = [*zip(features, slopes.tolist(), strict=True), ("intercept", intercept)]
    return [{"name": name, "value": value} for name, value in values]


REPORTS: dict[str, Callable[[Predictions, Split, DatasetDescription, Evaluate, int], Report]] = {
    "classes": _classes,
    "binary": _binary,
    "regression": _regression,
}
