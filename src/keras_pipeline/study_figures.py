"""The figures of a study: what each variant reached, how it differs from the baseline, how it learned."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from keras_pipeline.figures import BLUE, GREY, ORANGE, VERMILION

Curve = NDArray[np.float64]
"""A metric by seed and epoch, (seeds, epochs), NaN behind the end of a training."""
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
STYLES = ("-", "--", ":", "-.")
LINEAR_UP_TO = 30
"""From this ratio of the largest value to the smallest on, an axis of values is logarithmic."""


def accuracies(seeds: Mapping[str, Sequence[float]], baseline: str) -> Figure:
    """Test accuracy of each variant: every seed as a dot, their mean with its 95 % interval (Student's t) beside."""
    from scipy import stats

    figure = Figure(figsize=(8, 1.4 + 0.42 * len(seeds)), layout="constrained")
    axes = figure.add_subplot()
    for row, (name, values) in enumerate(seeds.items()):
        shown = 100 * np.asarray(values, dtype=float)
        axes.plot(shown, np.full(len(shown), row - 0.14), "o", ms=5, mfc="none", mec=BLUE, alpha=0.8)
        if len(shown) > 1:
            half = stats.t.ppf(0.975, len(shown) - 1) * shown.std(ddof=1) / math.sqrt(len(shown))
            colour = ORANGE if name == baseline else VERMILION
            axes.errorbar(shown.mean(), row + 0.16, xerr=half, fmt="D", ms=5, color=colour, capsize=4)
        elif not len(shown):
            axes.text(0.01, row, "diverged", transform=axes.get_yaxis_transform(), va="center", color=GREY)
    _rows(axes, list(seeds))
    axes.set_xlabel("test accuracy in %: circles are seeds, diamonds their means with 95 % intervals")
    return figure


def differences(intervals: Mapping[str, tuple[float, float, float, bool]], baseline: str) -> Figure:
    """Difference, low, high of each variant's test accuracy from the baseline's, and whether it is real."""
    figure = Figure(figsize=(8, 1.4 + 0.36 * len(intervals)), layout="constrained")
    axes = figure.add_subplot()
    for row, (middle, low, high, real) in enumerate(intervals.values()):
        errors = [[100 * (middle - low)], [100 * (high - middle)]]
        axes.errorbar(100 * middle, row, xerr=errors, fmt="D" if real else "o", ms=6, capsize=4,
                      color=VERMILION if real else GREY, mfc=VERMILION if real else "white")  # fmt: skip
    axes.axvline(0, color=ORANGE, lw=1.5)
    _rows(axes, list(intervals))
    axes.set_xlabel(f"points of test accuracy above '{baseline}', 95 % intervals; filled: larger than noise")
    return figure


def along(key: str, values: Sequence[float], seeds: Sequence[Sequence[float]]) -> Figure:
    """Test accuracy against the one number that varies: the mean as a line, every seed as a dot."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    order = np.argsort(values)
    means = [100 * float(np.mean(seeds[index])) if len(seeds[index]) else math.nan for index in order]
    axes.plot(np.asarray(values, dtype=float)[order], means, "-", color=VERMILION, lw=2, label="mean")
    for index, value in enumerate(values):
        of_one = 100 * np.asarray(seeds[index], dtype=float)
        axes.plot([value] * len(of_one), of_one, "o", ms=5, mfc="none", mec=BLUE, label="seeds" if not index else None)
        if not len(of_one):
            axes.axvline(value, color=GREY, ls=":", lw=1)
            axes.text(value, 0.02, " diverged", transform=axes.get_xaxis_transform(), rotation=90, color=GREY)
    if min(values) > 0 and max(values) / min(values) > LINEAR_UP_TO:
        axes.set_xscale("log")
    axes.set(xlabel=key, ylabel="test accuracy in %")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def curves(metrics: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """A panel for each metric: a line for each variant, the mean of its seeds, in a band from the least to the most.

    An epoch counts as far as all seeds have it.
    """
    figure = Figure(figsize=(9, 3.6 * len(metrics)), layout="constrained")
    panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (metric, variants) in zip(panels, metrics.items(), strict=True):
        for (name, values), (style, colour) in zip(variants.items(), cycle(product(STYLES, OKABE_ITO)), strict=False):
            whole = values[:, ~np.isnan(values).any(axis=0)] if values.size else values
            if not whole.size:
                continue
            epochs = np.arange(1, whole.shape[1] + 1)
            marker = "o" if len(epochs) < 3 else ""
            axes.plot(epochs, whole.mean(axis=0), style, color=colour, lw=1.8, marker=marker, label=name)
            axes.fill_between(epochs, whole.min(axis=0), whole.max(axis=0), color=colour, alpha=0.15, lw=0)
        if metric.endswith("loss") and _spread(variants) > LINEAR_UP_TO:
            axes.set_yscale("log")
        axes.set_ylabel(metric)
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", title="mean of seeds,\nband: least to most")
    return figure


def _spread(variants: Mapping[str, Curve]) -> float:
    values = np.concatenate([one[~np.isnan(one)] for one in variants.values()] or [np.ones(1)])
    return float(values.max() / values.min()) if values.size and values.min() > 0 else 1.0


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(
        range(len(names)), [name if len(name) <= 60 else f"{name[:59]}…" for name in names], parse_math=False
    )
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
