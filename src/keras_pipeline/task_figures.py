"""Figures of the tasks beside the choice of a class: one class against the rest, and a predicted number.

As in `figures`: every function builds its own `Figure`, in the same colours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from keras_pipeline.figures import BLUE, GREY, ORANGE, VERMILION

Numbers = NDArray[np.float64]


def roc(rows: Sequence[Mapping[str, Any]], area: float, positive: str) -> Figure:
    """True against false positive rate, the rows of `binary_metrics.roc`, with the area below and the threshold ½."""
    figure, axes = _square()
    false, true = ([row[key] for row in rows] for key in ("false_positive_rate", "true_positive_rate"))
    axes.plot(false, true, color=BLUE, lw=2, label="network", clip_on=False)
    axes.plot([0, 1], [0, 1], "--", color=GREY, label="chance")
    _mark_half(axes, rows, "false_positive_rate", "true_positive_rate")
    axes.set_xlabel("false positive rate: share of the rest that is taken for it")
    axes.set_ylabel(f"true positive rate (recall): share of '{positive}' that is found", parse_math=False)
    axes.set_title(f"ROC curve of '{positive}' against the rest: area {area:.4f}", parse_math=False)
    axes.legend(loc="lower right")
    return figure


def precision_recall(
    rows: Sequence[Mapping[str, Any]], average_precision: float, share: float, positive: str
) -> Figure:
    """Precision against recall, the rows of `binary_metrics.precision_recall`; `share`: of class 1 in the images."""
    figure, axes = _square()
    recall, precision = ([row[key] for row in rows] for key in ("recall", "precision"))
    axes.plot(recall, precision, color=BLUE, lw=2, drawstyle="steps-post", label="network", clip_on=False)
    axes.axhline(share, ls="--", color=GREY, label=f"chance: {share:.1%} of the test images")
    _mark_half(axes, rows, "recall", "precision")
    axes.set_xlabel(f"recall: share of '{positive}' that is found", parse_math=False)
    axes.set_ylabel("precision: share of what is found that is it")
    title = f"Precision and recall of '{positive}': average precision {average_precision:.4f}"
    axes.set_title(title, parse_math=False)
    axes.legend(loc="lower left")
    return figure


def predicted(found: Numbers, true: Numbers, name: str, r2: float) -> Figure:
    """Each test row's prediction against the true value, in the target's units; the dashed line is right."""
    figure, axes = _square()
    both = np.concatenate([found, true])
    margin = 0.04 * float(np.ptp(both))
    ends = float(both.min()) - margin, float(both.max()) + margin
    axes.plot(ends, ends, "--", color=GREY, label="right")
    axes.plot(true, found, "o", ms=5, mfc=BLUE, mec="white", mew=0.5, label=f"{len(true):,} test rows")
    axes.set(xlim=ends, ylim=ends)
    axes.set_xlabel(f"true {name}", parse_math=False)
    axes.set_ylabel(f"predicted {name}", parse_math=False)
    axes.set_title(f"Predicted against true: R² {r2:.4f}")
    axes.legend(loc="upper left")
    return figure


def residuals(found: Numbers, true: Numbers, name: str) -> Figure:
    """Predicted minus true value: against the prediction, where a pattern is what was not learned, and how often."""
    errors = found - true
    figure = Figure(figsize=(9, 5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    left.axhline(0, ls="--", color=GREY)
    left.plot(found, errors, "o", ms=5, mfc=BLUE, mec="white", mew=0.5)
    left.set_xlabel(f"predicted {name}", parse_math=False)
    left.set_ylabel("predicted minus true")
    right.hist(errors, bins="auto", orientation="horizontal", color=BLUE)
    right.axhline(float(errors.mean()), color=VERMILION, label=f"mean {errors.mean():.3g}")
    right.set_xlabel("test rows")
    right.legend(loc="upper right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    figure.suptitle(f"Residuals: standard deviation {errors.std():.4g} over {len(true):,} test rows")
    return figure


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.5, 6.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _mark_half(axes: Axes, rows: Sequence[Mapping[str, Any]], x: str, y: str) -> None:
    """The point of the lowest threshold that is not below a half, which is where the network decides."""
    above = [row for row in rows if row["threshold"] is not None and row["threshold"] > 0.5]
    if above:
        point = min(above, key=lambda row: float(row["threshold"]))
        style: dict[str, Any] = {"ms": 15, "mfc": ORANGE, "mec": "black", "ls": "", "clip_on": False, "zorder": 3}
        axes.plot(point[x], point[y], "*", **style, label="threshold 0.5: where the network decides")
