"""`keras-pipeline serve` as a process of its own on a port of this machine, and requests to it, also such as no library
sends."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from places import PROGRAM

RAW, JSON = "application/octet-stream", "application/json"


@dataclass
class Reply:
    """An answer; `content`: of JSON its value."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A service that answers."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def ask(
        self, path: str, body: bytes | None = None, kind: str | None = None, method: str = "", **headers: str
    ) -> Reply:
        """One request on a connection of its own; `headers` with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        fields |= {} if kind is None else {"Content-Type": kind}
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, fields)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def predict(self, body: bytes, kind: str = RAW, **headers: str) -> Reply:
        return self.ask("/predict", body, kind, **headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def send(self, content: bytes, *, seconds: float = 5) -> bytes:
        """All that comes back for these bytes until the other side closes, or for so long."""
        with self.connect() as connection:
            connection.settimeout(seconds)
            with suppress(OSError):
                connection.sendall(content)
            return received(connection)

    def resident(self) -> float:
        """Its memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def told(self) -> str:
        return self.log.read_text()


def received(connection: socket.socket) -> bytes:
    """What comes until the other side closes, or nothing more does for the connection's time."""
    parts = []
    with suppress(OSError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def status(answer: bytes) -> int:
    """Of an answer as bytes; 0 where there is none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


@contextmanager
def serving(*words: str | Path, folder: Path | None = None, **environment: str) -> Iterator[Served]:
    """The service with these words of its command line, when it answers; killed at the end if it still runs."""
    with tempfile.TemporaryDirectory() as temporary:
        log = Path(temporary, "log")
        with log.open("wb") as file:
            process = subprocess.Popen(
                [PROGRAM, "serve", *words, "--port", "0"], stdout=file, stderr=file, cwd=folder or temporary,
                env={**os.environ, **environment},
            )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while not (found := re.search(r"It answers at http://\S+:(\d+)", log.read_text())):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            yield Served(process, int(found[1]), log)
        finally:
            process.kill()
            process.wait()


def refused(*words: str | Path, folder: Path | None = None, port: str = "0", **environment: str) -> tuple[int, str]:
    """The exit code and the messages of a service that does not start."""
    done = subprocess.run(
        [PROGRAM, "serve", *words, "--port", port], capture_output=True, text=True, timeout=60, cwd=folder,
        env={**os.environ, **environment},
    )  # fmt: skip
    return done.returncode, done.stderr


def ended(served: Served, number: int = signal.SIGTERM) -> tuple[int, float]:
    """The exit code after a signal, and the seconds that it took."""
    began = time.monotonic()
    served.process.send_signal(number)
    return served.process.wait(20), time.monotonic() - began
