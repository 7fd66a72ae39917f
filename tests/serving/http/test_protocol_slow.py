"""What a stranger's connection may do: bytes that no library sends, to the real service, while others are served."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random

import pytest

from served import RAW, Served, received, serving, status
from served_network import write_network

pytestmark = pytest.mark.slow
PIXELS = bytes(784)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(write_network(tmp_path_factory.mktemp("network"))) as served:
        served.predict(PIXELS)
        yield served


@pytest.fixture(autouse=True)
def _others_are_answered(service: Served) -> Iterator[None]:
    yield
    assert service.predict(PIXELS).status == 200


def head(service: Served, *lines: str, first: str = "POST /predict HTTP/1.1", kind: str = RAW) -> bytes:
    """The head of a request, without its end."""
    own = [first, f"Host: 127.0.0.1:{service.port}", f"Content-Type: {kind}", *lines]
    return "".join(f"{line}\r\n" for line in own).encode()


def asked(service: Served, content: bytes) -> tuple[int, float, float]:
    """The status, the seconds to the answer, and the MB by which the service's memory grew."""
    before, began = service.resident(), time.monotonic()
    with service.connect() as connection:
        sender = threading.Thread(target=lambda: _send(connection, content))
        sender.start()
        connection.settimeout(8)
        answer = connection.recv(65536)
        seconds = time.monotonic() - began
        answer += received(connection)
        sender.join()
    assert answer.count(b"HTTP/1.1 ") == 1
    return status(answer), seconds, service.resident() - before


def _send(connection: socket.socket, content: bytes) -> None:
    with suppress(OSError):
        connection.sendall(content)


@pytest.mark.parametrize(
    ("lines", "content"),
    [
        (["Content-Length: 100000000"], bytes(10**8)),
        (["Content-Length: 100000000"], b""),
        (["Content-Length: 99999999999999999999"], b""),
        (["Transfer-Encoding: chunked"], (b"10000\r\n" + bytes(0x10000) + b"\r\n") * 1600),
    ],
    ids=["told and sent", "told", "told beyond 64 bits", "endless"],
)
def test_a_large_body_is_refused_at_once(service: Served, lines: list[str], content: bytes) -> None:
    code, seconds, grown = asked(service, head(service, *lines) + b"\r\n" + content)
    assert code == (400 if "9999" in lines[0] else 413)
    assert seconds < 1
    assert grown < 3


def test_json_and_pictures_have_limits_too(service: Served) -> None:
    for kind, size in (("application/json", 2**20 + 1), ("image/png", 10 * 2**20 + 1)):
        assert asked(service, head(service, f"Content-Length: {size}", kind=kind) + b"\r\n")[0] == 413


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: -1"],
        ["Content-Length: 784", "Content-Length: 784"],
        ["Content-Length: 784", "Content-Length: 7"],
        ["Content-Length: 784", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 784"],
        ["Content-Length: 7 84"],
        ["Content-Length: +784"],
        ["Content-Length: 0x310"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Content-Length : 784"],
        ["Content-Length: 784\r\n continued: 1"],
    ],
)
def test_lengths_that_contradict_are_refused(service: Served, lines: list[str]) -> None:
    assert status(service.send(head(service, *lines) + b"\r\n" + PIXELS)) == 400


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET /health\r\n\r\n", 400),
        (b"GET /health HTTP/0.9\r\nHost: HOST\r\n\r\n", 400),
        (b"GET /health HTTP/3.0\r\nHost: HOST\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"FLY /health HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET http://HOST/health HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET /health\xff HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET /health\x00 HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: HOST\r\nA\x00: b\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: HOST\r\n" + b"A: " + b"b" * 10**6 + b"\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\nHost: HOST\r\n" + b"A: " + b"b" * 10**6, 431),
        (b"GET /health HTTP/1.1\r\nHost: HOST\r\n" + b"A: b\r\n" * 10_000 + b"\r\n", 431),
        (b"GET /health HTTP/1.1\r\nHost: HOST\r\n" + b"A: b\r\n" * 70 + b"\r\n", 431),
        (b"GET /" + b"a" * 10**6 + b" HTTP/1.1\r\nHost: HOST\r\n\r\n", 431),
        (b"GET /" + b"a" * 10**6, 431),
        (b"DELETE /predict HTTP/1.1\r\nHost: HOST\r\n\r\n", 405),
        (b"GET /predict HTTP/1.1\r\nHost: HOST\r\n\r\n", 405),
        (b"POST /health HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /health HTTP/1.1\r\nHost: HOST\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n", 200),
    ],
)
def test_a_head_that_is_none_or_too_long(service: Served, request_: bytes, code: int) -> None:
    answer = service.send(request_.replace(b"HOST", f"127.0.0.1:{service.port}".encode()), seconds=2)
    assert status(answer) == code
    assert answer.split(b"\r\n\r\n", 1)[1].startswith(b"{")


