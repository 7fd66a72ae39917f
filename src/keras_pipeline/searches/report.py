"""The report of a search: what it cost, what it found, and whether that holds on other seeds."""

import difflib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from keras_pipeline.comparison import page
from keras_pipeline.core import files
from keras_pipeline.evaluation.figures import BLUE, GREY, VERMILION
from keras_pipeline.records.git import describe_git
from keras_pipeline.runs import run
from keras_pipeline.runs.folders import Folders
from keras_pipeline.runs.pool import format_duration
from keras_pipeline.runs.run import Values, short_value
from keras_pipeline.searches.search import BASELINE, WINNER, Dimension, Search, describe_values
from keras_pipeline.searches.trials import TrialResult, best_trial
from keras_pipeline.studies.results import VariantResult, collect_results, compare_variants

COLUMNS = 2
LONGEST_CHOICE = 24
MOST_LETTERS = 40
"""Of the names of all choices, side by side below a panel; more are slanted."""


def draw_history(trial_results: Sequence[TrialResult], metric: str, *, highest: bool) -> Figure:
    """The metric of every trial in their order, those that were pruned as crosses at their last epoch's; a line for the
    best so far, which is the highest or the lowest."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    _points(axes, [(one.number, one) for one in trial_results])
    complete = [(one.number, one.value) for one in trial_results if one.value is not None]
    if complete:
        numbers, values = zip(*complete, strict=True)
        so_far = (np.maximum if highest else np.minimum).accumulate([*values, values[-1]])
        axes.step(
            [*numbers, trial_results[-1].number], so_far, where="post", color=VERMILION, lw=2, label="best so far"
        )
    axes.set(xlabel="trial", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def draw_slices(trial_results: Sequence[TrialResult], space: Mapping[str, Dimension], metric: str) -> Figure:
    """A panel for each key: the metric of every trial by its value, on an axis that shows the whole space, all choices
    of it or the range from its least value to its greatest."""
    rows = -(-len(space) // COLUMNS)
    figure = Figure(figsize=(10, 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).flatten()
    for axes, (key, dimension) in zip(panels, space.items(), strict=False):
        values = [one.values[key] for one in trial_results]
        if dimension.choices is None:
            _points(axes, list(zip(values, trial_results, strict=True)))
            low, high = float(dimension.low or 0), float(dimension.high or 0)
            _show_range(axes, low, high, logarithmic=dimension.log)
        else:
            names = [json.dumps(value) for value in dimension.choices]
            _points(
                axes, [(names.index(json.dumps(value)), one) for value, one in zip(values, trial_results, strict=True)]
            )
            shown = [_shortened(short_value(value)) for value in dimension.choices]
            axes.set_xticks(range(len(names)), shown, parse_math=False, rotation_mode="anchor")
            axes.set_xlim(-0.5, len(names) - 0.5)
            if sum(map(len, shown)) > MOST_LETTERS:
                for label in axes.get_xticklabels():
                    label.set(rotation=30, ha="right", va="center")
        axes.set_xlabel(f"{key} (log scale)" if dimension.log else key, parse_math=False)
        axes.grid(alpha=0.3)
    for axes in panels[len(space) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    figure.supylabel(metric)
    return figure


def _show_range(axes: Axes, low: float, high: float, *, logarithmic: bool) -> None:
    if logarithmic:
        axes.set_xscale("log")
        margin = (high / low) ** 0.04
        axes.set_xlim(low / margin, high * margin)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high / low < 10**4 else (1.0,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        axes.xaxis.set_major_locator(MaxNLocator(6))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_CHOICE else f"{text[: LONGEST_CHOICE - 1]}\N{HORIZONTAL ELLIPSIS}"


def _points(axes: Axes, pairs: Sequence[tuple[Any, TrialResult]]) -> None:
    complete = [(place, one.value) for place, one in pairs if one.value is not None]
    pruned = [(place, one.epochs[max(one.epochs)]) for place, one in pairs if one.value is None and one.epochs]
    for points, marker, colour, label in ((complete, "o", BLUE, "complete"), (pruned, "x", GREY, "pruned")):
        if points:
            axes.plot(*zip(*points, strict=True), marker, color=colour, alpha=0.8, label=label)


SHOWN = 10
"""Of the trials, the best."""


@dataclass(frozen=True)
class SearchOutcome:
    """What a search found: its best trial, what that changes in params.yaml, and how both did on the other seeds: empty
    where not all of that is run."""

    search: Search
    trial_results: Sequence[TrialResult]
    best: TrialResult | None
    change: Values
    variants: Sequence[VariantResult]

    @property
    def winner(self) -> VariantResult | None:
        """The winner, compared with params.yaml as it is."""
        return next((one for one in self.variants if one.name == WINNER), None)

    @property
    def better(self) -> bool:
        """Whether the winner is better than params.yaml as it is, by more than chance, never diverged, and was always
        better than a constant answer."""
        found = self.winner
        if found is None or found.versus is None or any(one.diverged or one.useless for one in found.results):
            return False
        return found.versus.enough_seeds and found.versus.real and found.versus.difference > 0

    @property
    def verdict(self) -> str:
        """In a sentence or two."""
        if self.best is None:
            return "No trial was completed, so there is no winner."
        if not self.change:
            return f"The winner, trial {self.best.number}, has the values of params.yaml: there is nothing to change."
        if self.winner is None:
            return (
                f"The winner, trial {self.best.number}, is not checked on the other seeds yet: `search run` does that."
            )
        seeds = ", ".join(str(seed) for seed in self.search.settings.seeds)
        fixed = ", ".join(f"{key}: {json.dumps(value)}" for key, value in self.search.settings.fixed.items())
        both = f", both with {fixed}" if fixed else ""
        said = f"On the seeds {seeds}, which the search did not see, the winner, trial {self.best.number}, is compared "
        said += f"with params.yaml as it is{both}: {self.winner.verdict}."
        return f"{said} {'Its change is offered as a diff.' if self.better else 'params.yaml may stay as it is.'}"

    @property
    def diff(self) -> str:
        """The winner's change as a unified diff of params.yaml; "" where it is not better."""
        if not self.better:
            return ""
        changed = run.change_params(self.search.base, self.change)
        before, after = (text.splitlines(keepends=True) for text in (self.search.base, changed))
        return "".join(difflib.unified_diff(before, after, "a/params.yaml", "b/params.yaml"))


