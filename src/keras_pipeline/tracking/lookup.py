"""A recorded run, found in MLflow's store by its key, its name or MLflow's id."""

import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.records.record import RunRecord, read_record
from keras_pipeline.tracking.runs import KEY, SERVED_NETWORK, kept_networks, shown_in
from keras_pipeline.tracking.store import connect_store
from keras_pipeline.tracking.stores.address import Location, local_path
from keras_pipeline.tracking.stores.connection import BoundedClient, required_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


SHORTEST_KEY = 6


def load_recorded_run(location: Location, experiment: str, wanted: str) -> tuple[RunRecord, list[dict[str, float]]]:
    """The record of the run `wanted`, from its artifact run.json, and the epochs that were logged with it.

    `wanted`: a run's name, its key, at least 6 characters that its key begins with, or MLflow's id of it, in any
    experiment of the store. Raises ParamsError where none or several match, DataError where the run has no record or
    MLflow was told other digests than the record has, MachineError where the store cannot be reached.
    """
    with required_store(location):
        client, run = find_one(location, experiment, wanted)
        return _record(client, run), _epochs(client, run)


def download_run(
    location: Location, experiment: str, wanted: str, artifacts: Iterable[str], folder: Path
) -> tuple[str, RunRecord]:
    """The name and the record of the run `wanted`, and these artifacts of it in `folder`, by their paths.

    Finds it and raises as `load_recorded_run`; DataError where an artifact is lacking.
    """
    with required_store(location):
        client, run = find_one(location, experiment, wanted)
        for path in artifacts:
            download_artifact(client, run, path, folder)
        return str(run.info.run_name), _record(client, run)


def keep_artifacts(location: Location, experiment: str, key: str, paths: Sequence[Path], folder: str) -> bool:
    """Keep files as artifacts below `folder` with the run of this key, wherever it is; whether it is anywhere.

    Raises whatever MLflow does.
    """
    if location.database and not shown_in(location.database, key):
        return False
    client = connect_store(location, experiment).client
    found = _matching(client, key)
    for run in found:
        for path in paths:
            client.log_artifact(run.info.run_id, str(path), folder)
    return bool(found)


def find_one(location: Location, experiment: str, wanted: str) -> tuple["MlflowClient", "Run"]:
    """MLflow's client and the run `wanted`, found as by `load_recorded_run`. Raises ParamsError where none or several
    match, and whatever MLflow does."""
    if location.database and not location.database.exists():
        raise ParamsError(
            f"{location.shown}: there is no store yet, so no run '{wanted}'. Expected: `dvc repro` before."
        )
    client = connect_store(location, experiment).client
    return client, find_in(client, location, wanted)


def find_in(client: "MlflowClient", location: Location, wanted: str) -> "Run":
    """The run `wanted` of a store that is open; see `find_one`."""
    found = _matching(client, wanted)
    if not found:
        raise ParamsError(
            f"MLflow at {location.shown} has no run '{wanted}'. Expected: a run's name, or its key "
            f"(`keras-pipeline status` shows it) or at least {SHORTEST_KEY} characters that the key begins with, or "
            "MLflow's id of it."
        )
    if len({run.data.tags[KEY] for run in found}) > 1:
        lines = [f"  {run.data.tags[KEY]}  {run.info.run_name}  {_moment(run)}" for run in found[:10]]
        raise ParamsError("\n".join([f"{len(found)} runs are called '{wanted}'. Name one by its key:", *lines]))
    return found[0]  # one training may be in several experiments: a study's run in each study's


def _matching(client: "MlflowClient", wanted: str) -> list["Run"]:
    """The runs of this pipeline whose name or id is `wanted` or whose key begins with it, newest first."""
    filters = []
    if "'" not in wanted:
        filters.append(f"attributes.run_name = '{wanted}'")
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST_KEY},32}}", wanted):
        filters.append(f"tags.`{KEY}` LIKE '{wanted}%'")
    if re.fullmatch(r"[0-9a-f]{32}", wanted):
        filters.append(f"attributes.run_id = '{wanted}'")
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = {run.info.run_id: run for text in filters for run in client.search_runs(experiments, text)}
    return sorted(
        (run for run in found.values() if KEY in run.data.tags), key=lambda run: run.info.start_time, reverse=True
    )


def _record(client: "MlflowClient", run: "Run") -> RunRecord:
    with tempfile.TemporaryDirectory() as folder:
        path = download_artifact(client, run, "run.json", Path(folder))
        record = read_record(path, "track")
    for digest, value in dict(record["sha256"]).items():
        if run.data.tags.get(f"sha256.{digest}", value) != value:
            raise DataError(
                f"MLflow's run '{run.info.run_name}': its artifact run.json says sha256.{digest} {value[:12]}…, its "
                f"tag says {run.data.tags[f'sha256.{digest}'][:12]}…: one of them was changed. Where the "
                "run's files are, `keras-pipeline track --again` sends both anew."
            )
    return record


def download_artifact(client: "MlflowClient", run: "Run", path: str, folder: Path) -> Path:
    """One file of the run's artifacts, by its path, below `folder`. Raises DataError where it is lacking."""
    above = path.rpartition("/")[0]
    listed = client.list_artifacts(run.info.run_id, above or None)
    size = next((one.file_size or 0 for one in listed if one.path == path), None)
    if size is None:
        raise DataError(
            f"MLflow's run '{run.info.run_name}' has no artifact {path}: its training did not end, or was not sent "
            "yet. Where its files are, run `keras-pipeline track`; after a move of the checkout, `keras-pipeline "
            "relocate`."
        )
    wanted = folder / path
    wanted.parent.mkdir(parents=True, exist_ok=True)
    # MLflow leaves out the folders that a single file is in, and does not promise it.
    given = client.carrying(size) if isinstance(client, BoundedClient) else client
    return Path(given.download_artifacts(run.info.run_id, path, str(wanted.parent))).replace(wanted)


def download_network(client: "MlflowClient", run: "Run", location: Location, folder: Path) -> Path | None:
    """The file of the network that MLflow keeps with the run, the newest, where it is or below `folder`; None where it
    keeps none, or the file is gone."""
    kept = kept_networks(client, run)
    here = network_file(location, kept[-1].artifact_location, folder) if kept else None
    return here if here and here.is_file() else None


def network_file(location: Location, kept_at: str, folder: Path) -> Path:
    """The file of the network below this address of MLflow's: where it is, or downloaded, below `folder`."""
    from mlflow.artifacts import download_artifacts

    uri = f"{kept_at}/{SERVED_NETWORK}"
    return local_path(uri) or Path(
        download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=location.uri)
    )


def _epochs(client: "MlflowClient", run: "Run") -> list[dict[str, float]]:
    rows: dict[int, dict[str, float]] = {}
    for name in (name for name in run.data.metrics if name.startswith(("train/", "val/"))):
        for metric in client.get_metric_history(run.info.run_id, name):
            rows.setdefault(metric.step, {"epoch": metric.step})[name] = metric.value
    return [rows[epoch] for epoch in sorted(rows)]


def _moment(run: "Run") -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.info.start_time / 1000))
