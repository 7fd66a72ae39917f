"""Who may ask for what: the checks that come before a byte of the body is read, and the limits on reading it."""

import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from keras_pipeline.core.errors import ParamsError
from keras_pipeline.serving.http.answers import Refused

Receive = Callable[[], Awaitable[Any]]
SHORTEST_TOKEN = 16
ONCE = frozenset({b"authorization", b"content-length", b"content-type", b"host", b"origin", b"transfer-encoding"})
"""Headers that would mean two things if they came twice."""
HELD_BYTES = 2**25
"""So much of all bodies together is in memory at most."""


@dataclass(frozen=True)
class Guard:
    """Who may ask. `hosts`: what a Host header may say, and no other; `origins`: of pages that may send something;
    `token`: None where none is needed."""

    hosts: frozenset[bytes]
    origins: frozenset[bytes]
    token: str | None

    def headers(self, pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
        """The headers of a request by their names. Raises Refused where one of `ONCE` came twice, or where the host is
        not one of this service: a page whose name was made to lead to this machine would get answers."""
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            if twice := next((name for name in ONCE if names.count(name) > 1), None):
                raise Refused(400, f"The header {twice.decode()} came twice. Expected: once.", close=True)
        host = found.get(b"host")
        if host is None:
            raise Refused(400, "No Host header. Expected: one.", close=True)
        if host.lower() not in self.hosts:
            raise Refused(421, "The Host header names another host. Expected: an address of this service.")
        return found

    def require_token(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise Refused where a token is needed and this is not it."""
        if self.token is not None:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
                what = "another one" if given else "none"
                raise Refused(
                    401,
                    f"Got {what}. Expected: the token of this service, as `Authorization: Bearer TOKEN`.",
                    (b"www-authenticate", b"Bearer"),
                )

    def require_own_page(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise Refused where a page of somebody else's in a browser sends this: it would do so in the name of whoever
        looks at it. Programs that are no browser say nothing of origins."""
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"none")
        if (origin is not None and origin not in self.origins) or site not in (b"same-origin", b"none"):
            raise Refused(403, "A page of another origin may not ask this. Expected: the page of this service.")


def make_guard(host: str, port: int, addresses: Sequence[str], token: str | None) -> Guard:
    """For a service at this host and port, which clients also reach by `addresses` (of a proxy or a container, such as
    https://digits.example.org). Raises ParamsError where it may be reached from other machines without a token."""
    if token is None and not is_loopback(host):
        raise ParamsError(
            f"--host {host}: other machines reach it there. Expected: a token that they send, of {SHORTEST_TOKEN} or "
            "more characters, in the variable KERAS_PIPELINE_SERVE_TOKEN or in a file that --token-file names. Without "
            "--host only this machine reaches the service, and none is needed."
        )
    names = {"127.0.0.1", "localhost"} | ({"[::1]"} if ":" in host else set())
    names |= {f"[{host}]" if ":" in host else host.lower()} - {"0.0.0.0", "[::]"}  # noqa: S104
    hosts = {f"{name}:{port}" for name in names} | (names if port == 80 else set())
    origins = {f"http://{one}" for one in hosts}
    for address in addresses:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]+)?", parts.netloc):
            raise ParamsError(
                f"--address {address!a}. Expected: http:// or https:// and how clients name this service, such as "
                "https://digits.example.org or http://localhost:9000."
            )
        hosts.add(parts.netloc.lower())
        origins.add(f"{parts.scheme}://{parts.netloc.lower()}")
    return Guard(frozenset(map(str.encode, hosts)), frozenset(map(str.encode, origins)), token)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at this host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_kind(headers: Mapping[bytes, bytes], allowed: Sequence[str]) -> str:
    """The type of the body, one of those. Raises Refused for any other, none, or a body that is packed."""
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refused(415, "A packed body (Content-Encoding). Expected: the body as it is.", close=True)
    name, _, parameters = headers.get(b"content-type", b"").decode("latin-1").lower().partition(";")
    kind = name.strip()
    charset = parameters.strip().removeprefix("charset=").strip('"')
    if kind not in allowed or charset not in ("", "utf-8"):
        expected = " or ".join(allowed)
        raise Refused(415, f"Got the Content-Type {kind[:60]!a}. Expected: {expected}.", close=True)
    return kind


class Bodies:
    """Reads bodies, each within its limit and all within one."""

    def __init__(self) -> None:
        self.held = 0

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive, most: int) -> bytes:
        """The body of a request. Raises Refused where it has more than `most` bytes, before they are read where its
        length is told; ConnectionError where the client left."""
        told = headers.get(b"content-length")
        if told is not None and int(told) > most:
            raise _too_large(f"{int(told)} bytes", most)
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionResetError("the client left")
                part = message.get("body", b"")
                size += len(part)
                self.held += len(part)
                if size > most:
                    raise _too_large("more", most)
                if self.held > HELD_BYTES:
                    raise Refused(503, "The service is busy. Try again.", (b"retry-after", b"1"), close=True)
                parts.append(part)
                if not message.get("more_body"):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            self.held -= size


def _too_large(got: str, most: int) -> Refused:
    return Refused(413, f"A body of {got}. Expected: {most} bytes at most.", close=True)
