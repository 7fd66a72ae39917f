"""The report of a study."""

from pathlib import Path

from keras_pipeline.studies import report
from keras_pipeline.studies.results import VariantResult
from variant_results import result


def test_a_seed_without_an_epoch_does_not_hide_the_curves_of_the_others(tmp_path: Path) -> None:
    results = [result("base", seed, [True, False], tmp_path, 0.5) for seed in (1, 2)]
    results[0].record["history"] = [{"epoch": epoch, "train/loss": 1 / 2**epoch} for epoch in (1, 2)]
    results[1].record["history"] = []
    one = VariantResult("base", "", tuple(results))
    assert report._curve(one, "train/loss").tolist() == [[0.5, 0.25]]
