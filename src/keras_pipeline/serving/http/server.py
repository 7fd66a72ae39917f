"""The process of the service: one socket, uvicorn's loop with our connections, and an end that loses nothing."""

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import uvicorn
import uvloop

from keras_pipeline.core.errors import MachineError
from keras_pipeline.serving.http.protocol import SWEEP_SECONDS, LimitedProtocol

OWN_FILES = 64
"""So many descriptors are kept for other things than connections."""
MOST_CONNECTIONS = 4096
STILL_TAKEN_SECONDS = 0.2
"""For so long new requests are taken after the service was asked to end: they were on their way."""
GRACE_SECONDS = 3
"""Within so long an accepted request is answered then."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections at once, before anything can answer: they wait. Raises MachineError where the
    host or the port is not to be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as fault:
        raise MachineError(
            f"--host {host} --port {port}: {fault}. Choose another one; --port 0 is any free one."
        ) from None
    return listening


def serve(
    listening: socket.socket,
    make: Callable[[], Any],
    started: Callable[[], None],
) -> None:
    """Answer requests until a signal asks for the end, then those that were accepted.

    `make` makes the application within the loop: one with `draining`, and `batching`. `started` is called when the
    first request can be answered.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        wanted = MOST_CONNECTIONS + OWN_FILES
        most = wanted if allowed[1] == resource.RLIM_INFINITY else min(wanted, allowed[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed[0], most), allowed[1]))
    LimitedProtocol.most = max(16, min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN_FILES))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(listening, make, started))


async def _serve(
    listening: socket.socket,
    make: Callable[[], Any],
    started: Callable[[], None],
) -> None:
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # what is refused, and what fails, the application tells
    application = make()
    server = _Server(
        uvicorn.Config(
            application, http=LimitedProtocol, ws="none", lifespan="off", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, timeout_graceful_shutdown=GRACE_SECONDS, backlog=1024,
        ),
        application, started,
    )  # fmt: skip
    sweeping = asyncio.ensure_future(_sweeping(server, application))
    await server.serve([listening])
    sweeping.cancel()
    application.batching.close()


async def _sweeping(server: "uvicorn.Server", application: Any) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = time.monotonic()
        for connection in [*server.server_state.connections]:
            connection.sweep(now)  # type: ignore[union-attr]
        application.batching.expire()


class _Server(uvicorn.Server):
    """uvicorn's, which a signal asks to end: exit code 0, as it was asked to."""

    def __init__(self, config: uvicorn.Config, application: Any, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._application, self._tell_started = application, started

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """While it serves."""
        before = {one: signal.signal(one, self.handle_exit) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for request, handler in before.items():
                signal.signal(request, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        self._tell_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was accepted, each answer the last of its connection; then end."""
        self._application.draining = True
        await asyncio.sleep(STILL_TAKEN_SECONDS)
        for listening in sockets or []:
            listening.listen(0)  # the system takes no more for us; those that it took are not lost with the socket
        await asyncio.sleep(STILL_TAKEN_SECONDS)
        await super().shutdown(sockets)
