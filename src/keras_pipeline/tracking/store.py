"""A store that answered, and the table that its page opens with."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock

from keras_pipeline.core import process
from keras_pipeline.tracking.stores import connection, database, relocation
from keras_pipeline.tracking.stores.address import Location, file_address
from keras_pipeline.tracking.stores.connection import BoundedClient, StoreError, store_calls
from keras_pipeline.tracking.stores.database import Condition

if TYPE_CHECKING:
    from mlflow import MlflowClient


VIEW = "main"
RESULTS = ("test/accuracy", "test/r2")
"""By which runs are compared, the highest first: of classes, and of numbers."""
VERDICT = "verdict"
"""The tag of a study's or search's own run that says what came out."""
LOCK_SECONDS = 20
"""For how long another process may be making the store or an experiment in it."""


class DeletedExperimentError(StoreError):
    """The experiment was deleted in MLflow's page."""


@dataclass(frozen=True)
class Store:
    """A store that answered."""

    client: "MlflowClient"
    experiment: str
    location: Location


def connect_store(location: Location, experiment: str) -> Store:
    """Reach the store, creating database and experiment where they are missing.

    Raises StoreError, saying why, where it cannot be used: nobody answers within seconds, it was moved or copied, it is
    no store of the installed MLflow, the experiment was deleted in the page; MachineError where this machine lacks
    something.
    """
    check_store(location, experiment)
    with store_calls(location):
        connection.start_mlflow()
    return open_store(location, experiment)


def check_store(location: Location, experiment: str) -> None:
    """See within seconds, and before MLflow is imported, whether the store answers and is one; raises as
    `connect_store`."""
    with store_calls(location):
        connection.check_answers(location, experiment)
        found = database.database_condition(location.uri, location.database)
        if found in (Condition.OLDER, Condition.NEWER, Condition.FOREIGN):
            raise database.unusable_error(found)
        relocation.check_place(location)


def open_store(location: Location, experiment: str) -> Store:
    """`connect_store` for a store that was checked, once MLflow is imported."""
    with store_calls(location):
        location.state.mkdir(parents=True, exist_ok=True)
        if location.database:
            location.database.parent.mkdir(parents=True, exist_ok=True)
        # The lock covers the constructor too: it makes a server's tables, and two first processes kill each other.
        with _lock(location):
            found = database.ready_database(location.uri, location.database, own=location.own)
            relocation.check_place(location)
            client = _client(location, found)
            return Store(client, _experiment(client, location, experiment), location)


def _experiment(client: "MlflowClient", location: Location, name: str) -> str:
    """MLflow's number of the experiment, which is made where it is missing."""
    known = client.get_experiment_by_name(name)
    if known is None:
        artifacts = file_address(location.artifacts) if location.artifacts else None
        return str(client.create_experiment(name, artifact_location=artifacts))
    if known.lifecycle_stage == "deleted":
        raise DeletedExperimentError(
            f"the MLflow experiment '{name}' was deleted. Restore it in the page, or choose another name as "
            "tracking.experiment in params.yaml"
        )
    return str(known.experiment_id)


def count_experiments(location: Location) -> int:
    """How many experiments a database has that MLflow itself can open; raises whatever it does."""
    connection.start_mlflow()
    return len(_client(location, Condition.GOOD).search_experiments())


def _client(location: Location, found: Condition) -> "MlflowClient":
    """MLflow's client, whose constructor opens the database. Raises whatever MLflow does."""
    from mlflow import MlflowClient

    def client() -> "MlflowClient":
        return MlflowClient(location.uri)

    if location.kind in ("sqlite", "database"):
        database.make_mlflow_tire_soon()
    if location.kind == "sqlite":  # whose locks are all that it may wait for
        return client()
    if found is not Condition.HALF_MADE:
        # A database server's tables may be made here.
        return BoundedClient(process.within(database.MAKING_SECONDS, client))  # type: ignore[return-value]
    with suppress(Exception):  # a server that takes unfinished tables back, as PostgreSQL does, can go on
        return BoundedClient(process.within(database.MAKING_SECONDS, client))  # type: ignore[return-value]
    raise database.unusable_error(found)


def _lock(location: Location) -> FileLock:
    """Beside an SQLite database, so that all checkouts that share it wait for each other."""
    beside = location.database or location.state / "store"
    if not os.access(beside.parent, os.W_OK):  # it can be read all the same
        beside = location.state / "store"
    return FileLock(beside.with_name(f".{beside.name}-lock"), timeout=LOCK_SECONDS)


def prepare_table(store: Store) -> None:
    """Make the experiment's table show what differs between its runs, best test accuracy, or R², first.

    The columns are these, the newest run's first, the test loss, a study's verdict, and each param that has more than
    one value among the newest runs. The tag is what the page of MLflow 3 itself writes for a shared view; not a
    documented interface: another version may ignore it.
    """
    runs = store.client.search_runs([store.experiment], max_results=200)
    values: dict[str, set[str | None]] = {}
    for key in sorted({key for run in runs for key in run.data.params}):
        values[key] = {run.data.params.get(key) for run in runs if run.data.params}  # a study's own run has none
    differing = [key for key, found in values.items() if len(found) > 1]
    known = [name for run in runs for name in RESULTS if name in run.data.metrics]
    results = list(dict.fromkeys(known)) or [RESULTS[0]]
    columns = [
        "attributes.`Created`",
        *(f"metrics.`{name}`" for name in (*results, "test/loss")),
        *([f"tags.`{VERDICT}`"] if any(VERDICT in run.data.tags for run in runs) else []),
        *(f"params.`{key}`" for key in differing[:12]),
    ]
    view = {"selectedColumns": columns, "orderByKey": f"metrics.`{results[0]}`", "orderByAsc": False}
    store.client.set_experiment_tag(store.experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(view))


def table_path(experiment: str) -> str:
    """The path of the prepared table in MLflow's page, after the server's address."""
    return f"/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"
