"""How fast the prediction service answers: python benchmarks/serve.py [FOLDER of exports]

The load generator is another process. Closed loop: so many clients, each of which asks again as soon as it has its
answer. Open loop: so many requests a second at their moments, however long answers take; the time counts from then.
Each number stands beside that of the same server without its network, measured in turn. Peers are measured where --peer
NAME=PYTHON names a Python that has them: fastapi, mlflow, litserve, bentoml (serve_peers.py).
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

CLIENTS, RATE = 32, 500
FIRST_SECONDS = 1.0
"""Not counted."""
PEERS = {
    "fastapi": ("/predict", "/health", False),
    "litserve": ("/predict", "/health", False),
    "bentoml": ("/predict", "/readyz", True),
    "mlflow": ("/invocations", "/ping", True),
}
"""What serve_peers.py starts: the path, that of the probe, and whether one input is sent as a list of one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("models/export"))
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=0, help="instead: memory over so many requests")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--without-network", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.without_network:
        serve_without_network(str(chosen.folder))
    elif chosen.load:
        print(json.dumps(asyncio.run(load(json.loads(chosen.load)))))
    elif chosen.requests:
        memory(chosen.folder, chosen.requests)
    else:
        compare(chosen.folder, chosen.seconds, chosen.rounds, dict(one.split("=", 1) for one in chosen.peer))


# The load generator: its own process.


class Client(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, request: bytes, answered: Any) -> None:
        self.request, self.answered = request, answered
        self.content = b""
        self.began = 0.0
        self.waiting = self.lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, began: float) -> None:
        self.began, self.waiting = began, True
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.content += data
        end = self.content.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.content[:end].lower()
        size = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(self.content) >= end + 4 + size:
            status, self.content, self.waiting = int(head[9:12]), b"", False
            self.answered(self, status)

    def connection_lost(self, fault: Exception | None) -> None:
        self.lost = True
        if self.waiting:  # else the service has ended a connection that was idle for some seconds
            self.answered(self, 0)


async def load(asked: dict[str, Any]) -> dict[str, Any]:
    """The load that is asked for; how many a second were answered, the times in milliseconds, the statuses."""
    body = Path(asked["body"]).read_bytes()
    head = f"POST {asked['path']} HTTP/1.1\r\nHost: 127.0.0.1:{asked['port']}\r\nContent-Type: {asked['kind']}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    loop = asyncio.get_running_loop()
    times: list[float] = []
    statuses: Counter[int] = Counter()
    start = time.perf_counter() + 0.1
    counted, end = start + FIRST_SECONDS, start + FIRST_SECONDS + asked["seconds"]
    idle: list[Client] = []
    late: list[float] = []
    closed = asked.get("rate") is None

    def answered(client: Client, status: int) -> None:
        now = time.perf_counter()
        if client.began >= counted and client.began < end:
            times.append(now - client.began)
            statuses[status] += 1
        if closed:
            if now < end:
                client.ask(now)
        elif late:
            client.ask(late.pop(0))
        else:
            idle.append(client)

    clients = [
        (await loop.create_connection(lambda: Client(request, answered), "127.0.0.1", asked["port"]))[1]
        for _ in range(asked["clients"])
    ]
    if closed:
        for client in clients:
            client.ask(time.perf_counter())
        await asyncio.sleep(end - time.perf_counter() + 0.5)
    else:
        idle += clients
        count = 0
        while (moment := start + count / asked["rate"]) < end:
            wait = moment - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            while idle and idle[-1].lost:
                idle.pop()
            if idle:
                idle.pop().ask(moment)
            else:
                late.append(moment)
            count += 1
        await asyncio.sleep(1)
    found = np.array(times or [0.0]) * 1000
    return {
        "rate": len(times) / asked["seconds"],
        **{f"p{share}": round(float(np.percentile(found, share)), 2) for share in (50, 99)},
        "statuses": dict(statuses),
    }


# The servers.


@contextmanager
def started(
    command: list[str], port: int, ready: str = "/health", **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server, when it answers; ended at the end."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **environment}, start_new_session=True
        )
        try:
            began = time.monotonic()
            while not answers(port, ready):
                if process.poll() is not None or time.monotonic() - began > 90:
                    log.seek(0)
                    raise SystemExit(f"{' '.join(command)}:\n{log.read().decode(errors='replace')[-3000:]}")
                time.sleep(0.05)
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def answers(port: int, path: str) -> bool:
    import http.client

    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False


