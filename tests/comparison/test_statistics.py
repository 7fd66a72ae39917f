"""Two settings compared: known differences found, SciPy's and statsmodels' values."""

import math

import numpy as np
import pytest
from scipy import stats

from drawn_settings import drawn
from keras_pipeline.comparison import statistics


def test_a_known_difference_is_found() -> None:
    first, second = drawn(np.random.default_rng(1), 5, 10_000, 0.02, 0.1, better=0.15)
    found = statistics.compare_settings(first, second)
    assert found.real
    assert 0.003 < found.low < found.difference < found.high < 0.03
    assert found.difference == pytest.approx(first.mean() - second.mean())
    assert found.seeds_needed is not None
    assert found.seeds_needed <= 5
    other = statistics.compare_settings(second, first)
    assert (other.difference, other.low, other.high) == pytest.approx((-found.difference, -found.high, -found.low))
    assert other.p == pytest.approx(found.p)


def test_without_a_part_of_the_images_it_is_the_paired_t_test() -> None:
    """Where the residuals outweigh what the images have in common, SciPy's `ttest_rel` and its interval."""
    scores = np.array([[0.9, 0.1, 0.4, 0.6], [0.2, 0.8, 0.7, 0.3], [0.6, 0.5, 0.1, 0.9]])
    others = np.array([[0.1, 0.6, 0.5, 0.2], [0.7, 0.1, 0.1, 0.6], [0.2, 0.4, 0.8, 0.1]])
    found = statistics.compare_settings(scores, others)
    expected = stats.ttest_rel(scores.mean(axis=1), others.mean(axis=1))
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert [one.p for one in found.flipped] == [1, 1, 1]  # nothing is right or wrong here


def test_images_and_seeds_are_the_components_of_an_analysis_of_variance() -> None:
    """The variances against a two-way analysis of variance of the differences, computed by statsmodels."""
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    random = np.random.default_rng(3)
    seeds, images = 4, 12
    noise = random.normal(0, 1, (seeds, 1)) + random.normal(0, 2, images) + random.normal(0, 0.5, (seeds, images))
    differences = 0.3 + noise
    rows = [{"seed": f"s{s}", "image": f"i{i}", "d": differences[s, i]} for s in range(seeds) for i in range(images)]
    table = anova_lm(ols("d ~ C(seed) + C(image)", pd.DataFrame(rows)).fit())
    of_seed, of_image, residual = table["mean_sq"]
    assert of_image > residual
    of_seeds = stats.t.ppf(0.975, seeds - 1) * math.sqrt(of_seed / (seeds * images))
    of_images = stats.norm.ppf(0.975) * math.sqrt((of_image - residual) / (seeds * images))
    found = statistics.compare_settings(differences, np.zeros_like(differences))
    assert found.high - found.low == pytest.approx(2 * math.hypot(of_seeds, of_images))
    # p is the level at which the interval just reaches 0.
    assert (found.p < 0.05) == (not found.low <= 0 <= found.high)


@pytest.mark.parametrize("shift", [0.2, 0.5, 1.0, 2.0])
def test_p_and_the_interval_agree(shift: float) -> None:
    random = np.random.default_rng(9)
    noise = random.normal(0, 1, (5, 1)) * 0.3 + random.normal(0, 1, 200) + random.normal(0, 1, (5, 200))
    found = statistics.compare_settings(noise - noise.mean() + shift, np.zeros_like(noise))
    by_seed, by_image = statistics._variances(noise)
    assert statistics._half_width(found.p, by_seed, by_image, 5) == pytest.approx(shift, rel=1e-6)


def test_flipped_images_and_mcnemar() -> None:
    baseline = np.array([[True] * 6 + [False] * 4])
    variant = np.array([[True] * 5 + [False] + [True] * 4])
    (one,) = statistics.compare_settings(variant, baseline).flipped
    assert (one.only_baseline, one.only_variant) == (1, 4)
    assert one.p == pytest.approx(stats.binomtest(1, 5).pvalue)  # the exact test is that of a fair coin


def test_the_bootstrap_is_of_the_images() -> None:
    """As wide as the normal interval of a mean of 10,000 differences, for these networks, whatever the seeds' noise."""
    first, second = drawn(np.random.default_rng(5), 4, 10_000, 0.5, 0.1)
    found = statistics.compare_settings(first, second)
    of_images = first.mean(axis=0) - second.mean(axis=0)
    half = 1.96 * of_images.std() / 100
    assert found.images == pytest.approx((found.difference - half, found.difference + half), abs=0.1 * half)
    assert found.high - found.low > 2 * (found.images[1] - found.images[0])  # the seeds differ by more than that


def test_holm_s_correction() -> None:
    """Holm 1979: the smallest times three, the next times two, none below one before it."""
    assert statistics.holm_adjusted([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert statistics.holm_adjusted([]) == []


def test_seeds_needed_give_four_chances_in_five(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: with as many seeds as are said to be needed, the difference is found in about 80 % of the draws."""
    monkeypatch.setattr(statistics, "DRAWS", 2)
    random = np.random.default_rng(7)
    difference, of_seed = 0.01, 0.012
    noise = random.normal(0, of_seed, 3)
    exact = difference + (noise - noise.mean()) / noise.std(ddof=1) * of_seed
    needed = statistics.compare_settings(exact[:, None], np.zeros((3, 1))).seeds_needed
    among = statistics.compare_settings(exact[:, None], np.zeros((3, 1)), among=5).seeds_needed
    assert among == 21  # the same at alpha 0.01
    assert needed == 14  # as G*Power says for d = 0.833, two-sided, alpha 0.05, power 0.8
    draws = random.normal(difference, of_seed, (2000, needed))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert 0.76 < np.mean(found) < 0.88


def test_what_is_alike_is_no_difference() -> None:
    same = np.array([[True, False, True], [True, True, True]])
    found = statistics.compare_settings(same, same)
    assert (found.difference, found.low, found.high, found.p, found.effect) == (0, 0, 0, 1, 0)
    assert found.seeds_needed is None
    assert not found.real


def test_too_few_images_are_said_to_be_too_few() -> None:
    """A difference far below what the test images can show, however many seeds train."""
    random = np.random.default_rng(11)
    own, other = random.normal(0, 1, 200), random.normal(0, 1, 200)
    noise = random.normal(0, 0.01, (2, 5, 200))
    shift = (own - other).mean()
    found = statistics.compare_settings(own - shift + 0.01 + noise[0], other + noise[1])
    assert found.seeds_needed is None
    assert not found.real


def test_one_seed_is_judged_by_the_images_alone() -> None:
    first, second = drawn(np.random.default_rng(2), 1, 2000, 0.0, 0.0, better=0.5)
    found = statistics.compare_settings(first, second)
    assert found.p == found.flipped[0].p
    assert (found.low, found.high) == found.images
    assert found.effect is None


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(2, 4\); expected two alike"):
        statistics.compare_settings(np.zeros((2, 3)), np.zeros((2, 4)))
