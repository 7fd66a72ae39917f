"""Single values of a body: which are numbers, and how a refusal names them."""

import math
from typing import Any, NoReturn

from keras_pipeline.serving.http.answers import Refused

MOST_INPUTS = 1024
"""So many inputs one request may have."""
SHOWN = 40


def require_few(count: int) -> None:
    """Raise Refused where a request has too many inputs."""
    if count > MOST_INPUTS:
        raise Refused(413, f"Got {count} inputs. Expected: {MOST_INPUTS} at most; send the others in other requests.")


def is_float32(value: float) -> bool:
    """Whether a number is rounded to a finite one of 32 bits."""
    try:
        return abs(value) < 3.4028235677973366e38  # from there on float32 is infinite
    except OverflowError:
        return False


def shown(name: str) -> str:
    """A name for a message."""
    return ascii(name)[:SHOWN]


def refuse(place: str, value: Any, expected: str) -> NoReturn:
    """Raise Refused for a value at a place."""
    raise Refused(422, f"{place}: got {named(value)}. Expected: {expected}.")


def named(value: Any) -> str:
    """A value for a message: a number as it is, of all else its kind."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            return "a number that is not finite"
        case int() | float():
            try:
                text = repr(value)
            except ValueError:
                text = "a number of thousands of digits"
            return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
        case str():
            return "text"
        case list():
            return f"a list of {len(value)}"
    return "an object"
