"""What MLflow's tags and note say of a run."""

import pytest

import tracking_fixtures
from keras_pipeline.checks.params import load_params
from keras_pipeline.tracking import tags
from places import SHIPPED

SCORES = {"test/accuracy": 0.1, "test/accuracy_low": 0.09, "test/accuracy_high": 0.11, "test/loss": 2.5}


@pytest.mark.parametrize(("p", "useless"), [(0.6, True), (0.01, False)])
def test_a_network_of_no_use_is_tagged(p: float, useless: bool) -> None:
    scores = {**SCORES, "test/p_no_better_than_constant": p}
    made = tags.file_tags(load_params(SHIPPED), {}, tracking_fixtures.record(SHIPPED), scores)
    assert made["no_better_than_constant"] == ("true" if useless else "false")
    begin = "**No better than a constant answer:** **10.00%**" if useless else "**10.00%**"
    assert made["mlflow.note.content"].startswith(begin)


def test_a_training_that_diverged_has_no_such_tag() -> None:
    record = {**tracking_fixtures.record(SHIPPED), "diverged": "train/loss nan at step 3 of epoch 1"}
    assert "no_better_than_constant" not in tags.file_tags(load_params(SHIPPED), {}, record, {})
