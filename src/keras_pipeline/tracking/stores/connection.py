"""Reaching a store within seconds, or saying in one line why not, in the server's words and without passwords."""

import base64
import configparser
import html
import importlib.metadata
import json
import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from keras_pipeline.core import process
from keras_pipeline.core.errors import MachineError, PipelineError, masked
from keras_pipeline.core.terminal import shown
from keras_pipeline.tracking.stores.address import Location

if TYPE_CHECKING:
    import requests

CALL_SECONDS = 4.0
"""How long a server may take for an answer: with what else a verb does, five seconds."""
SECONDS_A_MEGABYTE = 1.0
"""How much longer it may take for what is sent or fetched with a call."""
ANSWER_BYTES = 65_536
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(int(CALL_SECONDS)),
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Read by MLflow when it is imported or at each call: fail soon, tell nobody, print nothing."""
NOT_OURS = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI")
"""What somebody set for other programs: every call here names its run, its experiment and its store."""
FORMS = "sqlite:///FILE, http://HOST:PORT, https://…, or postgresql://, mysql:// or mssql:// of a database server"


class StoreError(MachineError):
    """The store cannot be used now; the message says which, and why."""


class UnavailableError(StoreError):
    """The store does not answer, or not as one."""


def start_mlflow() -> None:
    """Import MLflow, quiet and soon tired."""
    os.environ.update(ENVIRONMENT)
    for name in NOT_OURS:
        os.environ.pop(name, None)
    with process.time_part("import"):
        import mlflow  # noqa: F401

    for name in ("mlflow", "sqlalchemy", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors come as exceptions; hints are not for users


class BoundedClient:
    """MLflow's client, each call of which ends in time: with an answer, or with TimeoutError."""

    def __init__(self, client: Any, size: int = 0) -> None:
        self._client = client
        self._seconds = CALL_SECONDS + SECONDS_A_MEGABYTE * size / 1e6

    def carrying(self, size: int) -> "BoundedClient":
        """For calls that carry so many bytes."""
        return BoundedClient(self._client, size)

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        """As MLflow's; the file's size gives it time."""
        client = self.carrying(Path(local_path).stat().st_size)
        process.within(client._seconds, lambda: self._client.log_artifact(run_id, local_path, artifact_path))

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        """As MLflow's; the files' sizes give it time."""
        client = self.carrying(sum(path.stat().st_size for path in Path(local_dir).rglob("*")))
        process.within(client._seconds, lambda: self._client.log_artifacts(run_id, local_dir, artifact_path))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """As MLflow's."""
        call = getattr(self._client, name)
        return lambda *arguments, **named: process.within(self._seconds, lambda: call(*arguments, **named))


def check_answers(location: Location, experiment: str) -> None:
    """See to it that there is a store of a kind that MLflow knows, and that a server of MLflow's answers as one does.

    Raises StoreError after CALL_SECONDS at most, before MLflow is imported. Databases: `database.ready_database`.
    """
    if location.kind == "other":
        _check_scheme(location)
    if location.kind == "http":
        with store_calls(location):
            process.within(CALL_SECONDS, lambda: _ask(location.uri, experiment))


def _check_scheme(location: Location) -> None:
    scheme = location.uri.partition(":")[0].partition("+")[0]
    plugins = {one.name for one in importlib.metadata.entry_points(group="mlflow.tracking_store")}
    if "://" not in location.uri and location.uri != "databricks":
        scheme = "file"
    if scheme not in plugins | {"databricks", "databricks-uc", "uc"}:
        kept = " MLflow keeps no runs in folders any more." if scheme == "file" else ""
        raise StoreError(
            f"MLFLOW_TRACKING_URI: {location.shown} is no address of a store.{kept} Expected: {FORMS}; "
            "or nothing, for mlruns/mlflow.db"
        )


def _ask(uri: str, experiment: str) -> None:
    """Ask as MLflow's client will, for the experiment; raises ConnectionError where no MLflow answers, what requests
    does where nobody does."""
    import requests

    query = urlencode({"experiment_name": experiment})
    address = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{query}"
    redirects = os.environ.get("MLFLOW_ALLOW_HTTP_REDIRECTS", "true").lower() in ("true", "1")
    with (
        requests.Session() as session,
        session.get(
            address,
            headers=_headers(),
            timeout=CALL_SECONDS + 1,  # `check_answers` is tired first
            stream=True,
            allow_redirects=redirects,
            verify=_verification(),
            cert=os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH") or None,
        ) as response,
    ):
        _judge(response, response.raw.read(ANSWER_BYTES, decode_content=True))


def _judge(response: "requests.Response", body: bytes) -> None:
    """Raises ConnectionError unless it is an answer of MLflow's: the experiment, or that there is none."""
    code, text = response.status_code, body.decode("utf-8", "replace")
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    whole = isinstance(answer, dict)
    if (code == 200 and whole and isinstance(answer.get("experiment"), dict)) or (
        code == 404 and whole and answer.get("error_code") == "RESOURCE_DOES_NOT_EXIST"
    ):
        return
    if code in (401, 403) and any(os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("AUTH", "AWS_SIGV4")):
        return  # MLflow's client alone knows how to show who it is
    words = _words(text)
    if code == 200:
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        what = f"{kind or 'something'}: {words}" if words else "nothing"
        raise ConnectionError(f"it is no server of MLflow's: asked for an experiment, it answers with {what}")
    raise ConnectionError(f"HTTP {code} {response.reason or ''}".strip() + (f": {words}" if words else ""))


