"""The report of a study: one page for people, as Markdown with figures beside it and as HTML with all of it inside."""

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pipeline import comparison, files, page, study_figures
from keras_pipeline.answer import CURVES, Result, Variant
from keras_pipeline.studies import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEFT_OUT = ("seed", "tracking.")


def write(study: Study, results: Sequence[Result], variants: Sequence[Variant], folder: Path) -> list[Path]:
    """Write NAME.html, NAME.md, the figures and NAME.json into `folder`; the paths of all, in this order.

    `results`: of all its runs; `variants`: of `answer.answered`. The HTML asks nothing of any other file or server.
    """
    pictures = list(_pictures(study, variants))
    written = page.write(folder, study.name, study.name, _content(study, results, variants), pictures, of="study")
    numbers = folder / f"{study.name}.json"
    files.write_json(numbers, _numbers(study, variants))
    return [*written, numbers]


def metrics(variants: Sequence[Variant]) -> dict[str, float]:
    """The means as MLflow's metrics of the study's run."""
    named = {re.sub(r"[^\w .:/-]", "-", one.name): one.mean for one in variants}
    return {f"test/accuracy mean/{name}": mean for name, mean in named.items() if mean is not None}


def _content(study: Study, results: Sequence[Result], variants: Sequence[Variant]) -> dict[str, Any]:
    images = next((len(one.right()) for one in results if one.diverged is None), 0)
    choices = list(dict.fromkeys(tuned for one in variants for tuned in one.choices))
    tuned = choices != [""]
    return {
        "study": study,
        "question": study.asked.question,
        "discussion": study.asked.discussion.strip(),
        "baseline": study.asked.baseline,
        "images": f"{images:,}",
        "seeds": max(len(one.results) for one in variants),
        "done": len(results),
        "total": len(study.runs),
        "complete": len(results) == len(study.runs),
        "rows": [_row(one) for one in variants],
        "comparisons": [_compared(one) for one in variants if one.versus],
        "tuned": ", ".join(f"`{key}`" for key in study.asked.tuned) if tuned else "",
        "tuned_names": choices,
        "tuned_rows": [{"name": one.name, "cells": [_choice(one, name) for name in choices]} for one in variants],
        "made": _made(results),
        "fixed": [(key, value) for key, value in _fixed(study) if not key.startswith(LEFT_OUT)],
    }


def _row(one: Variant) -> dict[str, str]:
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


def _compared(one: Variant) -> dict[str, str]:
    versus = one.versus
    if versus is None:
        return {}
    effect = "–" if versus.effect is None else "∞" if math.isinf(versus.effect) else f"{versus.effect:+.1f}"
    return {
        "name": one.name,
        "difference": f"{100 * versus.difference:+.2f} [{100 * versus.low:+.2f}, {100 * versus.high:+.2f}]",
        "images": "[{:+.2f}, {:+.2f}]".format(*(100 * value for value in versus.images)),
        "p": comparison.p_text(versus.p),
        "p_adjusted": comparison.p_text(versus.p_adjusted),
        "effect": effect,
        "flipped": "; ".join(
            f"{seed.only_baseline} / {seed.only_variant} ({comparison.p_text(seed.p)})" for seed in versus.flipped
        ),
    }


def _choice(one: Variant, name: str) -> str:
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


def _made(results: Sequence[Result]) -> str:
    """On what, when and how long, in a sentence or two."""
    records = [one.record for one in results]
    machines = " and ".join(
        sorted({f"{one['machine']['processor']}, {one['machine']['cores']} cores" for one in records})
    )
    first, last = min(one["started"] for one in records), max(one["ended"] for one in records)
    trained = sum(one["train_seconds"] for one in records)
    commits = sorted({(one["git"]["commit"] or "no commit")[:12] + ("+" * one["git"]["dirty"]) for one in records})
    days = " to ".join(dict.fromkeys(time.strftime("%Y-%m-%d", time.gmtime(moment)) for moment in (first, last)))
    backends = sorted({one["strategy"]["backend"] for one in records})
    names = ("python", *dict.fromkeys(["tensorflow", "keras", "numpy", *backends]))  # TensorFlow evaluates all
    versions = {name: sorted({one["versions"][name] for one in records if name in one["versions"]}) for name in names}
    libraries = ", ".join(f"{name} {' and '.join(found)}" for name, found in versions.items() if found)
    return (
        f"{len(records)} runs on {machines}, {days}; {trained / 60:.1f} minutes of training in all. Versions: "
        f"{libraries}; backend {', '.join(backends)}; commit {', '.join(commits)} (+: with "
        "changes that were not committed)."
    )


def _pictures(study: Study, variants: Sequence[Variant]) -> Iterator[page.Picture]:
    def picture(kind: str, text: str, figure: "Figure") -> page.Picture:
        return page.Picture(f"{study.name}-{kind}.png", text, figure)

    baseline = study.asked.baseline
    seeds = {one.name: [result.accuracy for result in one.good] for one in variants}
    yield picture("accuracy", "Test accuracy of each variant", study_figures.accuracies(seeds, baseline))
    versus = {one.name: one.versus for one in variants if one.versus}
    if versus:
        shown = {name: (one.difference, one.low, one.high, one.real) for name, one in versus.items()}
        yield picture("difference", f"Difference from {baseline}", study_figures.differences(shown, baseline))
    if number := _number(study):
        key, values = number
        figure = study_figures.along(key, [values[one.name] for one in variants], list(seeds.values()))
        yield picture("along", f"Test accuracy against {key}", figure)
    panels = {metric: {one.name: _curve(one, metric) for one in variants} for metric in CURVES}
    yield picture("curves", "Learning curves", study_figures.curves(panels))


def _number(study: Study) -> tuple[str, dict[str, float]] | None:
    """The key that alone varies between variants, and its value in each, where it is a number."""
    keys = [key for key in study.varied if key not in study.asked.tuned]
    if len(keys) != 1:
        return None
    values = {run.variant: run.values.get(keys[0]) for run in study.runs}
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    return (keys[0], numbers) if len(numbers) == len(values) > 2 and not any(map(_is_bool, values.values())) else None


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _curve(one: Variant, metric: str) -> study_figures.Curve:
    rows = [epochs for result in one.results if (epochs := [row[metric] for row in result.history()])]
    longest = max(map(len, rows), default=0)
    return np.array([row + [math.nan] * (longest - len(row)) for row in rows], dtype=float).reshape(len(rows), longest)


def _numbers(study: Study, variants: Sequence[Variant]) -> dict[str, Any]:
    """Everything that the report says, for programs."""

    def of(one: Variant) -> Mapping[str, Any]:
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
            "runs": {str(result.seed): result.record["key"] for result in one.results},
            "versus": versus,
            "verdict": one.verdict,
        }

    numbers = {"study": study.name, "question": study.asked.question, "baseline": study.asked.baseline}
    return {**numbers, "variants": [of(one) for one in variants]}
