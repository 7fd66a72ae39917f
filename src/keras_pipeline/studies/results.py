"""The answer of a study: what its runs left, as numbers, comparisons and a sentence for each variant."""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import stats

from keras_pipeline.comparison.statistics import LEAST_SEEDS, Comparison, Scores, compare_settings, holm_adjusted
from keras_pipeline.config.tasks import NO_BETTER, is_no_better_than_constant
from keras_pipeline.core.errors import DataError
from keras_pipeline.data.task_spec import predicted_classes
from keras_pipeline.evaluation.predictions import PREDICTIONS, SCORES, read_predictions, read_scores
from keras_pipeline.records.record import RunRecord, read_record
from keras_pipeline.runs.run import Run

CURVES = ("train/loss", "val/loss", "train/accuracy", "val/accuracy")


@dataclass(frozen=True)
class RunResult:
    """One run's: its record, and where its files are."""

    variant: str
    tuned: str
    seed: int
    record: RunRecord
    folder: Path

    @property
    def diverged(self) -> str | None:
        """What became of a training that diverged; None of another."""
        return self.record.get("diverged")

    @property
    def accuracy(self) -> float:
        """Of the test images; not for one that diverged."""
        return float(self.scores["test/accuracy"])

    @property
    def useless(self) -> bool:
        """Whether its network is no better than a constant answer; not of a training that diverged."""
        return self.diverged is None and is_no_better_than_constant(self.scores)

    @property
    def scores(self) -> dict[str, float]:
        """reports/metrics.json."""
        return read_scores(self.folder / "reports" / SCORES, "study run")

    @property
    def best_validation(self) -> float:
        """val/accuracy of the weights that were kept; 0 where the training diverged."""
        best = self.record["best_epoch"]
        return float(self.record["history"][best - 1]["val/accuracy"]) if best else 0.0

    def right(self) -> Scores:
        """Of each test image whether the network has it right: bool (images,)."""
        answers = read_predictions(self.folder / "reports" / PREDICTIONS, self.record["dataset"], "study run")
        right: Scores = predicted_classes(answers.outputs) == answers.targets
        return right

    def history(self) -> list[dict[str, float]]:
        """A row an epoch; none where it diverged in the first."""
        return self.record["history"]


@dataclass(frozen=True)
class VariantResult:
    """One setting over its seeds: `tuned` is the choice that represents it; `choices`: the mean validation
    accuracy of each combination of the tuned values."""

    name: str
    tuned: str
    results: tuple[RunResult, ...]
    choices: Mapping[str, float] = field(default_factory=dict)
    versus: Comparison | None = None
    verdict: str = ""

    @property
    def good(self) -> list[RunResult]:
        """Those that did not diverge."""
        return [one for one in self.results if one.diverged is None]

    @property
    def mean(self) -> float | None:
        """Of the test accuracy."""
        return statistics.mean(one.accuracy for one in self.good) if self.good else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the test accuracy over seeds."""
        return statistics.stdev(one.accuracy for one in self.good) if len(self.good) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean test accuracy over other seeds, by Student's t; None of too few."""
        if not self.deviation or self.mean is None or len(self.good) < LEAST_SEEDS:
            return None
        half = stats.t.ppf(0.975, len(self.good) - 1) * self.deviation / math.sqrt(len(self.good))
        return self.mean - float(half), self.mean + float(half)

    @property
    def seconds(self) -> float:
        """Mean training time."""
        return statistics.mean(float(one.record["train_seconds"]) for one in self.results)


def few_seeds_line(asked: str, path: Path, seeds: Sequence[int], others: Sequence[int] = ()) -> str:
    """What is to be known before a study or search, `asked`, whose file is `path`, starts with so few `seeds` that its
    verdict will say nothing; "" where there are enough. `others`: what its seeds may not be."""
    if len(seeds) >= LEAST_SEEDS:
        return ""
    free = (seed for seed in itertools.count(1) if seed not in (*seeds, *others))
    more = [*seeds, *itertools.islice(free, LEAST_SEEDS - len(seeds))]
    return (
        f"{asked}: {len(seeds)} seed{'s' if len(seeds) > 1 else ''}, from which no verdict can tell a difference from "
        f"that between two seeds. For one, give {LEAST_SEEDS} at least, better 5: seeds: {more} in {path}"
    )


