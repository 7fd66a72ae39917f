"""Is one setting better than another? The answers of both, of several seeds each, on the same test images.

Two things make a difference that means nothing: the seed, which another training would draw anew, and the test images,
of which another ten thousand would be others. Both are in the interval and the test here. Their variances are those of
crossed random factors, as radiology compares readers and cases (Dorfman, Berbaum and Metz 1992): seeds are the readers,
test images the cases. The interval joins that of the seeds, Student's, and that of the images, normal, as the root of
the sum of their squares (Zou and Donner 2008, https://doi.org/10.1002/sim.3095), which keeps its promise with three
seeds too. Where the images add nothing to the seeds' noise it is the paired t-test's. SciPy and statsmodels compute
what they have.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

Scores = NDArray[Any]
"""One number a test image, bool (right or wrong) or float: (seeds, images)."""
LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 1000
LEAST_SEEDS = 3
"""Of a verdict: how far seeds differ is hardly known from two, and not at all from one."""
DRAWS = 2000
SMALLEST = 1e-12
"""Of p: nobody needs to know a smaller one."""


@dataclass(frozen=True)
class Flipped:
    """Of one seed: how many test images only one of the two has right, and McNemar's exact p of that."""

    only_baseline: int
    only_variant: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """A variant against the baseline. Differences are variant minus baseline, in the scores' unit.

    low, high: 95 % interval of the difference, over other seeds and other test images. `images`: the same for these
    very networks, over other test images alone, by the paired bootstrap. p: of the difference being nothing but chance;
    p_adjusted: by Holm's method, for all the study's comparisons. effect: the difference in standard deviations of the
    seeds (Cohen's d); infinite where seeds change nothing. seeds_needed: to show a difference of this size four times
    in five among as many comparisons; None: no number of seeds does with so few test images. With one seed `p` is
    McNemar's, and nothing is known of other seeds.
    """

    seeds: int
    difference: float
    low: float
    high: float
    images: tuple[float, float]
    p: float
    p_adjusted: float
    effect: float | None
    seeds_needed: int | None
    flipped: tuple[Flipped, ...]

    @property
    def enough_seeds(self) -> bool:
        """Whether anything can be said of other seeds."""
        return self.seeds >= LEAST_SEEDS

    @property
    def real(self) -> bool:
        """Whether chance alone would seldom do this: once in twenty studies at most."""
        return self.p_adjusted < LEVEL


def compare_settings(variant: Scores, baseline: Scores, among: int = 1, random_seed: int = 0) -> Comparison:
    """The comparison of two settings trained with the same seeds, in the same order, before Holm's correction; `among`
    so many comparisons, which the needed seeds take into account by Bonferroni's."""
    if variant.shape != baseline.shape or variant.ndim != 2 or not variant.size:
        raise ValueError(f"scores of shapes {variant.shape} and {baseline.shape}; expected two alike, (seeds, images)")
    differences = variant.astype(np.float64) - baseline.astype(np.float64)
    seeds = len(differences)
    flipped = tuple(_flipped(one, other) for one, other in zip(variant, baseline, strict=True))
    of_images = differences.mean(axis=0)
    bootstrapped = _bootstrap(of_images, random_seed)
    mean = float(differences.mean())
    if seeds == 1:
        return Comparison(1, mean, *bootstrapped, bootstrapped, flipped[0].p, flipped[0].p, None, None, flipped)
    by_seed, by_image = _variances(differences)
    half = _half_width(LEVEL, by_seed, by_image, seeds)
    p = _p(mean, by_seed, by_image, seeds)
    spread = math.sqrt((variant.mean(axis=1).var(ddof=1) + baseline.mean(axis=1).var(ddof=1)) / 2)
    effect = mean / spread if spread else math.copysign(math.inf, mean) if mean else 0.0
    needed = _seeds_needed(mean, by_seed, by_image, LEVEL / among)
    return Comparison(seeds, mean, mean - half, mean + half, bootstrapped, p, p, effect, needed, flipped)


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's: of several comparisons, each p such that one false alarm among all is as rare as said (Holm 1979)."""
    return [float(p) for p in multipletests(p_values, LEVEL, method="holm")[1]] if p_values else []


def format_p(value: float) -> str:
    """A p to three places, or how small it is."""
    return f"{value:.3f}" if value >= 0.001 else "< 0.001" if value >= 1e-6 else "< 1e-6"


def _variances(differences: NDArray[np.float64]) -> tuple[float, float]:
    """What one seed's draw adds to the mean's variance, and what the images add to it however many seeds there are."""
    seeds, images = differences.shape
    of_seeds, of_images = differences.mean(axis=1), differences.mean(axis=0)
    residuals = differences - of_seeds[:, None] - of_images[None, :] + differences.mean()
    residual = float(np.square(residuals).sum()) / ((seeds - 1) * max(1, images - 1))
    of_image = seeds * float(of_images.var(ddof=1)) if images > 1 else 0.0
    return float(of_seeds.var(ddof=1)), max(0.0, of_image - residual) / (seeds * images)


def _half_width(level: float, by_seed: float, by_image: float, seeds: int) -> float:
    """Of the interval that misses the truth as often as `level` says: seeds by Student's t, images by the normal."""
    of_seeds = float(stats.t.ppf(1 - level / 2, seeds - 1)) * math.sqrt(by_seed / seeds)
    return math.hypot(of_seeds, float(stats.norm.ppf(1 - level / 2)) * math.sqrt(by_image))


def _p(mean: float, by_seed: float, by_image: float, seeds: int) -> float:
    """The level whose interval just reaches 0."""
    if not mean or not by_seed + by_image:
        return 0.0 if mean else 1.0

    def beyond(level: float) -> float:
        return _half_width(level, by_seed, by_image, seeds) - abs(mean)

    return float(brentq(beyond, SMALLEST, 1.0, xtol=SMALLEST)) if beyond(SMALLEST) > 0 else SMALLEST


def _seeds_needed(mean: float, by_seed: float, by_image: float, level: float) -> int | None:
    if not mean:
        return None
    enough = range(2, MOST_SEEDS + 1)
    first = bisect_left(enough, POWER, key=lambda seeds: _power(mean, by_seed + by_image * seeds, seeds, level))
    return enough[first] if first < len(enough) else None


def _power(mean: float, variance: float, seeds: int, level: float) -> float:
    return float(TTestPower().power(abs(mean) / math.sqrt(variance), seeds, level)) if variance else 1.0


def _flipped(variant: Scores, baseline: Scores) -> Flipped:
    """`p` is 1 where the scores are no yes or no."""
    if variant.dtype != np.bool_:
        return Flipped(0, 0, 1.0)
    both = int(np.count_nonzero(variant & baseline))
    first, second = int(np.count_nonzero(baseline & ~variant)), int(np.count_nonzero(variant & ~baseline))
    table = [[both, first], [second, len(variant) - both - first - second]]
    return Flipped(first, second, float(mcnemar(table, exact=True).pvalue))


def _bootstrap(of_images: NDArray[np.float64], random_seed: int) -> tuple[float, float]:
    if np.ptp(of_images) == 0:
        return float(of_images[0]), float(of_images[0])
    drawn = stats.bootstrap(
        (of_images,), np.mean, n_resamples=DRAWS, batch=100, method="percentile", vectorized=True, rng=random_seed
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)
