"""Runs are found in the store of MLflow, and where the real DVC says that its cache is."""

from pathlib import Path

import pytest

import tracking_fixtures
from compared_runs import commit, nowhere, outputs, record, write
from keras_pipeline.comparison import find_run
from keras_pipeline.comparison.find_run import PREDICTIONS, RECORD, SCORES
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, MachineError

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


def test_the_cache_is_where_the_settings_of_dvc_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the user too, as where a whole team has one cache; the real DVC is asked."""
    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    commit("1" * 32, 1, "team/cache")
    files.write_atomically(Path(".dvc", "config"), b"[core]\n    analytics = false\n")
    with pytest.raises(
        DataError,
        match=r"^git revision HEAD, commit \w+: models/run.json \(MD5 \w+\) is not in DVC's cache \S*/\.dvc/cache",
    ):
        find_run.find_run("HEAD", nowhere)
    settings = f"[cache]\n    dir = {tmp_path}/team/cache\n    type = symlink\n"
    files.write_atomically(tmp_path / "DVC_GLOBAL_CONFIG_DIR" / "config", settings.encode())
    assert find_run.find_run("HEAD", nowhere).record["key"] == "1" * 32
    Path("team").rename("unmounted")
    with pytest.raises(MachineError, match=r"^DVC's cache \S*team/cache: it is not there\. Is its disk mounted\?"):
        find_run.find_run("HEAD", nowhere)
    files.write_atomically(Path(".dvc", "config"), b"no setting")
    with pytest.raises(MachineError, match=r"^DVC refuses: .*config file error: .*no setting"):
        find_run.find_run("HEAD", nowhere)
