"""The figures of a study, and its learning curves as a plot in which one switches variants on and off."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from keras_pipeline.comparison import statistics
from keras_pipeline.comparison.figures import name_epochs, name_rows
from keras_pipeline.evaluation.figures import BLUE, GREY, ORANGE, VERMILION

Curve = NDArray[np.float64]
"""A metric by seed and epoch, (seeds, epochs), NaN behind the end of a training."""
MOST_STRONG = 6
"""Of the curves of a figure, so many in colour; more cannot be told apart."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's
DASHES = ([1, 0], [6, 3], [2, 2])
FAINT = "#bbbbbb"
LINEAR_UP_TO = 30
"""From this ratio of the largest value to the smallest on, an axis of values is logarithmic."""


def draw_accuracies(seeds: Mapping[str, Sequence[float]], baseline: str) -> Figure:
    """Test accuracy of each variant: every seed as a dot, their mean with its 95 % interval (Student's t) beside."""
    from scipy import stats

    figure = Figure(figsize=(9, 1.4 + 0.42 * len(seeds)), layout="constrained")
    axes = figure.add_subplot()
    for row, (name, values) in enumerate(seeds.items()):
        shown = 100 * np.asarray(values, dtype=float)
        axes.plot(shown, np.full(len(shown), row - 0.14), "o", ms=5, mfc="none", mec=BLUE, alpha=0.8)
        if len(shown) >= statistics.LEAST_SEEDS:
            half = stats.t.ppf(0.975, len(shown) - 1) * shown.std(ddof=1) / math.sqrt(len(shown))
            colour = ORANGE if name == baseline else VERMILION
            axes.errorbar(shown.mean(), row + 0.16, xerr=half, fmt="D", ms=5, color=colour, capsize=4)
        elif not len(shown):
            axes.text(0.01, row, "diverged", transform=axes.get_yaxis_transform(), va="center", color=GREY)
    name_rows(axes, list(seeds))
    axes.set_xlabel("test accuracy in %: circles are seeds, diamonds their means with 95 % intervals")
    return figure


