"""What goes back to a client: a status, headers and bytes; and the refusal, which is one with a reason."""

import json
from dataclasses import dataclass
from typing import Any

JSON = "application/json"
SAFE_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
"""Of every answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `headers`: beside those of its type, its length and `SAFE_HEADERS`."""

    body: bytes
    kind: str = JSON
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def head(self) -> list[tuple[bytes, bytes]]:
        """All its headers."""
        own = (b"content-type", self.kind.encode()), (b"content-length", b"%d" % len(self.body))
        return [*own, *SAFE_HEADERS, *self.headers]


class Refused(Exception):  # noqa: N818 - no error of the service
    """A request that is not answered. `message`: what was received, what was expected; nothing of the body but single
    values. `close`: its connection ends, for what it still sends is not to be read."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes], close: bool = False) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = (*headers, (b"connection", b"close")) if close else headers

    def answer(self) -> Answer:
        """As JSON: {"error": message}."""
        return json_answer({"error": self.message}, self.status, *self.headers)


def json_answer(value: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> Answer:
    """`value` as strict JSON."""
    content = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Answer(content.encode("utf-8", "backslashreplace"), JSON, status, headers)
