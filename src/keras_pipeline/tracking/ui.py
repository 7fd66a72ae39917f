"""MLflow's page, opened where a person wants to be: the table of training runs, best first."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections import deque
from contextlib import suppress
from typing import Self

import requests

from keras_pipeline.core import process
from keras_pipeline.core.errors import MachineError
from keras_pipeline.tracking import store
from keras_pipeline.tracking.stores import address, connection
from keras_pipeline.tracking.stores.address import Location

NEWS_SECONDS = (10, 30, 60)
"""After so long a wait, and then every so many seconds as the last says, a line tells what is waited for."""
PORTS = range(20_000, 32_768)
"""Below those that systems give out themselves."""
LAST_WORDS = 12
"""So many lines of a server that ended are told."""


def serve_ui(experiment: str, port: int, *, browser: bool) -> None:
    """Serve the page on this machine only until Ctrl-C, print its address, and open a browser where there is one.

    Waits for the server as long as its process lives. With MLFLOW_TRACKING_URI at a server, only print that server's
    address. Raises MachineError when the store is not available or the server ends by itself.
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
    number = _free_port(port) if port else _usual_port(location)
    page = f"http://127.0.0.1:{number}"
    with _Server(_command(number), {**os.environ, **_environment(location)}) as server:
        server.wait_for(page)
        print(f"\nMLflow is at {page}{path}\nCtrl-C ends it.", flush=True)
        if browser and _has_browser():
            webbrowser.open(f"{page}{path}")
        server.process.wait()
        raise server.ended()


class _Server:
    """A process that serves a page, ended with the `with` block. Its lines go on to standard error."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.last: deque[str] = deque(maxlen=LAST_WORDS)
        self.process = subprocess.Popen(
            command, env=environment | process.UTF8_OUTPUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
        self._reader = threading.Thread(target=self._pass_on, daemon=True, name="the lines of MLflow's server")
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        self.process.wait()
        self._reader.join(2)  # no longer: a child that it left may hold the other end

    def wait_for(self, page: str) -> None:
        """Return when the server answers; raises MachineError when its process ends before. Says what it waits for."""
        print(f"MLflow's server is starting, process {self.process.pid}; the first time it takes longer.", flush=True)
        began, told = time.monotonic(), 0.0
        while self.process.poll() is None:
            with suppress(requests.RequestException):
                if requests.get(f"{page}/health", timeout=2).ok:
                    return
            waited = time.monotonic() - began
            if waited >= next((one for one in NEWS_SECONDS if one > told), told + NEWS_SECONDS[-1]):
                told = waited
                print(f"Waiting for MLflow's server at {page} for {waited:.0f} s; Ctrl-C ends it.", flush=True)
            time.sleep(0.3)
        raise self.ended()

    def ended(self) -> MachineError:
        """What is told of a server that ended by itself."""
        self._reader.join(2)
        code = self.process.returncode
        how = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code}"
        words = "".join(f"\n  {line}" for line in self.last)
        return MachineError(f"MLflow's server ended {how}. {'Its last lines:' if words else 'It said nothing.'}{words}")

    def _pass_on(self) -> None:
        if self.process.stdout:
            with self.process.stdout as lines:
                for line in lines:
                    self.last.append(line.rstrip())
                    print(line, end="", file=sys.stderr, flush=True)


def _has_browser() -> bool:
    """Whether a person sits here who would see a window."""
    shown = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return shown and sys.stdout.isatty()


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


def _usual_port(location: Location) -> int:
    """The same one of a checkout each time, if it is free: what was closed in the page, its assistant or hints, the
    browser remembers by the address. MLflow has no option for that."""
    digits = hashlib.sha256(str(location.state).encode()).hexdigest()
    with suppress(MachineError):
        return _free_port(PORTS[int(digits, 16) % len(PORTS)])
    return _free_port(0)


def _free_port(wanted: int) -> int:
    """`wanted` (0: any) if no other program has it: else its page would be taken for MLflow's."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except (OSError, OverflowError) as error:
            raise MachineError(f"--port {wanted}: {error}. Choose another one; without --port any free one.") from None
        return int(probe.getsockname()[1])
