"""YAML text before its parser sees it, and where the parser stops: each fault with its place."""

import codecs
import re
import unicodedata
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from ruamel.yaml.error import MarkedYAMLError

MAX_BYTES = 64 * 1024

Position = tuple[int, int]
"""Line and column, both from 1."""
Key = tuple[str | int, ...]
"""Where a value stands: `("layers", 2, "units")`."""


class Fault(NamedTuple):
    """What is wrong at a place; `key` is () where it concerns no value in particular."""

    at: Position
    key: Key
    message: str


def decode(content: bytes) -> tuple[str, list[Fault]]:
    """The text in UTF-8 `content`, lines ending in LF, and what makes it unusable before any YAML."""
    if len(content) > MAX_BYTES:
        message = f"larger than {MAX_BYTES // 1024} KiB, which no params are. Remove what does not belong here."
        return "", [Fault((1, 1), (), message)]
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if marked or (content[0:4:2] == b"\0\0") != (content[1:4:2] == b"\0\0"):
        return "", [Fault((1, 1), (), "this is UTF-16 text. UTF-8 is expected: save the file as UTF-8.")]
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = _line_feeds(content.decode())
    except UnicodeDecodeError as error:
        before = _line_feeds(content[: error.start].decode())
        byte = f"0x{content[error.start]:02x}"
        message = f"the byte {byte} is not UTF-8; the text may be Latin-1. Save the file as UTF-8."
        return "", [Fault(_position(before, len(before)), (), message)]
    return text, list(_unusable(text))


def control_character(text: str) -> str | None:
    """What to say of a character in `text` that cannot be seen, or that changes how its neighbours look."""
    if match := _CONTROL.search(text):
        name = unicodedata.name(match[0], "a control character")
        return f"the invisible character U+{ord(match[0]):04X} ({name}). Delete it."
    return None


_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
_UNUSABLE = (
    (re.compile(r"(?m)^ *(\t)"), "a tab in the indentation, where YAML allows spaces only. Use spaces."),
    (
        re.compile(r"(?m)^(<{7}|={7}|>{7}|\|{7})(?= |$)"),
        "a git conflict marker, '{}'. Keep one side of the conflict and delete its markers.",
    ),
    (re.compile(r"(?m)^(%)"), "a YAML directive, '{}'. None is read: delete the line."),
)


def _unusable(text: str) -> Iterator[Fault]:
    """At most a hundred faults a kind: to find the place of each costs a walk over the text."""
    for match in islice(_CONTROL.finditer(text), 100):
        yield Fault(_position(text, match.start()), (), control_character(match[0]) or "")
    for pattern, message in _UNUSABLE:
        for match in islice(pattern.finditer(text), 100):
            yield Fault(_position(text, match.start(1)), (), message.format(match[1]))


def _line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _position(text: str, offset: int) -> Position:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


# fmt: off
_SYNTAX = {
    "mapping values are not allowed":
        "a ':' where no key can stand. Look for a missing ':' in the line above, too deep an indentation, "
        "or a text with ': ' in it that needs quotes.",
    "could not find expected ':'": "this line has no ':' after its key. Write 'key: value'.",
    "found unexpected end of stream": "this quoted text has no end. Close its quote.",
    "expected ',' or ']'": "this list has no end, or lacks a comma. Close '[' with ']'.",
    "expected ',' or '}'": "this block has no end, or lacks a comma. Close '{' with '}'.",
    "expected <block end>":
        "this does not continue what stands above it. Align it with its neighbours, write one key a line, "
        "and put quotes around the whole of a text.",
    "found character '\\t'": "a tab, where YAML allows spaces only. Use spaces.",
    "cannot start any token": "this character cannot begin a value. Put text in quotes.",
    "expected the node content": "a value is missing here. Write one, or put text in quotes.",
    "escape": "an escape after '\\' that YAML does not know. Use single quotes, or '\\\\' for a backslash.",
    "sequence entries are not allowed": "a '-' where no list can begin. Put it in a line of its own.",
    "expected '<document start>'": "this stands after the end of the params. Align it with the first key.",
}
# fmt: on
"""What ruamel.yaml says, and what we say instead; its own words do for what is rare."""


def syntax_fault(error: MarkedYAMLError) -> Fault:
    """What stopped the parser, in one sentence, at the place where its cause began."""
    said = " ".join(str(error.problem or error.context).split())
    message = next((ours for theirs, ours in _SYNTAX.items() if theirs in said), f"{said}.")
    unclosed = re.search("end of stream|expected ','|could not find", said)
    mark = (error.context_mark if unclosed else None) or error.problem_mark
    return Fault((mark.line + 1, mark.column + 1) if mark else (1, 1), (), message)
