"""What several trainings have in common, drawn: differences with their intervals, and learning curves."""

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_pipeline.evaluation.figures import BLUE, GREY, VERMILION

Difference = tuple[float, float, float, bool]
"""A difference of shares, its interval's ends, and whether it is larger than chance."""
LONGEST_NAME = 48
LONGEST_LINE = 75


def draw_differences(differences: Mapping[str, Difference], quantity: str, what_is_filled: str) -> Figure:
    """A forest plot: of each row its difference and 95 % interval in points, hundredths, drawn and in figures; filled
    where it is larger than chance."""
    figure = Figure(figsize=(9, 1.5 + 0.36 * len(differences)), layout="constrained")
    axes = figure.add_subplot()
    rows = {name: tuple(100 * value for value in found[:3]) for name, found in differences.items()}
    for row, ((middle, low, high), (*_, real)) in enumerate(zip(rows.values(), differences.values(), strict=True)):
        errors = [[max(0.0, middle - low)], [max(0.0, high - middle)]]
        axes.errorbar(middle, row, xerr=errors, fmt="D" if real else "o", ms=6, capsize=4,
                      color=VERMILION if real else GREY, mfc=VERMILION if real else "white")  # fmt: skip
    axes.axvline(0, color="black", lw=1)
    name_rows(axes, list(rows))
    told = axes.secondary_yaxis("right")
    values = [f"{middle:+.2f} [{low:+.2f}, {high:+.2f}]" for middle, low, high in rows.values()]
    told.set_yticks(range(len(rows)), values)
    told.tick_params(length=0)
    label = f"{quantity}, in percentage points, with 95\N{NO-BREAK SPACE}% intervals; filled: {what_is_filled}"
    axes.set_xlabel(textwrap.fill(label, LONGEST_LINE), parse_math=False)
    return figure


def draw_histories(histories: Mapping[str, Mapping[str, Sequence[float]]], metrics: Sequence[str]) -> Figure:
    """The learning curves of two runs, a panel for each metric: `histories` has by run the columns train/METRIC and
    val/METRIC, a value an epoch."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for (name, history), colour in zip(histories.items(), (BLUE, VERMILION), strict=True):
            for split, style in (("val", "-"), ("train", "--")):
                values = history[f"{split}/{metric}"]
                marker = "o" if len(values) < 3 else ""
                label = f"{name}, {'validation' if split == 'val' else 'training'}"
                axes.plot(range(1, len(values) + 1), values, style, color=colour, marker=marker, label=label)
        name_epochs(axes, metric)
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside upper center", ncols=2)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def name_epochs(axes: Axes, metric: str) -> None:
    """A panel of learning curves: its axes, named."""
    axes.set(xlabel="epoch", ylabel=metric.replace("_", " "))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """A row a name, the first on top."""
    shown = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]
    axes.set_yticks(range(len(names)), shown, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
