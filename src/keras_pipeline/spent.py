"""Where the time of this process goes: parts, named where they begin, and what is left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_seconds: dict[str, float] = {}
_within: list[str] = []


@contextmanager
def on(part: str) -> Iterator[None]:
    """Count the time within for this part, and not for the one around it. For the main thread."""
    began = time.monotonic()
    _within.append(part)
    try:
        yield
    finally:
        _within.pop()
        took(part, time.monotonic() - began)


def took(part: str, seconds: float) -> None:
    """So much of the time of the part around this was for `part`."""
    for name, change in ((part, seconds), (_within[-1] if _within else "", -seconds)):
        _seconds[name] = _seconds.get(name, 0.0) + change


def parts() -> dict[str, float]:
    """The seconds of each part so far; "other" is what no part had since the process began. All together: its age."""
    import psutil

    named = {part: seconds for part, seconds in _seconds.items() if part}
    return {**named, "other": time.time() - psutil.Process().create_time() - sum(named.values())}


def line() -> str:
    """The parts that took a tenth of a second or more, for people."""
    seconds = parts()
    shown = [f"{part} {taken:.1f}" for part, taken in seconds.items() if taken >= 0.05]
    return f"{sum(seconds.values()):.1f} s: {', '.join(shown)}"