def test_a_thousand_slow_connections_are_closed_and_cost_others_little(service: Served) -> None:
    """Each sends nothing, or a part of a head or of a body; of the last one it is the second request. One more asks for
    much and reads nothing."""
    whole = head(service, "Content-Length: 784") + b"\r\n" + PIXELS
    parts = [
        b"",
        b"POST /predict HTTP/1.1\r\nHost: 127",
        head(service, "Content-Length: 784") + b"\r\n" + bytes(10),
        head(service, "Transfer-Encoding: chunked") + b"\r\n10\r\n",
    ]
    with ExitStack() as stack:
        connections = [stack.enter_context(service.connect()) for _ in range(1000)]
        connections[-1].sendall(whole)
        assert status(connections[-1].recv(65536)) == 200
        began = time.monotonic()
        idle = stack.enter_context(socket.socket())
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.connect(("127.0.0.1", service.port))
        many = (head(service, first="GET /page.css HTTP/1.1") + b"\r\n") * 2000
        threading.Thread(target=_send, args=(idle, many), daemon=True).start()
        for number, connection in enumerate(connections):
            connection.sendall(parts[number % len(parts)])
        times = []
        for _ in range(200):
            asked_at = time.monotonic()
            assert service.predict(PIXELS).status == 200
            times.append(time.monotonic() - asked_at)
        assert sorted(times)[-3] < 0.3
        for number, connection in enumerate(connections):
            connection.settimeout(max(0.1, began + 11 - time.monotonic()))
            answer = connection.recv(4096)
            assert status(answer) == 408, (number, answer)
            assert received(connection) == b""
        assert time.monotonic() - began < 11
        time.sleep(max(0, began + 10 - time.monotonic()))
        assert not idle_for_ever(service, idle)


def idle_for_ever(service: Served, connection: socket.socket) -> bool:
    """Whether the service still holds the other end of this connection."""
    ours = f"{connection.getsockname()[1]:04X}"
    lines = [line.split() for line in Path(f"/proc/{service.process.pid}/net/tcp").read_text().splitlines()[1:]]
    return any(
        one[1].endswith(f":{service.port:04X}") and one[2].endswith(f":{ours}") and one[3] == "01" for one in lines
    )


def test_a_client_that_leaves_is_told_to_nobody(service: Served) -> None:
    before = len(service.told().splitlines())
    many = head(service, f"Content-Length: {784 * 1024}") + b"\r\n" + bytes(784 * 1024)
    for content in (many, many[:-100], head(service)):
        for _ in range(20):
            with service.connect() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.sendall(content)
    time.sleep(0.3)
    assert len(service.told().splitlines()) == before


def test_a_request_before_what_is_none_is_answered(service: Served) -> None:
    whole = head(service, "Content-Length: 784") + b"\r\n" + PIXELS
    answer = service.send(whole + b"\x16\x03\x01 no HTTP\r\n\r\n")
    assert (status(answer), answer.count(b"HTTP/1.1 ")) == (200, 1)


def test_requests_with_bytes_changed_cut_and_added_have_no_traceback(service: Served) -> None:
    random = Random(0)
    whole = [
        head(service, "Content-Length: 784") + b"\r\n" + PIXELS,
        head(service, "Content-Length: 20", kind="application/json") + b'\r\n{"inputs": [1, true]}',
        head(service, "Transfer-Encoding: chunked") + b"\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
        head(service, first="GET /model HTTP/1.1") + b"\r\n",
        head(service, "Connection: close", first="HEAD / HTTP/1.1") + b"\r\n",
    ]
    added = [b"\r\n", b"\0", b"Content-Length: 5\r\n", b"\r\n\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n"]
    found = Counter[int]()
    for _ in range(800):
        content = bytearray(b"".join(random.choice(whole) for _ in range(random.randint(1, 3))))
        for _ in range(random.randint(0, 5)):
            at = random.randrange(max(1, len(content)))
            match random.randrange(4):
                case 0:
                    content[at : at + 1] = random.randbytes(1)
                case 1:
                    del content[at : at + random.randint(1, 20)]
                case 2:
                    content[at:at] = random.choice(added)
                case _:
                    del content[at + 1 :]
        with service.connect() as connection:
            connection.settimeout(0.02)
            with suppress(OSError):
                connection.sendall(content)
                found[status(connection.recv(65536))] += 1
    assert {200, 400, 415, 421} <= set(found)
    assert 500 not in found
    assert "Traceback" not in service.told()


def test_requests_one_behind_the_other_are_answered_in_order(service: Served) -> None:
    whole = head(service, "Content-Length: 784") + b"\r\n" + PIXELS
    last = head(service, "Connection: close", first="GET /health HTTP/1.1") + b"\r\n"
    answer = service.send(whole * 3 + last)
    assert answer.count(b"HTTP/1.1 200") == 4
    assert answer.endswith(b'{"live":true}')


def test_a_body_in_small_parts_is_one(service: Served) -> None:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (PIXELS[:1], PIXELS[1:500], PIXELS[500:]))
    with service.connect() as connection:
        connection.sendall(head(service, "Transfer-Encoding: chunked", "Connection: close") + b"\r\n")
        for byte in (parts + b"0\r\n\r\n")[:50]:
            connection.sendall(bytes([byte]))
        connection.sendall((parts + b"0\r\n\r\n")[50:])
        assert status(received(connection)) == 200
