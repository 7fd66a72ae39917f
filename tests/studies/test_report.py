"""The report of a study."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_pipeline.studies import report
from keras_pipeline.studies.results import VariantResult
from variant_results import result

COMPARED: Any = object()


def test_a_seed_without_an_epoch_does_not_hide_the_curves_of_the_others(tmp_path: Path) -> None:
    results = [result("base", seed, [True, False], tmp_path, 0.5) for seed in (1, 2)]
    results[0].record["history"] = [{"epoch": epoch, "train/loss": 1 / 2**epoch} for epoch in (1, 2)]
    results[1].record["history"] = []
    one = VariantResult("base", "", tuple(results))
    assert report._curve(one, "train/loss").tolist() == [[0.5, 0.25]]


def test_the_verdict_of_a_study_is_of_its_best_variant(tmp_path: Path) -> None:
    def variant(name: str, accuracy: float, verdict: str = "") -> VariantResult:
        right = [number < 100 * accuracy for number in range(100)]
        return VariantResult(name, "", (result(name, 1, right, tmp_path, accuracy),), verdict=verdict)

    base, other = variant("base", 0.9), replace(variant("other", 0.95, "better by 5"), versus=COMPARED)
    assert report.study_verdict([base, other]) == "other: better by 5"
    assert report.study_metrics([base, other])["test/accuracy"] == 0.95
    assert report.study_verdict([base, replace(other, results=base.results[:0])]) == "base: none is better on average"
    assert report.study_verdict([VariantResult("base", "", ())]) == "every training diverged"
