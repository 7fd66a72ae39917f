"""The figures of a search: its trials one after the other, and their values by each key alone."""

import json
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_pipeline.figures import BLUE, GREY, VERMILION
from keras_pipeline.studies import short
from keras_pipeline.trials import Seen

COLUMNS = 2


def history(seen: Sequence[Seen], metric: str, *, highest: bool) -> Figure:
    """The metric of every trial in their order, those that were pruned as crosses at their last epoch's; a line for the
    best so far, which is the highest or the lowest."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    _points(axes, [(one.number, one) for one in seen])
    complete = [(one.number, one.value) for one in seen if one.value is not None]
    if complete:
        numbers, values = zip(*complete, strict=True)
        so_far = (np.maximum if highest else np.minimum).accumulate([*values, values[-1]])
        axes.step([*numbers, seen[-1].number], so_far, where="post", color=VERMILION, lw=2, label="best so far")
    axes.set(xlabel="trial", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def slices(seen: Sequence[Seen], keys: Sequence[str], metric: str, logarithmic: Set[str]) -> Figure:
    """A panel for each key: the metric of every trial by its value, on an axis by its logarithm for `logarithmic`."""
    rows = -(-len(keys) // COLUMNS)
    figure = Figure(figsize=(9, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).flatten()
    for axes, key in zip(panels, keys, strict=False):
        values = [one.values[key] for one in seen]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            _points(axes, list(zip(values, seen, strict=True)))
            if key in logarithmic:
                axes.set_xscale("log")
        else:
            names = sorted({json.dumps(value) for value in values})
            _points(axes, [(names.index(json.dumps(one.values[key])), one) for one in seen])
            shown = [short(json.loads(name))[:24] for name in names]
            axes.set_xticks(range(len(names)), shown, parse_math=False)
        axes.set_xlabel(key, parse_math=False)
        axes.grid(alpha=0.3)
    for axes in panels[len(keys) :]:
        axes.set_axis_off()
    figure.supylabel(metric)
    return figure


def _points(axes: Axes, places: Sequence[tuple[Any, Seen]]) -> None:
    complete = [(place, one.value) for place, one in places if one.value is not None]
    pruned = [(place, one.epochs[max(one.epochs)]) for place, one in places if one.value is None and one.epochs]
    for points, marker, colour, label in ((complete, "o", BLUE, "complete"), (pruned, "x", GREY, "pruned")):
        if points:
            axes.plot(*zip(*points, strict=True), marker, color=colour, alpha=0.8, label=label)