def _words(text: str) -> str:
    """What a body says to people: MLflow's message, the title of a page, or its text."""
    with suppress(ValueError, RecursionError):
        answer = json.loads(text)
        text = str(answer.get("message") or answer.get("error_code") or text) if isinstance(answer, dict) else text
    if "<" in text:
        title = re.search(r"<title[^>]*>(.*?)</title", text, re.DOTALL | re.IGNORECASE)
        text = title[1] if title else re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
    return html.unescape(text)


def _headers() -> dict[str, str]:
    """Who is asking, as MLflow's client says it: a name and password, else a token. Raises ConnectionError for a file
    of them on which MLflow's client would fail, without a word of what is in it."""
    headers = {}
    if workspace := os.environ.get("MLFLOW_WORKSPACE"):
        headers["X-MLFLOW-WORKSPACE"] = workspace
    kept = configparser.ConfigParser()
    try:
        kept.read(Path("~/.mlflow/credentials").expanduser(), encoding="utf-8")
        found = dict(kept["mlflow"]) if kept.has_section("mlflow") else {}
    except configparser.InterpolationError:
        raise ConnectionError("~/.mlflow/credentials: MLflow wants a % in it written as %%") from None
    except (configparser.Error, UnicodeError):
        form = "[mlflow], mlflow_tracking_username = NAME, mlflow_tracking_password = WORD, a line each"
        raise ConnectionError(f"~/.mlflow/credentials cannot be read. Expected: {form}, in UTF-8") from None
    name, password = (
        os.environ.get(variable) or found.get(variable.lower())
        for variable in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    )
    if name and password:
        headers["Authorization"] = f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _verification() -> bool | str:
    """Which certificates are believed."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    return os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True


@contextmanager
def store_calls(location: Location) -> Iterator[None]:
    """Raises StoreError for what a store, or the way to it, is to blame for; a fault of ours stays what it is."""
    try:
        yield
    except Exception as error:
        explained = what_went_wrong(error, location)
        if explained is error:
            raise
        raise explained from error


@contextmanager
def required_store(location: Location) -> Iterator[None]:
    """As `store_calls`, for a command that is nothing without the store: says what to do, too."""
    try:
        with store_calls(location):
            yield
    except UnavailableError as error:
        raise UnavailableError(
            f"{error}. Start it or correct MLFLOW_TRACKING_URI; what is in files needs no store."
        ) from error


def what_went_wrong(error: Exception, location: Location) -> Exception:
    """What a failure is told as: StoreError where the store, the network or MLflow's client refused; MachineError where
    this machine lacks something; itself where it is told already, or is our bug."""
    if isinstance(error, PipelineError):
        return error
    if isinstance(error, ImportError):
        return MachineError(f"{error}. The installation is not complete, or something hides a part of it: `make setup`")
    if isinstance(error, MemoryError):
        return MachineError("memory is exhausted")
    if _refused(error):
        return StoreError(f"MLflow at {location.shown} refuses what it was sent ({reason(error)})")
    if isinstance(error, OSError) and error.filename and not _of_store(Path(os.fsdecode(error.filename)), location):
        return MachineError(f"{os.fsdecode(error.filename)}: {error.strerror}")
    if _from_outside(error):
        return UnavailableError(f"MLflow at {location.shown} is not available ({reason(error)})")
    return error


def _refused(error: Exception) -> bool:
    return getattr(error, "error_code", None) in ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")


def _of_store(path: Path, location: Location) -> bool:
    own = [location.state, *([location.database.parent] if location.database else [])]
    return any(path.is_relative_to(folder) for folder in own)


def _from_outside(error: Exception) -> bool:
    """Whether the system, a network, a database or MLflow raised it: anything else began in our own lines."""
    if any(isinstance(one, OSError | sqlite3.Error) or _package(type(one).__module__) for one in _chain(error)):
        return True
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    raised_in = str(trace.tb_frame.f_globals.get("__name__", "")) if trace else ""
    # An answer that MLflow's client cannot read may end in any exception.
    return _package(raised_in)


def _package(module: str) -> bool:
    foreign = ("mlflow", "sqlalchemy", "alembic", "urllib3", "requests", "google", "databricks", "filelock", "json")
    return module.partition(".")[0] in foreign


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def reason(error: BaseException) -> str:
    """Why a store failed, in one line without passwords: what the system, network or database said at the bottom of
    MLflow's exceptions, else MLflow's own words."""
    from urllib3.exceptions import HTTPError

    found = error
    for cause in _chain(error):
        if isinstance(cause, OSError | sqlite3.Error | HTTPError):
            found = cause
    text = masked(_words(str(found))).strip(" :\n") or type(found).__name__
    if isinstance(found, KeyError | AttributeError | TypeError):
        text = f"MLflow's client cannot read the answer, {type(found).__name__}: {text}"
    line = text.split("\n(Background on this error")[0].split("\n[SQL:")[0]
    line = shown(" ".join(line.split()))
    return line if len(line) <= 200 else f"{line[:199]}…"
