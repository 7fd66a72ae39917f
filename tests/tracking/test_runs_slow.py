"""The table of MLflow's page."""

import json

import pytest

import tracking_fixtures
from keras_pipeline.tracking import runs, store
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, Checkout

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


def test_the_table_shows_what_differs(stored: Checkout) -> None:
    reached = store.connect_store(stored.where, EXPERIMENT)
    for number, (dropout, units) in enumerate([(0.3, "[512]"), (0.5, "[512]"), (0.5, "[64]")]):
        record = tracking_fixtures.record(stored.params_file, key=str(number))
        record["params"] |= {"model.dropout": dropout, "model.hidden_units": units}
        if number == 2:
            del record["params"]["seed"]
        runs.ensure_run(reached, record, None)
        store.prepare_table(reached)
        experiment = reached.client.get_experiment(reached.experiment)
        table = json.loads(experiment.tags["mlflow.sharedViewState.main"])
        always = ["attributes.`Created`", "metrics.`test/accuracy`", "metrics.`test/loss`"]
        differing = [[], ["model.dropout"], ["model.dropout", "model.hidden_units", "seed"]][number]
        assert table == {
            "selectedColumns": [*always, *(f"params.`{name}`" for name in differing)],
            "orderByKey": "metrics.`test/accuracy`",
            "orderByAsc": False,
        }
