"""Where MLflow keeps runs: finding the store, reaching it, and the table that its page opens with."""

import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from filelock import FileLock

from keras_pipeline.core import process
from keras_pipeline.core.errors import MachineError, PipelineError, masked
from keras_pipeline.tracking import database
from keras_pipeline.tracking.database import Condition

if TYPE_CHECKING:
    from mlflow import MlflowClient


# Read by MLflow when it is imported or at each call: fail soon, tell nobody, print nothing.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
DATABASE = "mlflow.db"
VIEW = "main"
RESULTS = ("test/accuracy", "test/r2")
"""By which runs are compared, the highest first: of classes, and of numbers."""


@dataclass(frozen=True)
class Location:
    """`uri` of the store; `artifacts`: where a new experiment keeps files (None: the server decides);
    `state`: the folder for what this machine remembers of its runs."""

    uri: str
    artifacts: Path | None
    state: Path

    @property
    def database(self) -> Path | None:
        """The SQLite file, if the store is one; what follows a `?` are SQLAlchemy's settings."""
        path = self.uri.removeprefix("sqlite:///").partition("?")[0]
        return Path(path) if self.uri.startswith("sqlite:///") else None

    @property
    def own(self) -> bool:
        """Whether it is the SQLite file in the project's own place, where nobody else puts one."""
        return self.database == self.state / DATABASE


@dataclass(frozen=True)
class Store:
    """A store that answered."""

    client: "MlflowClient"
    experiment: str
    location: Location


def project_root() -> Path:
    """The main checkout: DVC names it in every kind of run, also in an experiment's temporary copy."""
    named = os.environ.get("DVC_ROOT")
    here = Path(named) if named else Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "dvc.yaml").exists()), here).resolve()


def store_location(root: Path) -> Location:
    """MLFLOW_TRACKING_URI (a relative SQLite path is taken from `root`), else mlruns/mlflow.db under `root`."""
    folder = root / "mlruns"
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or f"sqlite:///mlruns/{DATABASE}"
    if uri.startswith("sqlite:///"):
        path = root / uri.removeprefix("sqlite:///")
        return Location(f"sqlite:///{path}", path.parent / "artifacts", folder)
    return Location(uri, None if uri.startswith(("http://", "https://")) else folder / "artifacts", folder)


def connect_store(location: Location, experiment: str) -> Store:
    """Reach the store, creating database and experiment where they are missing.

    Raises whatever MLflow or the file system does; ConnectionError when what stands there is no store of the
    installed MLflow; MachineError when the experiment was deleted in the page.
    """
    _start()
    location.state.mkdir(parents=True, exist_ok=True)
    if location.database:
        location.database.parent.mkdir(parents=True, exist_ok=True)
    # The lock covers the constructor too: it makes a server's tables, and two first processes kill each other.
    with _lock(location):
        found = database.ready_database(location.uri, location.database, own=location.own)
        client = _client(location, found)
        known = client.get_experiment_by_name(experiment)
        if known is None:
            artifacts = f"file://{quote(str(location.artifacts))}" if location.artifacts else None
            identity = client.create_experiment(experiment, artifact_location=artifacts)
        elif known.lifecycle_stage == "deleted":
            raise MachineError(
                f"the MLflow experiment '{experiment}' was deleted. Restore it in the page, or choose another "
                "name as tracking.experiment in params.yaml."
            )
        else:
            identity = known.experiment_id
    return Store(client, identity, location)


@contextmanager
def required_store(location: Location) -> Iterator[None]:
    """For a command that is nothing without the store: raises MachineError for whatever MLflow raises."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        raise MachineError(
            f"MLflow at {masked(location.uri)} is not available ({failure_reason(error)}). Start it or correct "
            "MLFLOW_TRACKING_URI; what is in files needs no store."
        ) from None


def count_experiments(location: Location) -> int:
    """How many experiments a store has that MLflow itself can open; raises whatever it does."""
    _start()
    return len(_client(location, Condition.GOOD).search_experiments())


def _start() -> None:
    """Import MLflow, quiet and soon tired."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with process.time_part("import"):
        import mlflow  # noqa: F401

    for name in ("mlflow", "sqlalchemy", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors come as exceptions; hints are not for users


def _client(location: Location, found: Condition) -> "MlflowClient":
    """MLflow's client, whose constructor opens the database. Raises whatever MLflow does."""
    from mlflow import MlflowClient

    if found is not Condition.HALF_MADE:
        return MlflowClient(location.uri)
    with suppress(Exception):  # a server that takes unfinished tables back, as PostgreSQL does, can go on
        return MlflowClient(location.uri)
    raise database.unusable_error(found)


def _lock(location: Location) -> FileLock:
    """Beside an SQLite database, so that all checkouts that share it wait for each other."""
    beside = location.database or location.state / "store"
    if not os.access(beside.parent, os.W_OK):  # it can be read all the same
        beside = location.state / "store"
    return FileLock(beside.with_name(f".{beside.name}-lock"), timeout=60)


def failure_reason(error: Exception) -> str:
    """Why a store failed, in one line without passwords: what the system, network or database said at the bottom of
    MLflow's exceptions, else MLflow's own words."""
    from urllib3.exceptions import HTTPError

    found, cause = error, error.__cause__ or error.__context__
    while cause is not None:
        if isinstance(cause, OSError | sqlite3.Error | HTTPError):
            found = cause
        cause = cause.__cause__ or cause.__context__
    return (masked(str(found)).strip() or type(found).__name__).split("\n")[0][:200]


def prepare_table(store: Store) -> None:
    """Make the experiment's table show what differs between its runs, best test accuracy, or R², first.

    The columns are these, the newest run's first, the test loss, and each param that has more than one value
    among the newest runs. The tag is what the page of MLflow 3 itself writes for a shared view; not a documented
    interface: another version may ignore it.
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
        *(f"params.`{key}`" for key in differing[:12]),
    ]
    view = {"selectedColumns": columns, "orderByKey": f"metrics.`{results[0]}`", "orderByAsc": False}
    store.client.set_experiment_tag(store.experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(view))


def table_path(experiment: str) -> str:
    """The path of the prepared table in MLflow's page, after the server's address."""
    return f"/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def relocate_artifacts(location: Location) -> int:
    """Make a local store's artifact paths point into the folder where it now is; how many were changed.

    MLflow stores absolute paths; after a move or copy of the checkout it finds no artifact and says nothing.
    Raises MachineError when the store is not a local SQLite file, or not one of the installed MLflow.
    """
    if location.database is None or not location.database.exists():
        raise MachineError(
            f"{masked(location.uri)} is not an SQLite file on this machine, so there is nothing to relocate. "
            "Expected: the store in mlruns/mlflow.db, or MLFLOW_TRACKING_URI=sqlite:///…"
        )
    new = f"file://{quote(str(location.artifacts))}"
    changed = 0
    with required_store(location), closing(sqlite3.connect(location.database)) as connection, connection:
        found = database.database_condition(location.uri, location.database)
        if found is not Condition.GOOD:
            raise database.unusable_error(found)
        old_roots = [row[0] for row in connection.execute("SELECT artifact_location FROM experiments")]
        for table, column in _paths(connection):
            for old in old_roots:
                if old == new or not old.endswith("/artifacts"):
                    continue
                changed += connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                ).rowcount
    return changed


def _paths(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """The columns that hold artifact paths, experiments last, since they tell the old place."""
    known: list[tuple[str, Any]] = [
        ("runs", "artifact_uri"),
        ("logged_models", "artifact_location"),
        ("experiments", "artifact_location"),
    ]
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return [(table, column) for table, column in known if table in tables]
