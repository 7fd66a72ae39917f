"""Requests to end, held back until a good moment."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def deferred() -> Iterator[list[int]]:
    """Let Ctrl-C and requests to end wait for the end of the block; a second one waits no longer.

    Gives the list of the signals that came; whoever has answered them clears it.
    """
    waiting: list[int] = []
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) > 1:
            handlers[number](number, frame)

    if threading.current_thread() is threading.main_thread():  # Python calls handlers in this one only
        for request in REQUESTS:
            handler = signal.getsignal(request)
            if callable(handler):
                handlers[request] = handler
                signal.signal(request, wait)
    try:
        yield waiting
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if waiting:
            handlers[waiting[0]](waiting[0], None)
