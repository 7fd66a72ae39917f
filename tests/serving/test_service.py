"""The application within this process: what it says when something in it is wrong."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keras_pipeline.serving import service as services
from keras_pipeline.serving.http.guard import make_guard
from keras_pipeline.serving.network import Models, load_network
from keras_pipeline.serving.service import Service
from served_network import write_network

HOST = (b"host", b"127.0.0.1:8000")


def ask(models: Models, *paths: str, body: bytes = bytes(784)) -> list[tuple[int, Any]]:
    """Status and content of each answer of one service, one after the other."""

    async def one(service: Service, path: str) -> tuple[int, Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [HOST, (b"content-type", b"application/octet-stream")]
        scope = {
            "type": "http", "method": "POST" if path == "/predict" else "GET", "raw_path": path.encode(),
            "headers": headers, "query_string": b"",
        }  # fmt: skip
        await service(scope, receive, send)
        return sent[0]["status"], sent[1]["body"].decode()

    async def every() -> list[tuple[int, Any]]:
        made = Service(models, make_guard("127.0.0.1", 8000, [], None), {}, None, "1.0")
        try:
            return [await one(made, path) for path in paths]
        finally:
            made.batching.close()

    return asyncio.run(every())


class Broken:
    """A session that cannot run."""

    def run(self, *arguments: Any) -> Any:
        raise RuntimeError("secret inside")


def test_a_fault_inside_the_network_is_told_by_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(services, "keep_traceback", lambda fault: f"kept {fault}")
    models = Models(load_network(write_network(tmp_path)))
    object.__setattr__(models.champion, "session", Broken())
    first, second, health = ask(models, "/predict", "/predict", "/health")
    number = json.loads(first[1])["error"].split()[-1].rstrip(".")
    assert (first[0], second[0], health[0]) == (500, 500, 200)
    assert "secret" not in first[1]
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"serve: error {number}: RuntimeError; the traceback is in kept secret inside"
    assert len(told) == 2


def test_numbers_that_are_none_are_no_answer(tmp_path: Path) -> None:
    class Endless:
        def run(self, *arguments: Any) -> Any:
            import numpy as np

            return [np.full((1, 10), np.inf, np.float32)]

    models = Models(load_network(write_network(tmp_path)))
    object.__setattr__(models.champion, "session", Endless())
    [(status, content)] = ask(models, "/predict")
    assert (status, json.loads(content)["error"].split(".")[0]) == (
        422, "The network gives no finite number for input 0",
    )  # fmt: skip


def test_a_problem_with_the_registry_is_told(tmp_path: Path) -> None:
    models = Models(load_network(write_network(tmp_path)), problem="the alias is gone")
    model, numbers, ready = ask(models, "/model", "/metrics", "/ready")
    assert json.loads(model[1])["problem"] == "the alias is gone"
    assert "keras_pipeline_serve_model_problem 1.0" in numbers[1]
    assert ready[0] == 200


@pytest.mark.parametrize(
    ("shape", "kind", "classes", "kept"),
    [
        ((28, 28), "|u1", 10, True), ((96, 60), "|u1", 256, True), ((28, 28, 3), "|u1", 10, False),
        ((28, 28), "<u2", 10, False), ((28, 28), "|u1", 257, False),
    ],
)  # fmt: skip
def test_what_idx_files_cannot_hold_is_not_kept(shape: tuple[int, ...], kind: str, classes: int, kept: bool) -> None:
    manifest = {"class_names": list(map(str, range(classes)))}
    network: Any = SimpleNamespace(of_images=True, shape=shape, kind=np.dtype(kind), manifest=manifest)
    assert services._is_drawn_for(network) is kept
