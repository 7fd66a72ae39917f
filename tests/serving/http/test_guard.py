"""Who may ask: hosts, origins, tokens, and what a body is said to be."""

import asyncio
from typing import Any

import pytest

from keras_pipeline.core.errors import ParamsError
from keras_pipeline.serving.http import guard
from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.http.guard import Bodies, make_guard, require_kind

OURS = make_guard("127.0.0.1", 8000, ["https://digits.example.org"], None)
TOKEN = "0123456789abcdef"


def status(action: Any) -> int:
    try:
        action()
    except Refused as refused:
        return refused.status
    return 0


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:8000", 0), ("localhost:8000", 0), ("LOCALHOST:8000", 0), ("digits.example.org", 0),
        ("evil.example", 421), ("evil.example:8000", 421), ("127.0.0.1", 421), ("localhost", 421),
        ("127.0.0.1:8001", 421), ("127.0.0.1.:8000", 421), ("localhost.:8000", 421), ("127.1:8000", 421),
        ("2130706433:8000", 421), ("0x7f000001:8000", 421), ("0177.0.0.1:8000", 421), ("127.0.0.1:8000text", 421),
        ("127.0.0.1:08000", 421), ("127.0.0.1:8000@evil.example", 421), ("evil.example#127.0.0.1:8000", 421),
        ("digits.example.org.evil.example", 421), ("evil-digits.example.org", 421),
        ("127.0.0.1.evil.example:8000", 421),
        ("[::1]:8000", 421), ("[::ffff:127.0.0.1]:8000", 421), ("", 421), (" 127.0.0.1:8000", 421),
        ("0.0.0.0:8000", 421),
        ("127.0.0.1:8000, evil.example", 421), ("a/b", 421), ("\u017focalhost:8000".encode().decode("latin-1"), 421),
    ],
)  # fmt: skip
def test_a_host_is_one_of_the_list_or_refused(host: str, code: int) -> None:
    assert status(lambda: OURS.headers([(b"host", host.encode("latin-1"))])) == code


def test_one_host_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    good = (b"host", b"127.0.0.1:8000")
    assert status(lambda: OURS.headers([good, good])) == 400
    assert status(lambda: OURS.headers([good, (b"host", b"evil.example")])) == 400
    assert status(lambda: OURS.headers([(b"accept", b"*/*")])) == 400
    assert status(lambda: OURS.headers([good, (b"accept", b"a"), (b"accept", b"b")])) == 0
    for name in (b"origin", b"content-type", b"authorization"):
        assert status(lambda name=name: OURS.headers([good, (name, b"a"), (name, b"b")])) == 400  # type: ignore[misc]


def test_hosts_by_what_is_listened_at() -> None:
    assert make_guard("::1", 9000, [], None).hosts == {b"127.0.0.1:9000", b"localhost:9000", b"[::1]:9000"}
    everywhere = make_guard("0.0.0.0", 9000, ["http://localhost:7000"], TOKEN)
    assert everywhere.hosts == {b"127.0.0.1:9000", b"localhost:9000", b"localhost:7000"}
    assert b"localhost" in make_guard("127.0.0.1", 80, [], None).hosts


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "127.0.0.1.example.org", ""])
def test_what_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(ParamsError, match="Expected: a token that they send"):
        make_guard(host, 8000, [], None)
    assert make_guard(host, 8000, [], TOKEN).token == TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "::1"])
def test_this_machine_needs_none(host: str) -> None:
    assert make_guard(host, 8000, [], None).token is None


@pytest.mark.parametrize(
    "address", ["digits", "ftp://a", "http://", "http://a/b", "http://a@b", "http://a b", "javascript:1"]
)
def test_an_address_is_one(address: str) -> None:
    if address == "http://a/b":  # the path is nobody's matter
        return
    with pytest.raises(ParamsError, match="--address"):
        make_guard("127.0.0.1", 8000, [address], None)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 0), ({"origin": "http://127.0.0.1:8000"}, 0), ({"origin": "https://digits.example.org"}, 0),
        ({"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}, 0), ({"sec-fetch-site": "none"}, 0),
        ({"origin": "http://evil.example"}, 403), ({"origin": "null"}, 403), ({"origin": ""}, 403),
        ({"origin": "http://localhost:8001"}, 403), ({"origin": "https://127.0.0.1:8000"}, 403),
        ({"origin": "http://127.0.0.1"}, 403), ({"origin": "http://127.0.0.1:8000.evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403), ({"sec-fetch-site": "same-site"}, 403), ({"sec-fetch-site": "x"}, 403),
    ],
)  # fmt: skip
def test_a_page_of_another_origin_sends_nothing(headers: dict[str, str], code: int) -> None:
    encoded = {name.encode(): value.encode() for name, value in headers.items()}
    assert status(lambda: OURS.require_own_page(encoded)) == code


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (None, 401), ("", 401), (TOKEN, 401), (f"Basic {TOKEN}", 401), (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401), (f"bearer {TOKEN}", 401), (f"Bearer  {TOKEN}", 401), (f"Bearer {TOKEN}", 0),
    ],
)  # fmt: skip
def test_a_token_is_the_one(given: str | None, code: int) -> None:
    ours = make_guard("0.0.0.0", 8000, [], TOKEN)
    headers = {} if given is None else {b"authorization": given.encode()}
    assert status(lambda: ours.require_token(headers)) == code
    assert status(lambda: OURS.require_token(headers)) == 0


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("application/json", 0), ("Application/JSON; charset=UTF-8", 0), ('application/json; charset="utf-8"', 0),
        ("application/json; charset=utf-16", 415), ("text/plain", 415), ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415), ("application/json, text/plain", 415), ("", 415), (None, 415),
        ("text/plain; application/json", 415), ("application/json-seq", 415),
    ],
)  # fmt: skip
def test_a_body_is_of_a_known_kind(kind: str | None, code: int) -> None:
    headers = {} if kind is None else {b"content-type": kind.encode()}
    assert status(lambda: require_kind(headers, ["application/json", "image/png"])) == code


@pytest.mark.parametrize("packed", ["gzip", "br", "deflate", "zstd", "identity, gzip"])
def test_a_packed_body_is_refused(packed: str) -> None:
    headers = {b"content-type": b"application/json", b"content-encoding": packed.encode()}
    assert status(lambda: require_kind(headers, ["application/json"])) == 415


def test_all_bodies_together_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was read counts no more when its request has ended, in whatever way."""
    monkeypatch.setattr(guard, "HELD_BYTES", 80)
    bodies = Bodies()

    async def read(size: int, most: int = 80) -> int:
        messages = iter(
            [{"type": "http.request", "body": bytes(size // 2), "more_body": more} for more in (True, False)]
        )

        async def receive() -> Any:
            await asyncio.sleep(0)
            return next(messages)

        try:
            return len(await bodies.read({}, receive, most))
        except Refused as refused:
            return -refused.status

    async def several() -> list[int]:
        return await asyncio.gather(*(read(size) for size in (60, 60, 10)))

    assert sorted(asyncio.run(several())) == [-503, 10, 60]
    assert asyncio.run(read(90)) == -413
    assert bodies.held == 0
    assert asyncio.run(read(80)) == 80
