"""When a version is worse than the champion: the rule, on answers whose difference is known."""

import re
from typing import Any

import numpy as np
import pytest

import small
from compared_runs import IMAGES, LABELS, made, record
from keras_pipeline.comparison import two_runs
from keras_pipeline.comparison.find_run import FoundRun
from keras_pipeline.registry import promotion


def run_with(wrong: list[int]) -> FoundRun:
    """A run that has all test images right but these."""
    outputs = np.eye(10, dtype=np.float32)[LABELS]
    outputs[wrong] = np.roll(outputs[wrong], 1, axis=1)
    return FoundRun("it", "it", record(f"{len(wrong):032x}"), {"test/loss": 0.0}, outputs, LABELS)


def judged(champion: FoundRun, new: FoundRun, margin: float | None = None) -> Any:
    answers = two_runs.compare_answers(champion, new)
    assert answers
    return promotion.judge(answers, margin)


@pytest.mark.parametrize(
    ("champion", "new", "passed"),
    [
        ([], [], True),
        (list(range(20)), [], True),
        ([], list(range(5)), True),  # 5 against 0: McNemar's exact p is 0.063
        ([], list(range(6)), False),  # 6 against 0: p 0.031
        (list(range(10)), list(range(10, 28)), True),  # 10 against 18: p 0.18
        (list(range(10)), list(range(10, 40)), False),
    ],
)
def test_a_version_is_refused_where_compare_calls_it_worse(champion: list[int], new: list[int], passed: bool) -> None:
    answers = two_runs.compare_answers(run_with(champion), run_with(new))
    assert answers
    found = promotion.judge(answers, None)
    assert found["passed"] is passed
    assert found["passed"] is not answers.worse
    assert answers.worse is ("is worse" in answers.verdict())
    assert found["difference"] == pytest.approx((len(champion) - len(new)) / IMAGES)
    assert found["low"] <= found["difference"] <= found["high"]
    assert f"{100 * found['difference']:+.2f} points" in found["verdict"] or not champion + new


def test_with_a_margin_it_has_to_be_shown_that_it_is_not_worse_by_as_much() -> None:
    champion, new = run_with([]), run_with(list(range(4)))  # -1 point, p 0.125
    assert judged(champion, new)["passed"]
    assert re.search(r"; it may be worse by 2 points at most$", judged(champion, new)["verdict"])
    narrow, wide = judged(champion, new, 1.5), judged(champion, new, 3.0)
    assert not narrow["passed"]
    assert narrow["verdict"].endswith("; the margin is 1.5 points")
    assert wide["passed"]
    clearly_worse = run_with(list(range(40)))
    assert not judged(champion, clearly_worse, 50.0)["passed"]  # a margin excuses nothing


def test_numbers_are_judged_by_their_errors() -> None:
    dataset = {
        "task": "regression", "class_names": [], **small.table("x"),
        "target": {"name": "none", "offset": 0.0, "divisor": 1.0},
    }  # fmt: skip
    about = record("d" * 32)
    about["dataset"] |= dataset
    about["dataset"]["sha256"] = {f"test_{kind}.npy": "e" * 64 for kind in ("features", "targets")}
    random = np.random.default_rng(0)
    true = random.normal(size=200)

    def run(error: float) -> FoundRun:
        noise = random.normal(0, error, (200, 1))
        return FoundRun("it", "it", about, {"test/loss": 0.0}, true[:, None] + noise, true)

    better, worse = judged(run(1.0), run(0.1)), judged(run(0.1), run(1.0))
    assert (better["passed"], worse["passed"]) == (True, False)
    assert better["metric"] == "test/mean_absolute_error"
    assert (better["p"], worse["p"]) == (None, None)
    assert better["verdict"].endswith("it is not worse")
    assert not judged(run(0.5), run(0.5), 1e-9)["passed"]


def test_other_test_images_cannot_be_compared() -> None:
    other = record("e" * 32)
    other["dataset"]["class_names"] = [f"class {number}" for number in range(10)]
    with pytest.raises(
        ValueError, match=r"they were tested on other images, or for other classes, so their answers cannot be paired"
    ):
        promotion._compare(made(1), made(2, run=other))
