"""Values of a YAML file changed in its text: comments, order and all that is not touched stay as they are written."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.events import MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent

from keras_pipeline.strict_yaml.nodes import Key, plain_scalar


def edit_yaml(text: str, changes: Mapping[Key, str]) -> str:
    """`text`, good YAML, with other values at these keys, each given as YAML: in one line, or as the lines of a list
    that begin in the first column.

    A key that is not there is added to its block, which has to be: KeyError. A list of several lines stays one, and a
    comment behind a changed value keeps its column where there is room.
    """
    mark, text = ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)
    root = _read_places(text)
    edits: list[tuple[int, int, int, str]] = []
    for key, value in changes.items():
        *blocks, last = map(str, key)
        block = root
        for name in blocks:
            block = block.inside[name]
        if last in block.inside:
            found = _replaced(text, block.inside[last], value, flow=block.flow)
        else:
            found = _added(text, block, last, value)
        edits += [(start, end, len(edits), new) for start, end, new in found]
    for start, end, _, new in sorted(edits, reverse=True):  # of two at one place the last one first
        text = text[:start] + new + text[end:]
    return mark + text


def value_text(text: str, key: Key) -> str:
    """The value at `key` in `text`, good YAML, as `edit_yaml` takes it: as it is written there, if it can be."""
    place = _read_places(text)
    for name in key:
        place = place.inside[str(name)]
    written = text[place.start : place.end]
    if "\n" not in written and (place.flow or not place.block):
        return written
    if not place.block or place.inside:
        return flow_text(_load(written))
    start, end = text.rfind("\n", 0, place.start) + 1, _line_end(text, place.end)
    column = place.start - start
    return "\n".join(line[column:].rstrip() for line in text[start:end].splitlines())


def flow_text(value: Any) -> str:
    """A value in one line, as people write it."""
    match value:
        case list() | tuple():
            return f"[{', '.join(map(flow_text, value))}]"
        case dict():
            return f"{{{', '.join(f'{flow_text(key)}: {flow_text(one)}' for key, one in value.items())}}}"
        case str() if _is_plain(value):
            return value
        case float():
            return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value)).replace("e-0", "e-")  # some take 1e-5 for text
    return json.dumps(value, ensure_ascii=False)


def _is_plain(text: str) -> bool:
    try:
        return bool(re.fullmatch(r"[A-Za-z_][\w./-]*( [\w./-]+)*", text, re.ASCII)) and plain_scalar(text) == text
    except ValueError:
        return False


@dataclass
class _Place:
    """Where a value stands, from `start` to before `end`, and its key; `flow`, `block`: a list or block with brackets,
    or without them, which ends with its last value; `inside`: the values of a block by key."""

    start: int
    end: int
    key_start: int
    key_end: int
    flow: bool
    block: bool
    inside: dict[str, "_Place"]


def _read_places(text: str) -> _Place:
    events = YAML(typ="safe", pure=True).parse(text)
    for _ in ("stream", "document"):  # their starts
        next(events)
    return _place(next(events), events, 0, 0)


def _place(event: Any, events: Iterator[Any], key_start: int, key_end: int) -> _Place:
    start, end = event.start_mark.index, event.end_mark.index
    if isinstance(event, ScalarEvent):
        return _Place(start, end, key_start, key_end, flow=False, block=False, inside={})
    place = _Place(start, end, key_start, key_end, bool(event.flow_style), not event.flow_style, {})
    while not isinstance(inner := next(events), MappingEndEvent | SequenceEndEvent):
        if isinstance(event, MappingStartEvent):
            found = _place(next(events), events, inner.start_mark.index, inner.end_mark.index)
            place.inside[inner.value] = found
        else:
            found = _place(inner, events, start, start)
        place.end = found.end
    if place.flow:
        place.end = inner.end_mark.index
    return place


def _replaced(text: str, place: _Place, value: str, *, flow: bool) -> Iterator[tuple[int, int, str]]:
    """What is to be put in the place of what, for another value at a place, in a block with brackets if `flow`."""
    colon = text.index(":", place.key_end) + 1
    line_end = _line_end(text, colon if place.block else place.end)
    old_end = colon if place.block else place.end
    if flow:
        yield place.start, place.end, value
        return
    first, *lines = ["", *value.split("\n")] if _is_block(value) else [value]
    if place.block and not place.inside and not lines and isinstance(items := _load(value), list) and items:
        first, lines = "", [f"- {flow_text(item)}" for item in items]  # as the list stood that it replaces
    head = f" {first}" if first else ""
    comment = re.match(r"( *)(#.*)", text[old_end:line_end])
    rest = ""
    if comment:
        width = old_end - colon + len(comment[1])
        rest = head.ljust(max(width, len(head) + min(2, len(comment[1])))) + comment[2]
    yield colon, line_end, rest or head
    if place.block:
        yield line_end, _line_end(text, place.end), ""
    if lines:
        first_of_list = place.start if place.block and lines[0].startswith("-") else place.key_start
        column = first_of_list - (text.rfind("\n", 0, first_of_list) + 1)
        at = _line_end(text, place.end)
        yield at, at, _new_lines(text, at, lines, column)


def _added(text: str, block: _Place, key: str, value: str) -> Iterator[tuple[int, int, str]]:
    if block.flow:
        last = max((one.end for one in block.inside.values()), default=block.start + 1)
        yield last, last, f"{', ' if block.inside else ''}{key}: {value}"
        return
    column = block.start - (text.rfind("\n", 0, block.start) + 1)
    at = _line_end(text, block.end)
    yield at, at, _new_lines(text, at, [f"{key}: {value}"], column)


def _new_lines(text: str, at: int, lines: list[str], column: int) -> str:
    end = "\r\n" if text.startswith("\r\n", at) else "\n"
    return "".join(f"{end}{' ' * column}{line}" for line in lines)


def _load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def _is_block(value: str) -> bool:
    return "\n" in value or value.startswith("- ")


def _line_end(text: str, at: int) -> int:
    found = re.search(r"\r?\n|\Z", text[at:])
    return at + (found.start() if found else 0)