def serve_without_network(folder: str) -> None:
    """The same server, whose network is one that costs nothing."""
    from keras_pipeline.serving import batching, serve
    from keras_pipeline.serving.network import Network

    async def outputs(self: Any, network: Network, raw: bytes) -> Any:
        return np.full((len(raw) // network.size, network.manifest["outputs"]), 0.1, np.float32)

    batching.Batching.outputs = outputs  # type: ignore[method-assign]
    serve.serve(folder, "127.0.0.1", int(os.environ["PORT"]), [], None, docs=False)


def ask(port: int, path: str, kind: str, body: Path, seconds: float, **more: Any) -> dict[str, Any]:
    """What the load generator measured."""
    asked = {
        "port": port,
        "path": path,
        "kind": kind,
        "body": str(body),
        "seconds": seconds,
        "clients": CLIENTS,
        **more,
    }
    done = subprocess.run(
        [sys.executable, __file__, "--load", json.dumps(asked)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def own_server(folder: Path, port: int) -> list[str]:
    return [str(Path(sys.executable).parent / "keras-pipeline"), "serve", str(folder), "--port", str(port)]


def write_bodies(folder: Path, place: Path) -> dict[str, tuple[str, Path]]:
    """One input of the network, raw and as JSON."""
    given = json.loads((folder / "export.json").read_text())["input"]
    random = np.random.default_rng(0)
    if given["kind"] == "images":
        one = random.integers(0, 256, (given["height"], given["width"]), np.uint8)
    else:
        one = random.normal(size=len(given["features"])).astype("<f4")
    (place / "raw").write_bytes(one.tobytes())
    (place / "json").write_text(json.dumps({"inputs": one.tolist()}))
    return {"raw": ("application/octet-stream", place / "raw"), "JSON": ("application/json", place / "json")}


def compare(folder: Path, seconds: float, rounds: int, peers: dict[str, str]) -> None:
    """Every load on every server, in turn; the medians."""
    port = 18_500
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        bodies = write_bodies(folder, Path(temporary))
        many = Path(temporary, "many")
        many.write_text(json.dumps({"inputs": [json.loads(bodies["JSON"][1].read_text())["inputs"]]}))
        servers = {
            "keras-pipeline": own_server(folder, port),
            "without a network": [sys.executable, __file__, str(folder), "--without-network"],
        }
        for _ in range(rounds):
            for name, command in servers.items():
                with started(command, port, PORT=str(port)):
                    for kind, (content, body) in bodies.items():
                        measure(found, name, kind, port, "/predict", content, body, seconds)
            for name, python in peers.items():
                path, ready, listed = PEERS[name]
                command = [python, str(Path(__file__).with_name("serve_peers.py")), name, str(folder), str(port)]
                with started(command, port, ready, PLACE=temporary):
                    body = many if listed else bodies["JSON"][1]
                    measure(found, name, "JSON", port, path, "application/json", body, seconds)
    print("| server | load | requests/s | p50 ms | p99 ms | other answers than 200 |\n|---|---|---|---|---|---|")
    for (name, load_name), ones in found.items():
        rate, p50, p99 = (float(np.median([one[key] for one in ones])) for key in ("rate", "p50", "p99"))
        others = sum(count for one in ones for status, count in one["statuses"].items() if status != "200")
        print(f"| {name} | {load_name} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {others} |")


def measure(
    found: dict[tuple[str, str], list[dict[str, Any]]],
    name: str,
    kind: str,
    port: int,
    path: str,
    content: str,
    body: Path,
    seconds: float,
) -> None:
    """Both loads on a server that answers."""
    for load_name, more in (("closed", {}), ("open", {"rate": RATE})):
        found.setdefault((name, f"{kind}, {load_name}"), []).append(ask(port, path, content, body, seconds, **more))


def memory(folder: Path, requests: int) -> None:
    """How much more memory the service has after so many requests."""
    port = 18_500

    def resident(process: int) -> float:
        return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[0]) / 1024

    with tempfile.TemporaryDirectory() as temporary, started(own_server(folder, port), port) as process:
        kind, body = write_bodies(folder, Path(temporary))["raw"]
        ask(port, "/predict", kind, body, 2)
        before, count = resident(process.pid), 0
        while count < requests:
            one = ask(port, "/predict", kind, body, 5)
            count += int(one["rate"] * 5)
        print(f"{count:,} requests: {before:.1f} MB before, {resident(process.pid):.1f} MB after")


if __name__ == "__main__":
    main()
