"""The report of a search: what it cost, what it found, and whether that holds on other seeds."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_pipeline import answer, files, page, params_file, search_figures
from keras_pipeline.answer import Variant
from keras_pipeline.searches import BASELINE, WINNER, Search, shown
from keras_pipeline.studies import Values
from keras_pipeline.study_folders import Folders
from keras_pipeline.study_processes import duration
from keras_pipeline.trials import Seen, best

SHOWN = 10
"""Of the trials, the best."""


@dataclass(frozen=True)
class Outcome:
    """What a search found: its best trial, what that changes in params.yaml, and how both did on the other seeds: empty
    where not all of that is run."""

    search: Search
    seen: Sequence[Seen]
    best: Seen | None
    change: Values
    variants: Sequence[Variant]

    @property
    def winner(self) -> Variant | None:
        """The winner, compared with params.yaml as it is."""
        return next((one for one in self.variants if one.name == WINNER), None)

    @property
    def better(self) -> bool:
        """Whether the winner is better than params.yaml as it is, by more than chance, and never diverged."""
        found = self.winner
        if found is None or found.versus is None or len(found.good) < len(found.results):
            return False
        return found.versus.real and found.versus.difference > 0

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
        seeds = ", ".join(str(seed) for seed in self.search.asked.seeds)
        fixed = ", ".join(f"{key}: {json.dumps(value)}" for key, value in self.search.asked.fixed.items())
        both = f", both with {fixed}" if fixed else ""
        said = f"On the seeds {seeds}, which the search did not see, the winner, trial {self.best.number}, is compared "
        said += f"with params.yaml as it is{both}: {self.winner.verdict}."
        return f"{said} {'Its change is offered as a diff.' if self.better else 'params.yaml may stay as it is.'}"

    @property
    def diff(self) -> str:
        """The winner's change as a unified diff of params.yaml; "" where it is not better."""
        if not self.better:
            return ""
        changed = params_file.changed(self.search.base, self.change)
        before, after = (text.splitlines(keepends=True) for text in (self.search.base, changed))
        return "".join(difflib.unified_diff(before, after, "a/params.yaml", "b/params.yaml"))


def outcome(search: Search, seen: Sequence[Seen], folders: Folders) -> Outcome:
    """What is found by now."""
    found = best(search, seen)
    change = changed(search, found) if found else {}
    variants: list[Variant] = []
    if found and change:
        runs = search.rechecks(found.values)
        results = answer.results(runs, folders.run)
        if len(results) == len(runs):
            variants = answer.answered(results, BASELINE)
    return Outcome(search, seen, found, change, variants)


def changed(search: Search, trial: Seen) -> Values:
    """Of a trial's values those that params.yaml does not have already."""
    before, after = search.baseline.values, search.trial(trial.number, trial.values).values
    other = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return {key: value for key, value in trial.values.items() if any(f"{one}.".startswith(f"{key}.") for one in other)}


def write(found: Outcome, importances: Mapping[str, float], folder: Path) -> list[Path]:
    """Write NAME.html, NAME.md, the figures, NAME.json and, where there is one, NAME.diff into `folder`; the paths of
    all, in this order. The HTML asks nothing of any other file or server."""
    name = found.search.name
    written = page.write(folder, name, name, _content(found, importances), list(_pictures(found)), of="search")
    numbers, change = folder / f"{name}.json", folder / f"{name}.diff"
    files.write_json(numbers, _numbers(found, importances))
    if not found.diff:
        change.unlink(missing_ok=True)
        return [*written, numbers]
    files.write_atomically(change, found.diff.encode())
    return [*written, numbers, change]


def metrics(found: Outcome) -> dict[str, float]:
    """The numbers of the search's run in MLflow."""
    means = {f"test/accuracy mean/{one.name}": one.mean for one in found.variants}
    of_best = {f"best/{found.search.asked.metric}": found.best.value if found.best else None}
    return {name: value for name, value in {**of_best, **means}.items() if value is not None}


def _content(found: Outcome, importances: Mapping[str, float]) -> dict[str, Any]:
    search, asked = found.search, found.search.asked
    sign = -1 if asked.maximize else 1
    ordered = sorted((one for one in found.seen if one.value is not None), key=lambda one: sign * (one.value or 0.0))
    done = [one for one in found.seen if one.state != "running"]
    seconds = [one.seconds for one in found.seen if one.seconds is not None]
    return {
        "name": search.name,
        "goal": asked.goal,
        "metric": asked.metric,
        "wanted": "the highest" if asked.maximize else "the lowest",
        "verdict": found.verdict,
        "diff": found.diff,
        "done": len(done),
        "total": asked.trials,
        "pruned": sum(one.state == "pruned" for one in done),
        "seed": asked.seed,
        "sampler": asked.sampler,
        "pruner": asked.pruner,
        "each": duration(sum(seconds) / len(seconds)) if seconds else "",
        "space": [{"key": key, "text": _range(one.model_dump(exclude_unset=True))} for key, one in asked.space.items()],
        "importances": {key: f"{value:.0%}" for key, value in importances.items()},
        "fixed": [(key, json.dumps(value)) for key, value in asked.fixed.items()],
        "trials": [_row(search, one) for one in ordered[:SHOWN]],
        "variants": [
            {
                "name": one.name,
                "accuracy": "–" if one.mean is None else f"{one.mean:.2%}",
                "seeds": ", ".join(f"{result.accuracy:.2%}" for result in one.good),
                "verdict": one.verdict,
            }
            for one in found.variants
        ],
    }


def _range(dimension: Mapping[str, Any]) -> str:
    if "choices" in dimension:
        return ", ".join(json.dumps(one) for one in dimension["choices"])
    scale = ", by its logarithm" if dimension.get("log") else ""
    steps = f", in steps of {dimension['step']}" if "step" in dimension else ""
    return f"{dimension['low']} to {dimension['high']}{scale}{steps}"


def _row(search: Search, one: Seen) -> dict[str, str]:
    point = shown(search, search.trial(one.number, one.values))
    seconds = "–" if one.seconds is None else duration(one.seconds)
    return {"number": str(one.number), "value": f"{one.value:.4f}", "point": point, "seconds": seconds}


def _pictures(found: Outcome) -> Iterator[page.Picture]:
    name, search, metric = found.search.name, found.search, found.search.asked.metric
    if not any(one.epochs for one in found.seen):
        return
    figure = search_figures.history(found.seen, metric, highest=bool(search.asked.maximize))
    yield page.Picture(f"{name}-history.png", "Trial by trial", figure)
    logarithmic = {key for key, one in search.asked.space.items() if one.log}
    figure = search_figures.slices(found.seen, list(search.asked.space), metric, logarithmic)
    yield page.Picture(f"{name}-slices.png", "Each key alone", figure)


def _numbers(found: Outcome, importances: Mapping[str, float]) -> dict[str, Any]:
    """Everything that the report says, for programs."""
    versus = found.winner.versus if found.winner else None
    return {
        "search": found.search.name,
        "goal": found.search.asked.goal,
        "metric": found.search.asked.metric,
        "trials": [{**vars(one), "epochs": list(one.epochs.values())} for one in found.seen],
        "best": found.best.number if found.best else None,
        "change": found.change,
        "importances": dict(importances),
        "recheck": {one.name: {str(result.seed): result.accuracy for result in one.good} for one in found.variants},
        "difference": versus and {"points": versus.difference, "low": versus.low, "high": versus.high, "p": versus.p},
        "better": found.better,
        "verdict": found.verdict,
    }