def search_outcome(search: Search, trial_results: Sequence[TrialResult], folders: Folders) -> SearchOutcome:
    """What is found by now."""
    found = best_trial(search, trial_results)
    change = changed_values(search, found) if found else {}
    variants: list[VariantResult] = []
    if found and change:
        runs = search.rechecks(found.values)
        results = collect_results(runs, folders.run)
        if len(results) == len(runs):
            variants = compare_variants(results, BASELINE)
    return SearchOutcome(search, trial_results, found, change, variants)


def changed_values(search: Search, trial: TrialResult) -> Values:
    """Of a trial's values those that params.yaml does not have already."""
    before, after = search.baseline.values, search.trial(trial.number, trial.values).values
    other = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return {key: value for key, value in trial.values.items() if any(f"{one}.".startswith(f"{key}.") for one in other)}


def write_search_report(outcome: SearchOutcome, importances: Mapping[str, float], folder: Path) -> list[Path]:
    """Write NAME.html, NAME.md, the figures, NAME.json and, where there is one, NAME.diff into `folder`; the paths of
    all, in this order. The HTML asks nothing of any other file or server."""
    name = outcome.search.name
    content = _content(outcome, importances)
    goal = outcome.search.settings.goal
    written = page.write_page(folder, name, goal, content, dict(_pictures(outcome)), of="search")
    numbers, change = folder / f"{name}.json", folder / f"{name}.diff"
    files.write_json(numbers, _numbers(outcome, importances))
    if not outcome.diff:
        change.unlink(missing_ok=True)
        return [*written, numbers]
    files.write_atomically(change, outcome.diff.encode())
    return [*written, numbers, change]


def search_metrics(outcome: SearchOutcome) -> dict[str, float]:
    """The numbers of the search's run in MLflow."""
    means = {f"test/accuracy mean/{one.name}": one.mean for one in outcome.variants}
    means["test/accuracy"] = max((mean for mean in means.values() if mean is not None), default=None)
    of_best = {f"best/{outcome.search.settings.metric}": outcome.best.value if outcome.best else None}
    return {name: value for name, value in {**of_best, **means}.items() if value is not None}


