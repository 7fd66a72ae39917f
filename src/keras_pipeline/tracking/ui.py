"""MLflow's page, opened where a person wants to be: the table of training runs, best first."""

import os
import socket
import subprocess
import time
import webbrowser

import requests

from keras_pipeline.core import process
from keras_pipeline.core.errors import MachineError
from keras_pipeline.tracking import store
from keras_pipeline.tracking.stores import address, connection
from keras_pipeline.tracking.stores.address import Location

START_SECONDS = 120


def serve_ui(experiment: str, port: int, *, browser: bool) -> None:
    """Serve the page on this machine only until Ctrl-C, and print its address (and open a browser).

    With MLFLOW_TRACKING_URI at a server, only print that server's address. Raises MachineError when the
    store is not available or the page does not come up.
    """
    location = address.store_location(address.project_root())
    with connection.required_store(location):
        connected = store.connect_store(location, experiment)
        if location.artifacts:
            store.prepare_table(connected)
    path = store.table_path(connected.experiment)
    if location.artifacts is None:
        print(f"{location.shown.rstrip('/')}{path}")
        return
    number = _free_port(port)
    page = f"http://127.0.0.1:{number}"
    server = subprocess.Popen(_command(number), env={**os.environ, **_environment(location)})
    try:
        _wait(server, page)
        print(f"\nMLflow is at {page}{path}\nCtrl-C ends it.", flush=True)
        if browser:
            webbrowser.open(f"{page}{path}")
        server.wait()
    finally:
        server.terminate()
        server.wait()


def _environment(location: Location) -> dict[str, str]:
    """What every user of the machine could read in the server's command line: a store's address has its password."""
    return {
        "MLFLOW_BACKEND_STORE_URI": location.uri,
        "MLFLOW_REGISTRY_STORE_URI": location.uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": address.file_address(location.artifacts) if location.artifacts else "",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _command(port: int) -> list[str]:
    """One worker, this machine only, hosts and origins named: MLflow's page has no password."""
    names = [f"127.0.0.1:{port}", f"localhost:{port}"]
    return process.python(
        *("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--allowed-hosts", ",".join(names)),
        *("--cors-allowed-origins", ",".join(f"http://{name}" for name in names)),
    )


def _free_port(wanted: int) -> int:
    """`wanted` (0: any) if no other program has it: else its page would be taken for MLflow's."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except (OSError, OverflowError) as error:
            raise MachineError(f"--port {wanted}: {error}. Choose another one; without --port any free one.") from None
        return int(probe.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", page: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise MachineError(
                f"MLflow's server ended at once with exit code {server.returncode}; see its lines above."
            )
        try:
            if requests.get(f"{page}/health", timeout=2).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.3)
    raise MachineError(f"MLflow's server did not answer at {page} within {START_SECONDS} s.")
