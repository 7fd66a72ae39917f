"""This process: requests to end it, held back until a good moment, and where its time goes."""

import gc
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TypeVar

Result = TypeVar("Result")


def python(*words: str) -> list[str]:
    """The command line of another Python: `words` as its own, such as `-m` and a module.

    With -P: a file in the current folder that has the name of a module is never run.
    """
    return [sys.executable, "-P", *words]


UTF8_OUTPUT = {"PYTHONIOENCODING": "utf-8"}
"""For the environment of a Python whose output is read here: a terminal's encoding may be another."""

REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU)
"""What asks a process to end; the last one where its time of the processor is used up (`ulimit -t`)."""
ONE_REQUEST_SECONDS = 0.2
"""Requests within so long are one: `timeout` sends two, and what a terminal sends to all of a group, one may pass on.
Two of a person are not so near."""

LAST_SECONDS = 10
"""So many seconds of the processor are kept for the end, where `ulimit -t` allows a number of them."""


def _counting() -> Callable[[], bool]:
    """What says of a request that comes just now whether it is one of its own, and no part of the one before."""
    latest = -math.inf

    def counts() -> bool:
        nonlocal latest
        now = time.monotonic()
        if now - latest < ONE_REQUEST_SECONDS:
            return False
        latest = now
        return True

    return counts


class Terminated(KeyboardInterrupt):
    """A signal that asks the process to end; what was begun is closed as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def requests_to_end(came: list[int]) -> Iterator[None]:
    """Within, a request to end raises `Terminated`; behind it, one does what it did before.

    Adds to `came` the signals that came: whatever is raised from then on, by libraries that were disturbed in their
    work, the process was asked to end. One that vanished where Python can raise nothing is raised again.
    """
    counts = _counting()

    def end(number: int, frame: FrameType | None) -> None:
        if counts():
            came.append(number)
            raise Terminated(number)

    def raise_again(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated(came[-1])

    def vanished(fault: Any) -> None:
        if isinstance(fault.exc_value, Terminated):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        elif not came:
            hooks[0](fault)

    def in_thread(fault: Any) -> None:
        if not came:
            hooks[1](fault)

    allowed = resource.getrlimit(resource.RLIMIT_CPU)
    if allowed[1] != resource.RLIM_INFINITY and allowed[0] == allowed[1]:  # else SIGKILL would come at once
        resource.setrlimit(resource.RLIMIT_CPU, (max(1, allowed[1] - LAST_SECONDS), allowed[1]))
    handled = [one for one in REQUESTS if signal.getsignal(one) != signal.SIG_IGN]  # ignored on purpose: nohup
    before = {one: signal.signal(one, end) for one in handled}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, raise_again)
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = vanished, in_thread
    try:
        yield
    finally:
        for request, handler in before.items():
            signal.signal(request, handler)
        if not came:
            sys.unraisablehook, threading.excepthook = hooks


@contextmanager
def defer_signals() -> Iterator[list[int]]:
    """Let Ctrl-C and requests to end wait for the end of the block; a second one, as of a person, waits no longer.

    Gives the list of the signals that came; whoever has answered them clears it.
    """
    waiting: list[int] = []
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    counts = _counting()

    def wait(number: int, frame: FrameType | None) -> None:
        counted = counts()
        waiting.append(number)
        if len(waiting) > 1 and counted and number != signal.SIGXCPU:  # which comes every second
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


_left_alone: list[threading.Thread] = []
"""What may have begun threads that Python waits for."""


def within(seconds: float, action: Callable[[], Result]) -> Result:
    """What `action` gives or raises, or TimeoutError after so many seconds; it then goes on, and nobody listens.

    No time-out of a socket covers the name's resolution, nor an answer that comes a byte at a time.
    """
    given: list[Result] = []
    raised: list[BaseException] = []

    def act() -> None:
        try:
            given.append(action())
        except BaseException as error:  # whoever waits is told
            raised.append(error)

    thread = threading.Thread(target=act, daemon=True, name="a call that may take too long")
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not given:
        leave_alone(thread)
        raise TimeoutError(f"no answer within {seconds:g} s")
    return given[0]


def leave_alone(thread: threading.Thread) -> None:
    """Nobody waits for what this thread does any more, nor at the end of the process."""
    _left_alone.append(thread)


def end_without_waiting(code: int) -> int:
    """The exit code; but where a call was left alone, which may have threads of its own that Python would wait for,
    however long, or where Python would ask for commands instead, the process ends here."""
    if _left_alone or "PYTHONINSPECT" in os.environ:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    return code


@contextmanager
def keeping_signals() -> Iterator[None]:
    """Requests to end are answered after the block as they were before, whatever a library did to its process."""
    yield
    if threading.current_thread() is threading.main_thread():
        for request in REQUESTS:
            handler = signal.getsignal(request)  # as Python knows it, who may not be asked any more
            if handler is not None:
                signal.signal(request, handler)


@contextmanager
def no_garbage() -> Iterator[None]:
    """For imports of frameworks: what they make stays, and Python does not look through it for garbage, nor later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


_seconds: dict[str, float] = {}
_within: list[str] = []


@contextmanager
def time_part(part: str) -> Iterator[None]:
    """Count the main thread's time within for this part, and not for the one around it; no other thread's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
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


def forget_time() -> None:
    """Begin anew: this process is a fork, and what took time before was another's."""
    _seconds.clear()
    _within.clear()


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