def _content(outcome: SearchOutcome, importances: Mapping[str, float]) -> dict[str, Any]:
    search, settings = outcome.search, outcome.search.settings
    sign = -1 if settings.maximize else 1
    ordered = sorted(
        (one for one in outcome.trial_results if one.value is not None), key=lambda one: sign * (one.value or 0.0)
    )
    ended = [one for one in outcome.trial_results if one.state != "running"]
    seconds = [one.seconds for one in outcome.trial_results if one.seconds is not None]
    records = [result.record for one in outcome.variants for result in one.results]
    moments = [pick(record["started"] for record in records) for pick in (min, max) if records]
    return {
        "name": search.name,
        "goal": settings.goal,
        "command": f"keras-pipeline search run {search.name}",
        "commits": ", ".join(sorted({describe_git(record["git"]) for record in records})),
        "days": " to ".join(dict.fromkeys(time.strftime("%Y-%m-%d", time.gmtime(moment)) for moment in moments)),
        "metric": settings.metric,
        "wanted": "the highest" if settings.maximize else "the lowest",
        "verdict": outcome.verdict,
        "diff": outcome.diff,
        "done": len(ended),
        "total": settings.trials,
        "pruned": sum(one.state == "pruned" for one in ended),
        "seed": settings.seed,
        "sampler": settings.sampler,
        "pruner": settings.pruner,
        "each": format_duration(sum(seconds) / len(seconds)) if seconds else "",
        "space": [
            {"key": key, "text": _range(one.model_dump(exclude_unset=True))} for key, one in settings.space.items()
        ],
        "importances": {key: f"{value:.0%}" for key, value in importances.items()},
        "fixed": [(key, json.dumps(value)) for key, value in settings.fixed.items()],
        "trials": [_row(search, one) for one in ordered[:SHOWN]],
        "variants": [
            {
                "name": one.name,
                "accuracy": "–" if one.mean is None else f"{one.mean:.2%}",
                "seeds": ", ".join(f"{result.accuracy:.2%}" for result in one.good),
                "verdict": one.verdict,
            }
            for one in outcome.variants
        ],
    }


def _range(dimension: Mapping[str, Any]) -> str:
    if "choices" in dimension:
        return ", ".join(json.dumps(one) for one in dimension["choices"])
    scale = " (log scale)" if dimension.get("log") else ""
    steps = f", in steps of {dimension['step']}" if "step" in dimension else ""
    return f"{dimension['low']} to {dimension['high']}{scale}{steps}"


def _row(search: Search, one: TrialResult) -> dict[str, str]:
    point = describe_values(search, search.trial(one.number, one.values))
    seconds = "–" if one.seconds is None else format_duration(one.seconds)
    return {"number": str(one.number), "value": f"{one.value:.4f}", "point": point, "seconds": seconds}


def _pictures(outcome: SearchOutcome) -> Iterator[tuple[str, page.Picture]]:
    name, search, metric = outcome.search.name, outcome.search, outcome.search.settings.metric
    if not any(one.epochs for one in outcome.trial_results):
        return
    figure = draw_history(outcome.trial_results, metric, highest=bool(search.settings.maximize))
    yield "history", page.Picture(f"{name}-history.png", "The trials in their order", figure)
    figure = draw_slices(outcome.trial_results, search.settings.space, metric)
    yield "slices", page.Picture(f"{name}-slices.png", "The trials by the value of each key", figure)


def _numbers(outcome: SearchOutcome, importances: Mapping[str, float]) -> dict[str, Any]:
    """Everything that the report says, for programs."""
    versus = outcome.winner.versus if outcome.winner else None
    return {
        "search": outcome.search.name,
        "goal": outcome.search.settings.goal,
        "metric": outcome.search.settings.metric,
        "trials": [{**vars(one), "epochs": list(one.epochs.values())} for one in outcome.trial_results],
        "best": outcome.best.number if outcome.best else None,
        "change": outcome.change,
        "importances": dict(importances),
        "no_better_than_constant": {
            one.name: [result.seed for result in one.results if result.useless] for one in outcome.variants
        },
        "recheck": {one.name: {str(result.seed): result.accuracy for result in one.good} for one in outcome.variants},
        "difference": versus and {"points": versus.difference, "low": versus.low, "high": versus.high, "p": versus.p},
        "better": outcome.better,
        "verdict": outcome.verdict,
    }
