"""A loopback HTTP server whose answers are scripted, one per path: the mirrors that a download meets."""

import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

Answer = Callable[["Handler"], None]


class FaultServer(ThreadingHTTPServer):
    """Serves `answers` by the last part of a request's path (else 404) while its `with` block lasts.

    `requests` lists path and headers of each request. As a proxy it answers for every host.
    """

    daemon_threads = True

    def __init__(self, answers: Mapping[str, Answer], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.requests: list[tuple[str, Any]] = []
        self.stopped = threading.Event()
        self.scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what these tests are about."""

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: FaultServer

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.requests.append((self.path, self.headers))
        name = urlsplit(self.path).path.rpartition("/")[2]
        self.server.answers.get(name, status(404))(self)

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_CONNECT(self) -> None:
        self.send_error(407)

    def start(self, code: int, headers: Mapping[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Nothing to the terminal."""


def whole(content: bytes, **headers: str) -> Answer:
    """The content, with its length; an underscore in a header's name stands for a dash."""

    def answer(handler: Handler) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.start(200, {"Content-Length": str(len(content)), **named})
        handler.wfile.write(content)

    return answer


def without_length(content: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.start(200, {})
        handler.wfile.write(content)

    return answer


def cut_chunk(content: bytes) -> Answer:
    """A chunked body that ends inside its first chunk."""

    def answer(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.start(200, {"Transfer-Encoding": "chunked"})
        handler.wfile.write(b"%x\r\n" % (len(content) + 100) + content)

    return answer


def status(code: int, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.start(code, {name.replace("_", "-"): value for name, value in headers.items()})

    return answer


def redirect(location: str) -> Answer:
    return status(302, Location=location)


def in_turn(*answers: Answer) -> Answer:
    """The first answer to the first request, and so on."""
    rest = iter(answers)
    return lambda handler: next(rest)(handler)


def endless(handler: Handler) -> None:
    handler.start(200, {})
    while not handler.server.stopped.is_set():
        handler.wfile.write(b"\x1f\x8b" * 32_768)


def silent(handler: Handler) -> None:
    handler.server.stopped.wait(60)


def reset(handler: Handler) -> None:
    """Ends the connection without an answer."""


def drip(content: bytes, seconds: float) -> Answer:
    """One byte, then a pause, and so on."""

    def answer(handler: Handler) -> None:
        handler.start(200, {"Content-Length": str(len(content))})
        for index in range(len(content)):
            handler.wfile.write(content[index : index + 1])
            if handler.server.stopped.wait(seconds):
                return

    return answer


def drip_header(seconds: float) -> Answer:
    """A status line, then a header that never ends."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
        while not handler.server.stopped.wait(seconds):
            handler.wfile.write(b"x")

    return answer