def draw_along(key: str, values: Sequence[float], seeds: Sequence[Sequence[float]]) -> Figure:
    """Test accuracy against the one number that varies: the mean as a line, every seed as a dot."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
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
    logarithmic = min(values) > 0 and max(values) / min(values) > LINEAR_UP_TO
    if logarithmic:
        axes.set_xscale("log")
    axes.set(xlabel=f"{key} (log scale)" if logarithmic else key, ylabel="test accuracy in %")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def draw_curves(metrics: Mapping[str, Mapping[str, Curve]], strong: Sequence[str]) -> Figure:
    """Panels in two columns, one for each metric: a line for each variant, the mean of its seeds; those of `strong` in
    colour and in a band from the least to the most, the others grey.

    An epoch counts as far as all seeds have it.
    """
    figure = Figure(figsize=(10, 3.4 * math.ceil(len(metrics) / 2)), layout="constrained")
    panels = figure.subplots(math.ceil(len(metrics) / 2), 2, squeeze=False).flatten()
    colours = dict(zip(strong, cycle(COLOURS), strict=False))
    for axes, (metric, variants) in zip(panels, metrics.items(), strict=False):
        for name, values in sorted(variants.items(), key=lambda one: one[0] in colours):
            whole = _whole(values)
            epochs = np.arange(1, whole.shape[1] + 1)
            marker = "o" if len(epochs) < 3 else ""
            if name in colours:
                axes.fill_between(epochs, whole.min(axis=0), whole.max(axis=0), color=colours[name], alpha=0.15, lw=0)
            style: dict[str, Any] = {"color": colours[name], "lw": 1.8, "zorder": 3} if name in colours else {}
            axes.plot(epochs, whole.mean(axis=0), marker=marker, **style or {"color": FAINT, "lw": 1}, label=name)
        scale = _scale(metric, variants)
        axes.set_yscale(scale)
        name_epochs(axes, f"{metric} (log scale)" if scale == "log" else metric)
    lines = {str(line.get_label()): line for line in panels[0].lines}
    shown = {name: lines[name] for name in strong if name in lines}
    if others := [name for name in lines if name not in colours]:
        shown[f"{len(others)} more"] = lines[others[0]]
    legend = figure.legend(shown.values(), shown, loc="outside lower center", ncols=3,
                           title="mean of the seeds; band: min\N{EN DASH}max")  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def plot_curves(metrics: Mapping[str, Mapping[str, Curve]], strong: Sequence[str]) -> dict[str, Any]:
    """The same for Vega-Lite: a click on a variant's name switches it between strong and grey, and a line tells its
    numbers. At first those of `strong` are strong."""
    names = [*strong, *(name for name in next(iter(metrics.values())) if name not in strong)]
    looks = [look for look, _ in zip(cycle(product(DASHES, COLOURS)), names, strict=False)]
    legend = {"title": None, "orient": "bottom", "columns": 3, "labelLimit": 260, "symbolType": "stroke",
              "symbolSize": 400, "symbolStrokeWidth": 3, "symbolOpacity": 1}  # fmt: skip
    colour = {"field": "variant", "type": "nominal", "legend": legend,
              "scale": {"domain": names, "range": [colour for _, colour in looks]}}  # fmt: skip
    dash = {"field": "variant", "type": "nominal", "legend": legend,
            "scale": {"domain": names, "range": [dash for dash, _ in looks]}}  # fmt: skip
    panels = [_panel(metric, variants, colour, dash) for metric, variants in metrics.items()]
    chosen = {"name": "chosen", "select": {"type": "point", "fields": ["variant"], "toggle": "true"},
              "bind": "legend", "value": [{"variant": name} for name in strong]}  # fmt: skip
    panels[0]["layer"][1]["params"] = [chosen]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": "Learning curves: click on a variant to switch it on or off",
        "columns": 2,
        "concat": panels,
        "resolve": {"scale": {"color": "shared", "strokeDash": "shared"}},
        "config": {
            "font": "system-ui, sans-serif",
            "view": {"stroke": "#ddd"},
            "axis": {"gridOpacity": 0.5, "labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal"},
            "legend": {"labelFontSize": 13},
        },
    }


def _panel(
    metric: str, variants: Mapping[str, Curve], colour: Mapping[str, Any], dash: Mapping[str, Any]
) -> dict[str, Any]:
    on = {"param": "chosen"}
    scale = _scale(metric, variants)
    title = f"{metric} (log scale)" if scale == "log" else metric
    shape = {"type": "log", "nice": False} if scale == "log" else {"zero": False}
    y = {"field": "mean", "type": "quantitative", "title": title, "scale": shape}
    x = {"field": "epoch", "type": "quantitative", "axis": {"format": "d", "tickMinStep": 1}}
    told = ["variant", "epoch", "mean", "min", "max"]
    line = {
        "mark": {"type": "line", "strokeWidth": 2, "point": {"size": 12, "filled": True}},
        "encoding": {
            "x": x,
            "y": y,
            "color": {"condition": {**on, **colour}, "value": FAINT},
            "strokeDash": dash,
            "opacity": {"condition": {**on, "value": 1}, "value": 0.5},
            "tooltip": [
                {"field": name, "format": ".4g"} if name in told[2:] else {"field": name, "type": "nominal"}
                for name in told
            ],
        },
    }
    band = {
        "mark": "area",
        "encoding": {
            "x": x,
            "y": {**y, "field": "min"},
            "y2": {"field": "max"},
            "color": {"condition": {**on, **colour}, "value": FAINT},
            "opacity": {"condition": {**on, "value": 0.15}, "value": 0},
        },
    }
    return {"width": 400, "height": 270, "data": {"values": list(_rows(variants))}, "layer": [band, line]}


def _rows(variants: Mapping[str, Curve]) -> Iterator[dict[str, Any]]:
    for name, values in variants.items():
        whole = _whole(values)
        for epoch, (mean, least, most) in enumerate(zip(whole.mean(axis=0), whole.min(axis=0), whole.max(axis=0),
                                                        strict=True), 1):  # fmt: skip
            numbers = {"mean": float(mean), "min": float(least), "max": float(most)}
            yield {"variant": name, "epoch": epoch, **{key: float(f"{one:.5g}") for key, one in numbers.items()}}


def _whole(values: Curve) -> Curve:
    """The epochs that all seeds have."""
    return values[:, ~np.isnan(values).any(axis=0)] if values.size else np.zeros((1, 0))


def _scale(metric: str, variants: Mapping[str, Curve]) -> str:
    values = np.concatenate([_whole(one).ravel() for one in variants.values()] or [np.ones(1)])
    wide = values.size and values.min() > 0 and values.max() / values.min() > LINEAR_UP_TO
    return "log" if metric.endswith("loss") and wide else "linear"
