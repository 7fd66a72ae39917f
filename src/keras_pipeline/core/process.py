"""This process: requests to end it, held back until a good moment, and where its time goes."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


def python(*words: str) -> list[str]:
    """The command line of another Python: `words` as its own, such as `-m` and a module.

    With -P: a file in the current folder that has the name of a module is never run.
    """
    return [sys.executable, "-P", *words]


REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def defer_signals() -> Iterator[list[int]]:
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


_seconds: dict[str, float] = {}
_within: list[str] = []


@contextmanager
def time_part(part: str) -> Iterator[None]:
    """Count the time within for this part, and not for the one around it. For the main thread."""
    began = time.monotonic()
    _within.append(part)
    try:
        yield
    finally:
        _within.pop()
        add_time(part, time.monotonic() - began)


def add_time(part: str, seconds: float) -> None:
    """So much of the time of the part around this was for `part`."""
    for name, change in ((part, seconds), (_within[-1] if _within else "", -seconds)):
        _seconds[name] = _seconds.get(name, 0.0) + change


def part_seconds() -> dict[str, float]:
    """The seconds of each part so far; "other" is what no part had since the process began. All together: its age."""
    import psutil

    named = {part: seconds for part, seconds in _seconds.items() if part}
    return {**named, "other": time.time() - psutil.Process().create_time() - sum(named.values())}


def timing_line() -> str:
    """The parts that took a tenth of a second or more, for people."""
    seconds = part_seconds()
    shown = [f"{part} {taken:.1f}" for part, taken in seconds.items() if taken >= 0.05]
    return f"{sum(seconds.values()):.1f} s: {', '.join(shown)}"
