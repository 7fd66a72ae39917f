"""Figures of more classes than have room one by one: all of them as a map, and the extremes by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from keras_pipeline.evaluation.figures import BLUE, GREY, ORANGE, VERMILION, draw_intervals, short_names

MOST_CELLS = 250
"""Of a side of the map: more could not be seen."""
MOST_NAMED = 60
"""How many classes are named beside the map."""
SHOWN_PAIRS = 25
EXTREMES = 20


def draw_confusions(
    matrix: NDArray[np.integer[Any]],
    pairs: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    things: str = "images",
) -> Figure:
    """A confusion matrix, int (classes, classes), rows true, as a map of shares of the true class, and the most
    confused pairs by name: the rows of `multiclass.confused_pairs`.

    Where several classes share a cell, the diagonal shows their mean, and another cell the greatest of their mistakes,
    so that none is lost. Both colour scales are the same in every figure.
    """
    images, classes = int(matrix.sum()), len(class_names)
    figure = Figure(figsize=(17, 9.5), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=[1.25, 1])
    left, right = (half.add_subplot() for half in halves)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    together = -(-classes // MOST_CELLS)
    starts = np.arange(0, classes, together)
    right_ones = np.add.reduceat(np.diagonal(shares), starts) / np.diff([*starts, classes])
    np.fill_diagonal(shares, 0)
    mistakes = np.maximum.reduceat(np.maximum.reduceat(shares, starts, axis=0), starts, axis=1)
    cells = len(starts)
    diagonal = np.eye(cells, dtype=bool)
    edges = (-0.5, classes - 0.5, classes - 0.5, -0.5)
    style: dict[str, Any] = {"extent": edges, "interpolation": "nearest"}
    correct = np.ma.masked_array(np.diag(right_ones), ~diagonal)
    blues = left.imshow(correct, cmap="Blues", vmin=0, vmax=1, **style)
    hidden = (diagonal if together == 1 else np.zeros_like(diagonal)) | (mistakes == 0)
    oranges = left.imshow(np.ma.masked_array(mistakes, hidden), cmap="Oranges", norm=PowerNorm(0.5, 0, 0.5), **style)
    left.imshow(correct, cmap="Blues", vmin=0, vmax=1, **style)
    _name_axes(left, class_names)
    each = "" if together == 1 else f", {together} classes a cell"
    left.set_title(f"Confusion matrix: {images - int(np.trace(matrix)):,} of {images:,} test {things} wrong{each}")
    for picture, label, ticks in (
        (oranges, "mistakes: share of the true class (square-root scale)", [0, 0.01, 0.05, 0.1, 0.2, 0.5]),
        (blues, "right answers: share of the true class", [0, 0.25, 0.5, 0.75, 1]),
    ):
        extend = "max" if picture is oranges else "neither"
        scale = right.figure.colorbar(
            picture, ax=right, location="bottom", shrink=0.6, aspect=40, ticks=ticks, extend=extend
        )
        scale.ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        scale.set_label(label)
    _draw_pairs(right, pairs[:SHOWN_PAIRS], class_names, things)
    return figure


def _draw_pairs(axes: Axes, pairs: Sequence[Mapping[str, Any]], class_names: Sequence[str], things: str) -> None:
    names = dict(zip(class_names, short_names(class_names), strict=True))
    rows = np.arange(len(pairs))
    bars = axes.barh(rows, [pair["share"] for pair in pairs], color=ORANGE, height=0.7)
    axes.bar_label(bars, [f" {pair['share']:.1%}, {pair['count']:,} {things}" for pair in pairs], size=8)
    labels = [f"{names[pair['actual']]} \N{RIGHTWARDS ARROW} {names[pair['predicted']]}" for pair in pairs]
    axes.set_yticks(rows, labels, parse_math=False, size=9)
    axes.set_ylim(SHOWN_PAIRS - 0.4, -0.6)
    most = max((pair["share"] for pair in pairs), default=1.0)
    axes.set_xlim(0, 1.5 * most)  # with room for the numbers
    axes.set_xticks([tick for tick in MaxNLocator(5).tick_values(0, most) if tick <= 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0 if most > 0.05 else 1))
    axes.set_xlabel(f"share of the {things} of the true class")
    axes.set_title("The most frequent mistakes: true \N{RIGHTWARDS ARROW} predicted" if pairs else "No mistakes")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _name_axes(axes: Axes, class_names: Sequence[str]) -> None:
    """By name where there is room, else by number, as in tables/per_class.csv."""
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if len(class_names) > MOST_NAMED:
        axes.set_xlabel(f"predicted class, 0 … {len(class_names) - 1:,} in the order of tables/per_class.csv")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(10, integer=True))
        return
    size = min(9.0, 420 / len(class_names))
    names = short_names(class_names)
    axes.set_xticks(range(len(names)), names, parse_math=False, size=size, rotation=90)
    axes.set_yticks(range(len(names)), names, parse_math=False, size=size)


def draw_extremes(rows: Sequence[Mapping[str, Any]], things: str = "images") -> Figure:
    """Precision and recall of the classes of the lowest and of the highest F1, EXTREMES of each, as dots with their
    95 % intervals: the rows of `multiclass.per_class_rows`. A class that was not tested is of neither."""
    tested = sorted((row for row in rows if row["support"]), key=lambda row: float(row["f1"]))
    groups = {"lowest": tested[:EXTREMES], "highest": tested[: -EXTREMES - 1 : -1]}
    names = short_names([row["class"] for row in rows])
    shown = {id(row): name for row, name in zip(rows, names, strict=True)}
    figure = Figure(figsize=(14, 8), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (which, group) in zip(panels, groups.items(), strict=True):
        places = np.arange(len(group))
        for key, offset, marker, colour in (("precision", -0.2, "o", ORANGE), ("recall", 0.0, "D", BLUE)):
            draw_intervals(axes, places + offset, group, key, across=True, label=key, fmt=marker, color=colour)
        axes.errorbar([row["f1"] for row in group], places + 0.2, fmt="x", color=VERMILION, label="F1")
        for place in places[:-1]:
            axes.axhline(place + 0.5, color=GREY, lw=0.5, alpha=0.4)
        labels = [f"{shown[id(row)]} ({row['support']:,})" for row in group]
        axes.set_yticks(places, labels, parse_math=False)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(group) - 0.5, -0.5), xlabel="score, with 95 % intervals")
        axes.set_title(f"the {len(group)} classes of {which} F1")
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    panels[0].set_ylabel(f"class (test {things})")
    untested = f"; without test {things}: {len(rows) - len(tested):,}" if len(tested) < len(rows) else ""
    figure.suptitle(f"Precision, recall and F1 on the test {things}: the extremes of {len(rows):,} classes{untested}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
