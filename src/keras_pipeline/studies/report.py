"""The report of a study: one page for people, as Markdown with figures beside it and as HTML with all of it inside."""

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from keras_pipeline.comparison import page, statistics
from keras_pipeline.core import files
from keras_pipeline.evaluation.figures import BLUE, GREY, ORANGE, VERMILION
from keras_pipeline.records.git import describe_git
from keras_pipeline.studies.results import CURVES, RunResult, VariantResult
from keras_pipeline.studies.study import Study

Curve = NDArray[np.float64]
"""A metric by seed and epoch, (seeds, epochs), NaN behind the end of a training."""
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
STYLES = ("-", "--", ":", "-.")
LINEAR_UP_TO = 30
"""From this ratio of the largest value to the smallest on, an axis of values is logarithmic."""


def draw_accuracies(seeds: Mapping[str, Sequence[float]], baseline: str) -> Figure:
    """Test accuracy of each variant: every seed as a dot, their mean with its 95 % interval (Student's t) beside."""
    from scipy import stats

    figure = Figure(figsize=(8, 1.4 + 0.42 * len(seeds)), layout="constrained")
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
    _rows(axes, list(seeds))
    axes.set_xlabel("test accuracy in %: circles are seeds, diamonds their means with 95 % intervals")
    return figure


def draw_differences(intervals: Mapping[str, tuple[float, float, float, bool]], baseline: str) -> Figure:
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


def draw_along(key: str, values: Sequence[float], seeds: Sequence[Sequence[float]]) -> Figure:
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


def draw_curves(metrics: Mapping[str, Mapping[str, Curve]]) -> Figure:
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


LEFT_OUT = ("seed", "tracking.")


def write_study_report(
    study: Study, results: Sequence[RunResult], variants: Sequence[VariantResult], folder: Path
) -> list[Path]:
    """Write NAME.html, NAME.md, the figures and NAME.json into `folder`; the paths of all, in this order.

    `results`: of all its runs; `variants`: of `results.compare_variants`. The HTML asks nothing of any other file or
    server.
    """
    pictures = list(_pictures(study, variants))
    written = page.write_page(folder, study.name, study.name, _content(study, results, variants), pictures, of="study")
    numbers = folder / f"{study.name}.json"
    files.write_json(numbers, _numbers(study, variants))
    return [*written, numbers]


def study_metrics(variants: Sequence[VariantResult]) -> dict[str, float]:
    """The means as MLflow's metrics of the study's run."""
    named = {re.sub(r"[^\w .:/-]", "-", one.name): one.mean for one in variants}
    return {f"test/accuracy mean/{name}": mean for name, mean in named.items() if mean is not None}


def _content(study: Study, results: Sequence[RunResult], variants: Sequence[VariantResult]) -> dict[str, Any]:
    images = next((len(one.right()) for one in results if one.diverged is None), 0)
    choices = list(dict.fromkeys(tuned for one in variants for tuned in one.choices))
    tuned = choices != [""]
    return {
        "study": study,
        "question": study.settings.question,
        "discussion": study.settings.discussion.strip(),
        "baseline": study.settings.baseline,
        "images": f"{images:,}",
        "seeds": max(len(one.results) for one in variants),
        "done": len(results),
        "total": len(study.runs),
        "complete": len(results) == len(study.runs),
        "rows": [_row(one) for one in variants],
        "comparisons": [_compared(one) for one in variants if one.versus],
        "tuned": ", ".join(f"`{key}`" for key in study.settings.tuned) if tuned else "",
        "tuned_names": choices,
        "tuned_rows": [{"name": one.name, "cells": [_choice(one, name) for name in choices]} for one in variants],
        "made": _made(results),
        "fixed": [(key, value) for key, value in _fixed(study) if not key.startswith(LEFT_OUT)],
    }


def _row(one: VariantResult) -> dict[str, str]:
    accuracy = "–" if one.mean is None else f"{one.mean:.2%}"
    if one.deviation is not None:
        accuracy = f"{100 * (one.mean or 0):.2f} ± {100 * one.deviation:.2f} %"
    interval = "–" if one.interval is None else "[{:.2f}, {:.2f}] %".format(*(100 * value for value in one.interval))
    name = f"**{one.name}** with {one.tuned}" if one.tuned else f"**{one.name}**"
    return {
        "name": name,
        "accuracy": accuracy,
        "interval": interval,
        "seeds": str(len(one.results)),
        "seconds": f"{one.seconds:.0f} s",
        "verdict": one.verdict,
    }


def _compared(one: VariantResult) -> dict[str, str]:
    versus = one.versus
    if versus is None:
        return {}
    effect = "–" if versus.effect is None else "∞" if math.isinf(versus.effect) else f"{versus.effect:+.1f}"
    difference, p, p_adjusted = f"{100 * versus.difference:+.2f}", "–", "–"
    if versus.enough_seeds:
        difference += f" [{100 * versus.low:+.2f}, {100 * versus.high:+.2f}]"
        p, p_adjusted = statistics.format_p(versus.p), statistics.format_p(versus.p_adjusted)
    return {
        "name": one.name,
        "difference": difference,
        "images": "[{:+.2f}, {:+.2f}]".format(*(100 * value for value in versus.images)),
        "p": p,
        "p_adjusted": p_adjusted,
        "effect": effect,
        "flipped": "; ".join(
            f"{seed.only_baseline} / {seed.only_variant} ({statistics.format_p(seed.p)})" for seed in versus.flipped
        ),
    }


