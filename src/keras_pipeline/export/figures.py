"""The formats beside each other, drawn."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_pipeline.evaluation.figures import BLUE, GREEN, GREY, ORANGE, VERMILION
from keras_pipeline.export.agreement import QUANTIZED, Reference, Row

LEAST_SHOWN = 1e-8
"""A difference of nothing, on a logarithmic scale."""


def draw_formats(rows: Sequence[Row], reference: Reference) -> Figure:
    """Each format's largest difference from the evaluated network, its score with its interval, its size, and the time
    that one input takes, median to 99th percentile; the first row is the network."""
    network, *formats = rows
    figure = Figure(figsize=(13, 2.3 + 0.5 * len(formats)), layout="constrained")
    difference, score, size, latency = figure.subplots(1, 4, sharey=True, width_ratios=[1.3, 1, 1, 1])
    names = [row.name for row in formats]
    for place, row in enumerate(formats):
        found = row.agreement
        shown = max(found.largest_difference, LEAST_SHOWN)
        colour = ORANGE if row.name in QUANTIZED else BLUE
        difference.plot(shown, place, "o", color=colour)
        flipped = f", {len(found.flipped)} labels flipped" if reference.class_names else ""
        _say(difference, LEAST_SHOWN / 2, place, f"{found.largest_difference:.1e}{flipped}", ha="left")
        below, above = max(0.0, found.score - found.low), max(0.0, found.high - found.score)
        score.errorbar(found.score, place, xerr=[[below], [above]], fmt="o", capsize=4, color=colour)
        _say(score, found.score, place, f"{found.score:.4f}")
        size.barh(place, row.bytes / 1e6, 0.25, color=colour)
        _say(size, 0, place, f" {row.bytes / 1e6:.3g} MB", ha="left")
        if row.answers:
            ends = [1e3 * row.answers.latency_median, 1e3 * row.answers.latency_p99]
            latency.plot(ends, [place, place], "-", color=GREEN, lw=3)
            latency.plot(ends[0], place, "o", color=GREEN)
            _say(latency, ends[0], place, f"{ends[0]:.3g} ms", ha="left")
    difference.axvline(reference.limit, ls="--", color=VERMILION, label="limit of float formats")
    score.axvline(network.agreement.score, ls="--", color=GREY, label="evaluated network")
    figure.legend(loc="outside lower center", ncols=2)
    unit = "" if reference.class_names else ", in units of the target"
    difference.set(xscale="log", xlabel=f"largest difference of outputs{unit}", yticks=range(len(names)))
    difference.set_yticklabels(names, parse_math=False)
    difference.set(ylim=(len(names) - 0.4, -0.6), xlim=(LEAST_SHOWN / 3, None))
    score.set_xlabel(f"test {reference.score}, 95 % interval".replace("r2", "R²"))
    size.set_xlabel("size, MB")
    latency.set(xscale="log", xlabel=f"ms for one {reference.thing}, median to p99")
    latency.margins(x=0.25)
    for axes in (difference, score, size, latency):
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    figure.suptitle(
        f"Exports held against the evaluated network, over {len(reference.outputs):,} test {reference.thing}s"
    )
    return figure


def _say(axes: Axes, x: float, place: int, text: str, ha: str = "center") -> None:
    axes.annotate(text, (x, place), (0, 9), textcoords="offset points", ha=ha, va="bottom", size=8)