def collect_results(runs: Sequence[Run], folder: Callable[[Run], Path]) -> list[RunResult]:
    """What is there of the runs, in their order, trained by whatever code; `folder` of each."""
    found = []
    for run in runs:
        run_folder = folder(run)
        with suppress(DataError):
            record = read_record(run_folder / "models" / "run.json", "study run")
            if "diverged" in record or (run_folder / "reports" / "metrics.json").is_file():
                found.append(RunResult(run.variant, run.tuned, run.seed, record, run_folder))
    return found


def compare_variants(results: Sequence[RunResult], baseline: str) -> list[VariantResult]:
    """The variants in the order of their first results, each compared with the baseline, on the seeds both have."""
    variants = [_represented(name, results) for name in dict.fromkeys(one.variant for one in results)]
    against = next((one for one in variants if one.name == baseline), None)
    if against is None:
        raise DataError(f"no run of the baseline '{baseline}' is done yet. Let the study run on.")
    others = [one for one in variants if one is not against]
    versus = {one.name: found for one in others if (found := _compared(one, against, len(others)))}
    p_values = holm_adjusted([one.p for one in versus.values()])
    versus = {name: replace(one, p_adjusted=p) for (name, one), p in zip(versus.items(), p_values, strict=True)}
    return [
        replace(one, versus=versus.get(one.name), verdict=_verdict(one, against, versus.get(one.name)))
        for one in variants
    ]


def _represented(name: str, results: Sequence[RunResult]) -> VariantResult:
    own = [one for one in results if one.variant == name]
    choices = {
        tuned: statistics.mean(one.best_validation for one in own if one.tuned == tuned)
        for tuned in dict.fromkeys(one.tuned for one in own)
    }
    best = max(choices, key=lambda tuned: choices[tuned])
    return VariantResult(name, best, tuple(one for one in own if one.tuned == best), choices)


def _compared(variant: VariantResult, baseline: VariantResult, among: int) -> Comparison | None:
    """None where no seed trained both."""
    ours, theirs = ({one.seed: one for one in side.good} for side in (variant, baseline))
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    first, second = (np.stack([side[seed].right() for seed in seeds]) for side in (ours, theirs))
    return compare_settings(first, second, among)


def _verdict(variant: VariantResult, baseline: VariantResult, versus: Comparison | None) -> str:
    """In words; points are hundredths of the test images."""
    lost, useless = len(variant.results) - len(variant.good), sum(one.useless for one in variant.results)
    fates = ((lost, "diverged"), (useless, NO_BETTER))
    fate = "; ".join(f"{what} with {count} of {len(variant.results)} seeds" for count, what in fates if count)
    if variant.name == baseline.name:
        said = "what the others are compared with"
    elif versus is None:
        said = "" if lost else "no seed in common with the baseline yet"
    else:
        said = _difference(versus)
    return "; ".join(filter(None, (fate, said)))


def _difference(versus: Comparison) -> str:
    if not versus.enough_seeds:
        return f"too few seeds to tell (needs at least {LEAST_SEEDS})"
    interval = f"[{100 * versus.low:+.2f}, {100 * versus.high:+.2f}]"
    size = f"{abs(100 * versus.difference):.2f} points {interval}"
    if versus.real:
        return f"{'better' if versus.difference > 0 else 'worse'} by {size}; larger than seed noise"
    among = " among so many comparisons" if versus.low * versus.high > 0 else ""
    said = f"no difference that {versus.seeds} seeds can show{among} ({100 * versus.difference:+.2f} points {interval})"
    if not versus.difference:
        return said
    if versus.seeds_needed is None:
        return f"{said}; so small a one cannot be shown with these test images, whatever the seeds"
    if versus.seeds_needed <= versus.seeds:
        return f"{said}; more seeds would tell"
    return f"{said}; about {versus.seeds_needed} seeds would be needed for one of this size"
