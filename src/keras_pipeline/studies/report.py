"""The report of a study: one page for people, as Markdown with figures beside it and as HTML with all of it inside."""

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline.comparison import page, statistics
from keras_pipeline.comparison.figures import draw_differences
from keras_pipeline.core import files
from keras_pipeline.data.statistics import things
from keras_pipeline.records.git import describe_git
from keras_pipeline.studies import figures
from keras_pipeline.studies.figures import Curve
from keras_pipeline.studies.results import CURVES, RunResult, VariantResult
from keras_pipeline.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEFT_OUT = ("seed", "tracking.")


def write_study_report(
    study: Study, results: Sequence[RunResult], variants: Sequence[VariantResult], folder: Path
) -> list[Path]:
    """Write NAME.html, NAME.md, the figures and NAME.json into `folder`; the paths of all, in this order.

    `results`: of all its runs; `variants`: of `results.compare_variants`. The HTML asks nothing of any other file or
    server, and has the learning curves as a plot whose variants one may choose.
    """
    pictures = dict(_pictures(study, variants))
    content = _content(study, results, variants)
    written = page.write_page(folder, study.name, study.settings.question, content, pictures, of="study")
    numbers = folder / f"{study.name}.json"
    files.write_json(numbers, _numbers(study, variants))
    return [*written, numbers]


def study_metrics(variants: Sequence[VariantResult]) -> dict[str, float]:
    """The means as MLflow's metrics of the study's run; the best one also as what its runs are compared by."""
    named = {re.sub(r"[^\w .:/-]", "-", one.name): one.mean for one in variants}
    means = {name: mean for name, mean in named.items() if mean is not None}
    best = {"test/accuracy": max(means.values())} if means else {}
    return {**best, **{f"test/accuracy mean/{name}": mean for name, mean in means.items()}}


def study_verdict(variants: Sequence[VariantResult]) -> str:
    """The best variant on average, and what is to be thought of that, in one line."""
    known = [one for one in variants if one.mean is not None]
    if not known:
        return "every training diverged"
    best = max(known, key=lambda one: one.mean or 0.0)
    return f"{best.name}: {best.verdict}" if best.versus else f"{best.name}: none is better on average"


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
        "things": things(results[0].record["dataset"]) if results else "images",
        "seeds": max(len(one.results) for one in variants),
        "done": len(results),
        "total": len(study.runs),
        "complete": len(results) == len(study.runs),
        "rows": [_row(one) for one in variants],
        "comparisons": [_compared(one) for one in variants if one.versus],
        "tuned": ", ".join(f"`{key}`" for key in study.settings.tuned) if tuned else "",
        "tuned_names": choices,
        "tuned_rows": [{"name": one.name, "cells": [_choice(one, name) for name in choices]} for one in variants],
        "strong": figures.MOST_STRONG if len(variants) > figures.MOST_STRONG else 0,
        "command": f"keras-pipeline study run {study.name}",
        "days": _days(results),
        "commits": _commits(results),
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


def _days(results: Sequence[RunResult]) -> str:
    first, last = min(one.record["started"] for one in results), max(one.record["ended"] for one in results)
    return " to ".join(dict.fromkeys(time.strftime("%Y-%m-%d", time.gmtime(moment)) for moment in (first, last)))


def _commits(results: Sequence[RunResult]) -> str:
    return ", ".join(sorted({describe_git(one.record["git"]) for one in results}))


def _made(results: Sequence[RunResult]) -> str:
    """On what and how long, in a sentence or two."""
    records = [one.record for one in results]
    machines = " and ".join(
        sorted({f"{one['machine']['processor']}, {one['machine']['cores']} cores" for one in records})
    )
    trained = sum(one["train_seconds"] for one in records)
    backends = sorted({one["strategy"]["backend"] for one in records})
    names = ("python", *dict.fromkeys(["tensorflow", "keras", "numpy", *backends]))  # TensorFlow evaluates all
    versions = {name: sorted({one["versions"][name] for one in records if name in one["versions"]}) for name in names}
    libraries = ", ".join(f"{name} {' and '.join(found)}" for name, found in versions.items() if found)
    return (
        f"{len(records)} runs on {machines}; {trained / 60:.1f} minutes of training in all. Versions: {libraries}; "
        f"backend {', '.join(backends)}."
    )


def _pictures(study: Study, variants: Sequence[VariantResult]) -> Iterator[tuple[str, page.Picture]]:
    def picture(
        kind: str, text: str, figure: "Figure", plot: Mapping[str, Any] | None = None
    ) -> tuple[str, page.Picture]:
        return kind, page.Picture(f"{study.name}-{kind}.png", text, figure, plot)

    baseline = study.settings.baseline
    seeds = {one.name: [result.accuracy for result in one.good] for one in variants}
    yield picture("accuracy", "Test accuracy of each variant", figures.draw_accuracies(seeds, baseline))
    versus = {one.name: one.versus for one in variants if one.versus and one.versus.enough_seeds}
    if versus:
        shown = {name: (one.difference, one.low, one.high, one.real) for name, one in versus.items()}
        figure = draw_differences(shown, f"test accuracy minus that of '{baseline}'", "larger than seed noise")
        yield picture("difference", f"Difference from {baseline}", figure)
    if number := _number(study):
        key, values = number
        figure = figures.draw_along(key, [values[one.name] for one in variants], list(seeds.values()))
        yield picture("along", f"Test accuracy against {key}", figure)
    panels = {metric: {one.name: _curve(one, metric) for one in variants} for metric in CURVES}
    strong = _strong(variants, baseline)
    figure = figures.draw_curves(panels, strong)
    yield picture("curves", "Learning curves", figure, figures.plot_curves(panels, strong))


def _strong(variants: Sequence[VariantResult], baseline: str) -> list[str]:
    """The variants whose curves are shown in colour, in the order of the study: the baseline and the best."""
    best = sorted((one for one in variants if one.name != baseline), key=lambda one: -(one.mean or 0.0))
    chosen = {baseline, *(one.name for one in best[: figures.MOST_STRONG - 1])}
    return [one.name for one in variants if one.name in chosen]


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
