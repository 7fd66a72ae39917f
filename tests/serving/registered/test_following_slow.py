"""A model of MLflow's registry, followed by a running service: no request is lost, what is broken changes nothing."""

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tracking_fixtures
from keras_pipeline.core import files
from keras_pipeline.serving.registered.champion import Watched
from keras_pipeline.tracking import store
from registered_exports import Registry
from served import Served, serving

pytestmark = [pytest.mark.slow, tracking_fixtures.MLFLOW_WARNINGS]
PIXELS = bytes(range(256)) * 3 + bytes(16)
CHANGES = 5


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    environment = dict(os.environ)
    made = tracking_fixtures.checkout(tmp_path_factory.mktemp("registry"))
    opened = store.connect_store(made.where, tracking_fixtures.EXPERIMENT)
    opened.client.create_registered_model("digits")
    yield Registry(made.root, opened.client, opened.experiment)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="module")
def service(registry: Registry) -> Iterator[Served]:
    registry.register()
    with serving(
        "models:/digits@champion", folder=registry.root, XDG_CACHE_HOME=str(registry.root / "cache")
    ) as served:
        yield served


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def version(service: Served) -> str:
    return str(service.predict(PIXELS).content["model"]["version"])


def test_the_champion_changes_under_load_and_no_request_is_lost(registry: Registry, service: Served) -> None:
    """Each answer is of one network, and says of which."""
    versions = [version(service), registry.register(None)]
    stop, found = threading.Event(), Counter[tuple[int, str, str]]()

    def ask() -> None:
        own: Counter[tuple[int, str, str]] = Counter()
        while not stop.is_set():
            reply = service.predict(PIXELS)
            answer = reply.content
            own[reply.status, answer["model"]["version"], str(answer["predictions"][0]["probabilities"][0])[:6]] += 1
        with lock:
            found.update(own)

    lock = threading.Lock()
    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    for change in range(CHANGES):
        wanted = versions[(change + 1) % 2]
        registry.point("champion", wanted)
        until(lambda wanted=wanted: version(service) == wanted)  # type: ignore[misc]
    stop.set()
    for client in clients:
        client.join()
    assert {status for status, _, _ in found} == {200}
    assert {number for _, number, _ in found} == set(versions)
    assert len({probability for _, _, probability in found}) == len(found) == 2
    assert sum(found.values()) > 100


def test_the_candidate_answers_beside_the_champion(registry: Registry, service: Served) -> None:
    assert service.ask("/predict?model=candidate", PIXELS, "application/octet-stream").status == 404
    number = registry.register("candidate")
    until(lambda: service.ask("/model").content["candidate"] is not None)
    reply = service.ask("/predict?model=candidate", PIXELS, "application/octet-stream")
    assert reply.content["model"] == {"name": "digits", "version": number, "run": f"{registry.count:032x}"}
    assert version(service) != number
    assert service.ask(f"/v2/models/digits/versions/{number}/ready").status == 200
    registry.client.delete_registered_model_alias("digits", "candidate")
    until(lambda: service.ask("/model").content["candidate"] is None)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"no network"), "Expected: "),
        (lambda folder: (folder / "model.onnx").unlink(), "has no artifact export/model.onnx"),
        (lambda folder: shutil.rmtree(folder) or folder.mkdir(), "has no artifact export/export.json"),
        (None, "names no version|has no champion"),
    ],
    ids=["other bytes", "no network", "no export", "no alias"],
)  # fmt: skip
def test_what_is_broken_changes_nothing_and_is_said(
    registry: Registry, service: Served, harm: Callable[[Path], None] | None, said: str
) -> None:
    before = version(service)
    if harm is None:
        registry.client.delete_registered_model_alias("digits", "champion")
    else:
        registry.register(harm=harm)
    until(lambda: service.ask("/model").content["problem"] is not None)
    assert version(service) == before
    assert any(one in service.ask("/model").content["problem"] for one in said.split("|"))
    assert "keras_pipeline_serve_model_problem 1.0" in service.ask("/metrics").body.decode()
    assert f"version {before} answers on" in service.told()
    assert service.ask("/ready").status == 200
    good = registry.register()
    until(lambda: version(service) == good)
    assert service.ask("/model").content["problem"] is None


def test_a_version_is_fetched_once_and_anew_where_its_copy_was_damaged(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the process beside the service, done here within this one."""
    monkeypatch.chdir(registry.root)
    number, cache = registry.register(), tmp_path / "cache"
    watched = Watched("models:/digits@champion", cache)
    [line] = watched.look()
    network = Path(line["folder"], "model.onnx")
    assert {**line, "folder": ""} == {"role": "champion", "name": "digits", "version": number, "folder": ""}
    assert network.is_relative_to(cache)
    assert list(watched.look()) == []
    digest = files.file_sha256(network)
    fetched = network.stat().st_ino
    assert list(Watched("models:/digits@champion", cache).look()) == [line]
    assert network.stat().st_ino == fetched
    network.write_bytes(b"harmed")
    assert list(Watched(f"models:/digits/{number}", cache).look()) == [line]
    assert files.file_sha256(network) == digest
    for address, said in (
        ("models:/digit@champion", "Did you mean 'digits'?"), ("models:/digits/999", "has no version 999"),
    ):  # fmt: skip
        [problem] = Watched(address, cache).look()
        assert (problem["code"], said in problem["problem"]) == (2, True), problem
    registry.client.set_model_version_tag("digits", number, "sha256.model", "0" * 64)
    [problem] = Watched("models:/digits@champion", cache).look()
    assert (problem["code"], "Expected: 000000000000…, which was registered" in problem["problem"]) == (7, True)
