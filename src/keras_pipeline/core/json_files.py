"""JSON files of ours, and nothing else: each is read as one type, or refused with its place and what writes it anew."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import Field, FiniteFloat, StringConstraints, TypeAdapter, ValidationError

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError

Read = TypeVar("Read")
DEEPEST = 16
"""So many objects and lists inside each other no file of ours has."""
LARGEST = 2**63
SHOWN = 60

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256."""
Key = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""Of a run."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
"""One that can be a file's or a folder's, and leads nowhere else."""
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{0,1000}$")]
"""Words for people, in one line."""
Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
Seconds = Annotated[FiniteFloat, Field(ge=0)]
Moment = Annotated[FiniteFloat, Field(ge=0, lt=253_402_300_800)]
"""Seconds since 1970, before the year 10000."""
Scalar = bool | int | FiniteFloat | Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""A value of params.yaml as it is recorded, a list as JSON of any length."""


def read_json(
    path: Path,
    kind: TypeAdapter[Read],
    written_by: str,
    *,
    upgrade: Callable[[Any], Any] | None = None,
    check: Callable[[Read], None] | None = None,
) -> Read:
    """The JSON value in `path`, of this type; keys that the type does not name are kept.

    `upgrade` makes a value of an earlier format one of this; `check` raises ValueError, by `refuse`, for what no type
    can say. Raises DataError that names file, place, what was found, what was expected, and the command that writes it
    anew: `written_by` is a stage, or words of the command line such as "study run".
    """
    content = files.read_content(path, written_by)
    try:
        value = parse_json(content)
        value = upgrade(value) if upgrade else value
        check_type(value, kind)
        if check:
            check(value)
    except DataError:
        raise
    except ValueError as fault:
        raise DataError(f"{path}: {fault} {files.remedy(written_by, 'delete it and ')}") from None
    typed: Read = value
    return typed


def parse_json(content: bytes) -> Any:
    """The value of strict JSON in UTF-8: no key twice, no NaN, no number beyond 64 bits, nothing nested too deeply.

    Raises ValueError saying what it is instead.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8. Expected: JSON.") from None
    if marker := re.search(r"^(<{7}|={7}|>{7})( |$)", text, re.MULTILINE):
        line = text.count("\n", 0, marker.start()) + 1
        raise ValueError(f"line {line} is git's mark of a conflict. Expected: JSON.")
    deepest = depth = 0
    for bracket in re.findall(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*+"', "", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise ValueError(f"it is nested {deepest} deep. Expected: {DEEPEST} at most.")
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_not_finite, parse_float=_finite, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}: {error.msg}"
        raise ValueError(f"{place if text.strip() else 'it is empty'}. Expected: JSON.") from None
    if re.search(r"\\u[dD][89a-fA-F]", text):  # half of a character, which can be written nowhere
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a character (\\ud800 to \\udfff). Expected: text.") from None
    return value


def check_type(value: Any, kind: TypeAdapter[Any]) -> None:
    """Raise ValueError with the first place where the value is not of this type."""
    try:
        kind.validate_python(value, strict=True)
    except ValidationError as error:
        faults = [(_place(value, one["loc"], lacking=one["type"] == "missing"), one) for one in error.errors()]
    else:
        return
    place, first = faults[0]
    if first["type"] == "missing":
        raise ValueError(f"{_written(place)} is missing.")
    found = value
    for part in place:
        found = found[part]
    expected = " or ".join(dict.fromkeys(_expected(one) for where, one in faults if where == place))
    others = len({_written(where) for where, _ in faults}) - 1
    refuse(_written(place), found, f"{expected}{f' ({others} more like this)' if others else ''}")


def refuse(place: str, found: Any, expected: str) -> NoReturn:
    """Raise the ValueError that says so of a place in the file."""
    text = json.dumps(found, default=str)
    raise ValueError(f"{place}: got {text if len(text) <= SHOWN else f'{text[:SHOWN]}…'}. Expected: {expected}.")


def _place(value: Any, location: tuple[int | str, ...], *, lacking: bool) -> tuple[int | str, ...]:
    """Where it is in the value; what pydantic adds, which member of a union or a key it tried, is left out."""
    parts: list[int | str] = []
    for part in location:
        if part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int):
            parts.append(part)
            value = value[part]
    return (*parts, location[-1]) if lacking else tuple(parts)


def _written(place: tuple[int | str, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return ascii(text.removeprefix("."))[1:-1] or "the whole"


def _expected(fault: Any) -> str:
    if fault["type"] == "string_pattern_mismatch":
        return f"text like {fault['ctx']['pattern']}"
    return str(fault["msg"]).removeprefix("Input should be ")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!a} stands there twice. Expected: each key once.")
    return made


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"it holds {text}. Expected: numbers.")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_finite(text)


def _whole(text: str) -> int:
    if len(text) > 20 or not -LARGEST <= int(text) < LARGEST:
        raise ValueError(f"it holds the number {text[:SHOWN]}. Expected: numbers of 64 bits at most.")
    return int(text)