def _choice(one: VariantResult, name: str) -> str:
    if name not in one.choices:
        return "–"
    text = f"{one.choices[name]:.2%}"
    return f"**{text}**" if name == one.tuned else text


def _fixed(study: Study) -> Iterator[tuple[str, str]]:
    """Every value that all runs share."""
    flat = [run.values for run in study.runs]
    for key, value in flat[0].items():
        if all(one.get(key) == value for one in flat):
            yield key, str(value)


def _made(results: Sequence[RunResult]) -> str:
    """On what, when and how long, in a sentence or two."""
    records = [one.record for one in results]
    machines = " and ".join(
        sorted({f"{one['machine']['processor']}, {one['machine']['cores']} cores" for one in records})
    )
    first, last = min(one["started"] for one in records), max(one["ended"] for one in records)
    trained = sum(one["train_seconds"] for one in records)
    commits = sorted({describe_git(one["git"]) for one in records})
    days = " to ".join(dict.fromkeys(time.strftime("%Y-%m-%d", time.gmtime(moment)) for moment in (first, last)))
    backends = sorted({one["strategy"]["backend"] for one in records})
    names = ("python", *dict.fromkeys(["tensorflow", "keras", "numpy", *backends]))  # TensorFlow evaluates all
    versions = {name: sorted({one["versions"][name] for one in records if name in one["versions"]}) for name in names}
    libraries = ", ".join(f"{name} {' and '.join(found)}" for name, found in versions.items() if found)
    return (
        f"{len(records)} runs on {machines}, {days}; {trained / 60:.1f} minutes of training in all. Versions: "
        f"{libraries}; backend {', '.join(backends)}; commit {', '.join(commits)}."
    )


def _pictures(study: Study, variants: Sequence[VariantResult]) -> Iterator[page.Picture]:
    def picture(kind: str, text: str, figure: "Figure") -> page.Picture:
        return page.Picture(f"{study.name}-{kind}.png", text, figure)

    baseline = study.settings.baseline
    seeds = {one.name: [result.accuracy for result in one.good] for one in variants}
    yield picture("accuracy", "Test accuracy of each variant", draw_accuracies(seeds, baseline))
    versus = {one.name: one.versus for one in variants if one.versus and one.versus.enough_seeds}
    if versus:
        shown = {name: (one.difference, one.low, one.high, one.real) for name, one in versus.items()}
        yield picture("difference", f"Difference from {baseline}", draw_differences(shown, baseline))
    if number := _number(study):
        key, values = number
        figure = draw_along(key, [values[one.name] for one in variants], list(seeds.values()))
        yield picture("along", f"Test accuracy against {key}", figure)
    panels = {metric: {one.name: _curve(one, metric) for one in variants} for metric in CURVES}
    yield picture("curves", "Learning curves", draw_curves(panels))


def _number(study: Study) -> tuple[str, dict[str, float]] | None:
    """The key that alone varies between variants, and its value in each, where it is a number."""
    keys = [key for key in study.varied if key not in study.settings.tuned]
    if len(keys) != 1:
        return None
    values = {run.variant: run.values.get(keys[0]) for run in study.runs}
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    return (keys[0], numbers) if len(numbers) == len(values) > 2 and not any(map(_is_bool, values.values())) else None


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _curve(one: VariantResult, metric: str) -> Curve:
    rows = [epochs for result in one.results if (epochs := [row[metric] for row in result.history()])]
    longest = max(map(len, rows), default=0)
    return np.array([row + [math.nan] * (longest - len(row)) for row in rows], dtype=float).reshape(len(rows), longest)


def _numbers(study: Study, variants: Sequence[VariantResult]) -> dict[str, Any]:
    """Everything that the report says, for programs."""

    def of(one: VariantResult) -> Mapping[str, Any]:
        versus = None
        if one.versus:
            versus = {**vars(one.versus), "flipped": [vars(seed) for seed in one.versus.flipped]}
            versus["effect"] = versus["effect"] if math.isfinite(versus["effect"] or 0) else None
        return {
            "variant": one.name,
            "tuned": one.tuned,
            "choices": dict(one.choices),
            "test/accuracy": {str(result.seed): result.accuracy for result in one.good},
            "diverged": {str(result.seed): result.diverged for result in one.results if result.diverged},
            "no_better_than_constant": [result.seed for result in one.results if result.useless],
            "runs": {str(result.seed): result.record["key"] for result in one.results},
            "versus": versus,
            "verdict": one.verdict,
        }

    numbers = {"study": study.name, "question": study.settings.question, "baseline": study.settings.baseline}
    return {**numbers, "variants": [of(one) for one in variants]}
