"""What MLflow's tags, note and name say of a run."""

from typing import Any

import pytest

import tracking_fixtures
from keras_pipeline.checks.params import load_params
from keras_pipeline.records.record import recorded_params
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


# The name


def title(**changes: Any) -> str:
    params = {**tags.SHIPPED, **{key.replace("__", "."): value for key, value in changes.items()}}
    name = f"{params['fetch.dataset']} {params['model.architecture']}"
    record: Any = {"name": name, "params": params, "dataset": {"dataset": params["fetch.dataset"]}}
    return tags.run_title(record)


def test_the_shipped_params_are_those_of_params_yaml() -> None:
    assert recorded_params(load_params(SHIPPED)) == tags.SHIPPED


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "mnist mlp"),
        ({"model__dropout": 0.5}, "dropout=0.5 · mnist mlp"),
        ({"seed": 2, "fetch__dataset": "digits"}, "seed=2 · digits mlp"),
        ({"model__architecture": "cnn"}, "mnist cnn"),
        ({"train__optimizer__name": "sgd", "seed": 3}, "seed=3 optimizer=sgd · mnist mlp"),
        ({"train__optimizer__learning_rate": 1e-05}, "learning_rate=1e-05 · mnist mlp"),
        ({"train__optimizer__beta_1": 0.8}, "beta_1=0.8 · mnist mlp"),
        ({"train__schedule__patience": 5}, "schedule.patience=5 · mnist mlp"),
        ({"train__early_stopping__patience": 0}, "early_stopping.patience=0 · mnist mlp"),
        ({"train__fused": False, "model__hidden_units": "[64]"}, "hidden_units=[64] fused=false · mnist mlp"),
        ({"model__layers": "[" + "x" * 99}, "layers=[xxxxxxxxxxxxxxxxxxxxxx… · mnist mlp"),
        (
            {"seed": 2, "model__dropout": 0.5, "model__l2": 0, "train__epochs": 3, "train__batch_size": "full"},
            "seed=2 dropout=0.5 l2=0 +2 more · mnist mlp",
        ),
    ],
)  # fmt: skip
def test_a_name_begins_with_what_differs(changes: dict[str, Any], expected: str) -> None:
    assert title(**changes).startswith(expected)


def test_a_name_that_was_given_stays() -> None:
    params = {**tags.SHIPPED, "seed": 1, "model.dropout": 0.5}
    record: Any = {"name": "relu seed 1", "params": params, "dataset": {"dataset": "mnist"}}
    assert tags.run_title(record) == "relu seed 1"
