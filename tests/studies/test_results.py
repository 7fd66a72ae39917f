"""The answer of a study, from records alone."""

import re
from pathlib import Path

import numpy as np
import pytest

from keras_pipeline.comparison import statistics
from keras_pipeline.studies import report, results
from keras_pipeline.studies.results import compare_variants, few_seeds_line
from variant_results import result


def test_the_verdict_in_words(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    base = noise.random((5, 1000)) < 0.9
    better = base | (noise.random((5, 1000)) < 0.5)
    same = noise.random((5, 1000)) < 0.9
    rows = {"base": base, "better": better, "same": same}
    results = [
        result(name, seed, list(right[seed]), tmp_path, 0.9) for name, right in rows.items() for seed in range(5)
    ]
    said = {one.name: one.verdict for one in compare_variants(results, "base")}
    assert said["base"] == "what the others are compared with"
    assert re.fullmatch(r"better by \d\.\d\d points \[\+\d\.\d\d, \+\d\.\d\d\]; larger than seed noise", said["better"])
    assert re.fullmatch(
        r"no difference that 5 seeds can show \([+-]\d\.\d\d points \[-\d\.\d\d, \+\d\.\d\d\]\); "
        r"(about \d+ seeds would be needed for one of this size|so small a one cannot be shown .*)",
        said["same"],
    )


def test_networks_of_no_use_are_said_beside_the_difference(tmp_path: Path) -> None:
    good, bad = [True] * 90 + [False] * 10, [True] * 10 + [False] * 90
    rows = [result("base", seed, good, tmp_path, 0.9) for seed in (1, 2, 3)]
    rows += [result("flat", seed, bad, tmp_path, 0.1, p=p) for seed, p in ((1, 0.6), (2, 0.04), (3, 0.03))]
    base, flat = compare_variants(rows, "base")
    assert base.verdict == "what the others are compared with"
    assert flat.verdict.startswith("no better than a constant answer with 1 of 3 seeds; worse by 80.00 points")


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_give_no_verdict_no_interval_and_no_p(seeds: int, tmp_path: Path) -> None:
    good, bad = [True] * 90 + [False] * 10, [True] * 10 + [False] * 90
    rows = [
        result(name, seed, right, tmp_path, 0.9)
        for seed in range(seeds)
        for name, right in (("base", good), ("bad", bad))
    ]
    base, other = compare_variants(rows, "base")
    assert other.verdict == "too few seeds to tell (needs at least 3)"
    assert base.interval is None
    shown = report._compared(other)
    assert (shown["difference"], shown["p"], shown["p_adjusted"]) == ("-80.00", "–", "–")


def test_of_the_seeds_those_that_both_trained_on_decide(tmp_path: Path) -> None:
    right = [True] * 90 + [False] * 10
    rows = [result("base", seed, right, tmp_path, 0.9) for seed in (1, 2, 3)]
    rows += [result("other", seed, right, tmp_path, 0.9) for seed in (2, 3, 4)]
    assert compare_variants(rows, "base")[1].verdict == "too few seeds to tell (needs at least 3)"


@pytest.mark.parametrize(
    ("seeds", "others", "advised"), [([1], [], "[1, 2, 3]"), ([2, 7], [1], "[2, 7, 3]"), ([1, 2, 3], [], "")]
)
def test_too_few_seeds_are_said_with_more_to_give(seeds: list[int], others: list[int], advised: str) -> None:
    said = few_seeds_line("study a", Path("studies/a.yaml"), seeds, others)
    assert said.endswith(f"seeds: {advised} in studies/a.yaml") if advised else not said
    assert said.startswith(f"study a: {len(seeds)} seed{'s' if len(seeds) > 1 else ''}, ") or not said


def test_what_only_the_correction_makes_chance_is_said_so() -> None:
    versus = statistics.Comparison(5, 0.003, 0.0004, 0.0057, (0.0018, 0.0043), 0.034, 0.069, 2.5, 7, ())
    assert results._difference(versus) == (
        "no difference that 5 seeds can show among so many comparisons (+0.30 points [+0.04, +0.57]); "
        "about 7 seeds would be needed for one of this size"
    )


def test_a_variant_is_represented_by_the_choice_with_the_best_validation(tmp_path: Path) -> None:
    good, bad = [True] * 9 + [False], [True] * 5 + [False] * 5
    results = [
        result("base", 1, bad, tmp_path, 0.5),
        result("base", 2, bad, tmp_path, 0.5),
        *(result("one", seed, bad, tmp_path, 0.7 + seed / 100, "rate=1") for seed in (1, 2)),
        *(result("one", seed, good, tmp_path, 0.6, "rate=2") for seed in (1, 2)),
    ]
    one = compare_variants(results, "base")[1]
    assert (one.tuned, one.mean) == ("rate=1", 0.5)  # by the validation images, not by the test images
    assert one.choices == pytest.approx({"rate=1": 0.715, "rate=2": 0.6})


def test_only_seeds_that_both_have_are_compared(tmp_path: Path) -> None:
    right = [True] * 8 + [False] * 2
    results = [result("base", seed, right, tmp_path, 0.5) for seed in (1, 2)]
    results += [result("other", seed, right, tmp_path, 0.5) for seed in (2, 3)]
    versus = compare_variants(results, "base")[1].versus
    assert versus is not None
    assert versus.seeds == 1
