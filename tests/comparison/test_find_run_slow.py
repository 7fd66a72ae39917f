"""Runs are found in the store of MLflow."""

from pathlib import Path

import pytest

import tracking_fixtures
from compared_runs import outputs, record, write
from keras_pipeline.comparison.find_run import PREDICTIONS, RECORD, SCORES
from keras_pipeline.core.errors import DataError

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated")  # MLflow with SQLAlchemy 2.1
def test_artifacts_of_a_run_are_fetched_from_the_store_and_kept_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_pipeline.tracking import lookup, runs, store

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    where = tracking_fixtures.checkout(tmp_path / "project").where
    assert lookup.keep_artifacts(where, tracking_fixtures.EXPERIMENT, "a" * 32, [], "compare") is False
    assert not (tmp_path / "project/mlruns").exists()
    ids = []
    write(Path(), record(), outputs(1))
    for experiment in ("study one", "study two"):  # one training, in two studies
        opened = store.connect_store(where, experiment)
        ids.append(runs.ensure_run(opened, record(), "named"))
        opened.client.log_artifact(ids[-1], RECORD)
        opened.client.log_artifact(ids[-1], PREDICTIONS, "reports")
    for wanted in ("digits mlp named", "a" * 32, "aaaaaa", *ids):
        folder = tmp_path / f"fetched-{wanted}"
        folder.mkdir()
        fetched = lookup.download_run(where, tracking_fixtures.EXPERIMENT, wanted, (PREDICTIONS,), folder)
        assert fetched == ("digits mlp named", record())
        assert (folder / PREDICTIONS).read_bytes() == Path(PREDICTIONS).read_bytes()
    with pytest.raises(DataError, match=r"run 'digits mlp named' has no artifact reports/metrics\.json: its training"):
        lookup.download_run(where, tracking_fixtures.EXPERIMENT, "aaaaaa", (SCORES,), folder)
    assert lookup.keep_artifacts(where, tracking_fixtures.EXPERIMENT, "a" * 32, [Path(SCORES)], "compare/x") is True
    assert lookup.keep_artifacts(where, tracking_fixtures.EXPERIMENT, "b" * 32, [Path(SCORES)], "compare/x") is False
    for identity in ids:
        [kept] = opened.client.list_artifacts(identity, "compare/x")
        assert kept.path == "compare/x/metrics.json"
