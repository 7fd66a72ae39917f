"""The answers of a real service, path by path: what is refused, what is told, and what happens under load."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings, strategies

from exported import image_input
from served import JSON, RAW, Served, ended, serving
from served_network import CLASSES, HEAVY, TABLE, write_network

pytestmark = pytest.mark.slow
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 28, 28), np.uint8)
TOKEN = "a-token-of-the-tests"
SMALL = {**CLASSES, "input": image_input(2, 3)}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(write_network(tmp_path_factory.mktemp("network"), hidden=HEAVY), "--docs") as served:
        yield served


@pytest.mark.parametrize("described", [SMALL, TABLE], ids=["pixels", "table"])
def test_whatever_the_description_allows_the_service_does_not_fail(tmp_path: Path, described: dict[str, Any]) -> None:
    """Schemathesis makes up requests from it; no status comes that it does not name."""
    with serving(write_network(tmp_path, described), "--docs") as small:
        try_what_is_described(small)


def try_what_is_described(service: Served) -> None:
    schema = schemathesis.openapi.from_dict(service.ask("/openapi.json").content)
    operations = [one.ok() for one in schema.get_all_operations()]
    assert len(operations) > 15

    @given(data=strategies.data())
    @settings(
        max_examples=10 * len(operations), deadline=None, derandomize=True, database=None,
        suppress_health_check=[*HealthCheck],
    )  # fmt: skip
    def ask(data: Any) -> None:
        operation = data.draw(strategies.sampled_from(operations))
        case = data.draw(operation.as_strategy())
        reply = case.call(base_url=f"http://127.0.0.1:{service.port}")
        seen[reply.status_code] += 1
        assert reply.status_code < 500
        assert str(reply.status_code) in operation.definition.raw["responses"]

    seen: Counter[int] = Counter()
    ask()
    assert {200, 422} <= set(seen)


def test_the_description_is_whole(service: Served) -> None:
    paths = service.ask("/openapi.json").content["paths"]
    assert {"/predict", "/model", "/health", "/v2/models/{name}/infer", "/metrics", "/drawn"} <= paths.keys()
    page = service.ask("/docs")
    assert all(path in page.body.decode() for path in paths)
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/page.css%00.html", "/page.css/",
        "/.", "/..",
        "/..%5c..%5cwindows",
        "/\\..\\x", "/%2e", "/predict/", "//predict", "/Predict", "/predict%20", "/%70redict",
        "/v2/models", "/v2/models/", "/v2/models/mnist-mlp/", "/v2/models/..%2f..%2fetc", "/v2/models/{name}/x",
        "/v2/models/mnist-mlp/versions", "/static/page.css", "/index.html", "/export.json", "/model.onnx",
        "/v2/models/mnist-mlp/versions/aaaaaaaaaaaa/infer/x", "/page.css?x=1#y/../..",
    ],
)  # fmt: skip
def test_a_path_is_one_of_the_list_or_nothing(service: Served, path: str) -> None:
    expected = 200 if path.startswith("/page.css?") else 404
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nConnection: close\r\n\r\n"
    assert int(service.send(head.encode())[9:12]) == expected


def test_the_page_is_given_whole_with_its_policy(service: Served) -> None:
    whole = service.ask("/")
    assert whole.headers["content-type"] == "text/html; charset=utf-8"
    policy = whole.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert {"frame-ancestors 'none'", "script-src 'self'", "default-src 'none'"} <= set(policy.split("; "))
    for ranges in ("bytes=0-1", ",".join(f"bytes={n}-{n + 1}" for n in range(500))):
        part = service.ask("/", Range=ranges)
        assert (part.status, part.body) == (200, whole.body)
        assert "accept-ranges" not in part.headers
    assert service.ask("/", method="HEAD").headers["content-length"] == str(len(whole.body))


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None]
)
def test_what_any_page_may_send_without_asking_is_refused(service: Served, kind: str | None) -> None:
    assert service.ask("/predict", PIXELS[0].tobytes(), kind).status == 415
    path, own = "/v2/models/mnist-mlp/infer", f"http://127.0.0.1:{service.port}"
    assert service.ask(path, b"{}", kind, Origin=own).status == 415
    # Triton's own client, which is no browser, does not say what it sends.
    assert service.ask(path, b"{}", kind).status == (422 if kind is None else 415)


def test_hosts_and_origins_of_others_are_refused(service: Served) -> None:
    own = f"127.0.0.1:{service.port}"
    for path in ("/", "/health", "/model", "/metrics", "/v2"):
        assert service.ask(path, Host=own).status == 200
        assert service.ask(path, Host="evil.example").status == 421
    for origin, code in ((f"http://{own}", 200), ("http://evil.example", 403), ("null", 403)):
        reply = service.predict(PIXELS[0].tobytes(), Origin=origin)
        assert reply.status == code
        assert "access-control-allow-origin" not in reply.headers
    asked_before = service.ask("/predict", method="OPTIONS", Origin="http://evil.example")
    assert (asked_before.status, asked_before.headers["allow"]) == (405, "POST")


def test_nothing_told_is_a_path_or_a_secret(service: Served) -> None:
    for path in ("/health", "/ready", "/metrics", "/model", "/v2", "/v2/models/mnist-mlp", "/docs", "/openapi.json"):
        reply = service.ask(path)
        assert reply.status == 200
        assert not any(word in reply.body for word in (b"/tmp", b"/home", b"/root", b"site-packages", b'.onnx"'))
        assert "server" not in reply.headers


def test_the_log_is_one_line_a_refusal_whatever_is_asked(service: Served) -> None:
    time.sleep(1.1)  # so many lines a second, and no more
    before = len(service.told().splitlines())
    service.ask("/a%0aINFO%0d%1b[31mred", User_Agent="INFO forged")
    assert service.ask("/nothing", User_Agent="\x1b[31m").status == 400
    (line,) = [one for one in service.told().splitlines()[before:] if not one.endswith(" more refused")]
    assert line == 'serve: 404 to "GET /a%0aINFO%0d%1b[31mred": Nothing is there. Expected: a path of this service.'
    for _ in range(200):
        service.ask("/nothing")
    assert len(service.told().splitlines()) < before + 60


@pytest.mark.parametrize(("count", "code"), [(0, 422), (1024, 200), (1025, 413), (1337, 413)])
def test_a_batch_has_a_size(service: Served, count: int, code: int) -> None:
    reply = service.predict(bytes(784 * count))
    assert reply.status == code
    assert code != 200 or len(reply.content["predictions"]) == count


def test_answers_at_once_are_those_of_one_after_the_other(service: Served) -> None:
    """The same bits where the batch has the same size, else a millionth; the same label always."""
    serial = [service.predict(one.tobytes()).content["predictions"][0] for one in PIXELS]
    again = [service.predict(one.tobytes()).content["predictions"][0] for one in PIXELS]
    assert serial == again
    found: dict[int, list[Any]] = {}

    def ask(number: int) -> None:
        own = range(number, len(PIXELS), 16)
        found[number] = [
            (i, service.predict(PIXELS[i].tobytes()).content["predictions"][0]) for i in own for _ in range(5)
        ]

    in_threads(16, ask)
    for answers in found.values():
        for index, answer in answers:
            assert answer["label"] == serial[index]["label"]
            assert np.allclose(answer["probabilities"], serial[index]["probabilities"], rtol=0, atol=1e-6)


def in_threads(count: int, action: Any) -> None:
    threads = [threading.Thread(target=action, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_more_clients_than_it_serves_are_told_to_come_again(service: Served) -> None:
    """Each of 200 asks for a thousand inputs: the queue is bounded in bytes, and memory with it."""
    statuses: Counter[int] = Counter()
    before = service.resident()
    body = PIXELS.tobytes() * 16

    def ask(number: int) -> None:
        reply = service.predict(body)
        statuses[reply.status] += 1
        if reply.status == 503:
            assert reply.headers["retry-after"] == "1"

    in_threads(200, ask)
    assert statuses[200] > 0
    assert set(statuses) <= {200, 503}
    assert sum(statuses.values()) == 200
    assert service.resident() - before < 150
    assert service.predict(PIXELS[0].tobytes()).status == 200


def test_a_table_has_values(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(write_network(tmp_path_factory.mktemp("table"), TABLE)) as served:
        rows = np.array([[1, 2, 3], [4, 5, 6]], "<f4")
        answer = served.predict(rows.tobytes()).content
        assert served.predict(json.dumps({"inputs": rows.tolist()}).encode(), JSON).content == answer
        assert [set(one) for one in answer["predictions"]] == [{"value"}] * 2
        named = {"inputs": [{"c": 3, "a": 1, "b": 2, "id": "x"}, {"a": 4, "b": 5, "c": 6}]}
        assert served.predict(json.dumps(named).encode(), JSON).content == answer
        refused = served.predict(json.dumps({"inputs": {"A": 1, "b": 2, "c": 3}}).encode(), JSON)
        assert (refused.status, refused.content["error"][:36]) == (422, "inputs: the column 'a' is missing. E")
        assert served.predict(np.array([1, np.nan, 3], "<f4").tobytes()).status == 422
        huge = served.predict(np.full(3, 3.4e38, "<f4").tobytes())
        assert huge.status in (200, 422)
        assert b"Infinity" not in huge.body
        assert served.predict(b"", "image/png").status == 415
        assert served.ask("/docs").status == 404
        assert served.ask("/openapi.json").status == 404


def test_a_token_is_asked_for_where_others_reach_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    network = write_network(tmp_path_factory.mktemp("network"))
    with serving(network, "--host", "0.0.0.0", KERAS_PIPELINE_SERVE_TOKEN=TOKEN) as served:
        for path in ("/health", "/ready", "/", "/v2/health/live"):
            assert served.ask(path).status == 200
        for path in ("/model", "/metrics", "/v2", "/v2/models/mnist-mlp"):
            assert served.ask(path).status == 401
            assert served.ask(path, Authorization=f"Bearer {TOKEN}").status == 200
        assert served.predict(PIXELS[0].tobytes()).status == 401
        assert served.predict(PIXELS[0].tobytes(), Authorization=f"Bearer {TOKEN}").status == 200
        assert TOKEN not in served.told()
        assert "unencrypted" in served.told()


def test_a_signal_to_end_loses_nothing_that_was_accepted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """32 clients ask as fast as they can on lasting connections; each goes on until it is refused a connection."""
    network = write_network(tmp_path_factory.mktemp("network"), hidden=HEAVY)
    with serving(network) as served:
        found: Counter[int] = Counter()
        begun = threading.Event()

        def ask(number: int) -> None:
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
                try:
                    connection.connect()
                except OSError:
                    return
                while connection.sock:  # until the service closes it
                    try:
                        connection.request("POST", "/predict", PIXELS[0].tobytes(), {"Content-Type": RAW})
                        answer = connection.getresponse()
                        answer.read()
                        found[answer.status] += 1
                    except OSError:
                        found[0] += 1
                        return
                    begun.set()

        clients = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
        for client in clients:
            client.start()
        assert begun.wait(10)
        threading.Event().wait(0.5)
        with served.connect() as half:  # is waited for, and not for ever
            half.sendall(f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n".encode())
            half.sendall(f"Content-Type: {RAW}\r\nContent-Length: 784\r\n\r\n".encode() + bytes(10))
            code, seconds = ended(served)
        for client in clients:
            client.join(20)
    assert (code, seconds < 5) == (0, True)
    assert found.pop(200) > 100
    assert found == {}
