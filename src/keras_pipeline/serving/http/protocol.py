"""uvicorn's connection, with limits: on the head of a request, on the time that one takes to come or to be read, and on
how many connections there are. What a stranger sends slowly, or without end, costs others nothing."""

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from keras_pipeline.serving.http.answers import Answer, Refused

HEAD_BYTES = 16_384
MOST_HEADERS = 64
REQUEST_SECONDS = 8.0
"""Within so long a request must have come as a whole, and an answer been read; a new connection must have asked."""
SWEEP_SECONDS = 1.0
LAST_SECONDS = 0.3
"""For so long a connection of which nothing is wanted stays open when the service ends."""
LINGER_SECONDS = 1.0
"""For so long what a refused client still sends is read and dropped, so that it sees the answer and no reset."""
REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class LimitedProtocol(HttpToolsProtocol):
    """One connection. `most`: how many there may be, set once before the first."""

    most = 1024

    def connection_made(self, transport: Any) -> None:
        """Take the connection, or refuse it where there are too many."""
        self._since: float | None = time.monotonic()
        self._head_bytes = 0
        self._in_head, self._refused, self._counted = True, False, 0
        self._running: asyncio.Task[None] | None = None
        self._unread_since: float | None = None
        super().connection_made(transport)
        self._lingering = _Lingering(transport, self)
        self.transport = self._lingering  # type: ignore[assignment]
        if len(self.connections) > self.most:
            self._since = None
            self._refuse(Refused(503, "There are too many connections. Try again.", (b"retry-after", b"1")))

    def connection_lost(self, exc: Exception | None) -> None:
        """What was asked for is not wanted any more."""
        super().connection_lost(exc)
        if self._running is not None and self.cycle is not None and not self.cycle.response_complete:
            self._running.cancel()
        self._running = None

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request."""
        if self._refused or self._lingering.closing or self.parser is None:
            return
        if self._since is None:
            self._since = time.monotonic()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES and not self._refused:
            self._refuse(_LONG_HEAD)

    def send_400_response(self, msg: str) -> None:
        """The answer to what is no HTTP; `on_header` may have refused it already, for another reason."""
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self._refused, self.cycle.keep_alive = True, False  # the request before that is answered, and no more
        elif not self._refused:
            self._refuse(Refused(400, "That is no HTTP/1.1. Expected: a request with one length and a path."))

    def on_message_begin(self) -> None:
        """The head of a request begins."""
        super().on_message_begin()
        self._in_head, self._counted = True, 0

    def on_url(self, url: bytes) -> None:
        """A part of the path."""
        super().on_url(url)
        self._counted += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._counted += len(name) + len(value)
        if self._counted > HEAD_BYTES or len(self.headers) >= MOST_HEADERS:
            if not self._refused:
                self._refuse(_LONG_HEAD)
            raise ValueError("the head is too long")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head has come: the request begins."""
        self._in_head = False
        # A path with the name of a host, or none: proxies are asked so.
        if not self.url.startswith(b"/") or self.parser.get_http_version() not in ("1.1", "1.0"):
            raise ValueError("no path, or another version")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of the request has come."""
        self._since, self._head_bytes = None, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written."""
        self._lingering.flush()
        super().on_response_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = self.loop.create_task(cycle.run_asgi(app))
        self._running.add_done_callback(self.tasks.discard)
        self.tasks.add(self._running)

    def shutdown(self) -> None:
        """The service ends: what was asked for is answered, and what is on its way may still come."""
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LAST_SECONDS, self._end_idle)
        else:
            super().shutdown()

    def _end_idle(self) -> None:
        if self._since is None and self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        elif not self.transport.is_closing():
            self._since = None
            self.transport.close()

    @property
    def is_sending(self) -> bool:
        """Whether the client still sends its request."""
        return self._since is not None

    def sweep(self, now: float) -> None:
        """End the connection where its request, or the reading of its answer, takes too long; to be called at times."""
        if self._since is not None and now - self._since > REQUEST_SECONDS:
            if self.cycle is not None and not self.cycle.response_complete and self.cycle.response_started:
                self.transport.abort()
            else:
                self._since = None
                self._refuse(Refused(408, f"The request did not come within {REQUEST_SECONDS:g} s."))
        if self.transport.get_write_buffer_size() == 0:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > REQUEST_SECONDS:
            self.transport.abort()

    def _refuse(self, refused: Refused) -> None:
        """Answer without the application, and close."""
        self._refused = True
        answer: Answer = refused.answer()
        head = [*self.server_state.default_headers, *answer.head(), (b"connection", b"close")]
        lines = b"".join(b"%s: %s\r\n" % pair for pair in head)
        status = b"HTTP/1.1 %d %s\r\n" % (refused.status, REASONS[refused.status].encode())
        self.transport.write(status + lines + b"\r\n")
        self.transport.write(answer.body)
        self.transport.close()


class _Lingering:
    """A transport that writes the head of an answer together with its body; and that is closed, where its client still
    sends, a moment after the client was told: to close it before all is read would make the system take the answer
    back."""

    def __init__(self, transport: Any, protocol: LimitedProtocol) -> None:
        self.closing, self._head = False, b""
        self._transport, self._protocol = transport, protocol
        self.abort = transport.abort
        self.get_write_buffer_size, self.get_extra_info = transport.get_write_buffer_size, transport.get_extra_info

    def write(self, data: bytes) -> None:
        """A head, which waits for what comes next, or a body."""
        if self.is_closing():  # its client has left, or was told something else
            return
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def flush(self) -> None:
        """Write a head that no body follows."""
        if self._head:
            self.write(b"")

    def is_closing(self) -> bool:
        """Whether nothing more is to be written."""
        return self.closing or bool(self._transport.is_closing())

    def close(self) -> None:
        """Now, or in a moment."""
        if self.closing:
            return
        self.flush()
        self.closing = True
        if self._protocol.is_sending and not self._transport.is_closing():
            self._protocol.flow.resume_reading()
            self._transport.write_eof()
            self._protocol.loop.call_later(LINGER_SECONDS, self._transport.close)
        else:
            self._transport.close()


_LONG_HEAD = Refused(431, f"The head of the request is too long. Expected: {HEAD_BYTES} bytes, {MOST_HEADERS} headers.")
