"""YAML 1.2 text as a tree of values that know their line and column; only what every reader reads alike."""

import codecs
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.scanner import Scanner

from keras_pipeline.core.errors import SECRET
from keras_pipeline.core.terminal import UNSEEN

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
    if match := UNSEEN.search(text):
        name = unicodedata.name(match[0], "a control character")
        return f"the invisible character U+{ord(match[0]):04X} ({name}). Delete it."
    return None


CONFLICT = re.compile(r"(?m)^(<{7}|={7}|>{7}|\|{7})(?= |$)")
"""A line that git writes where two sides of a merge differ."""
_UNUSABLE = (
    (re.compile(r"(?m)^ *(\t)"), "a tab in the indentation, where YAML allows spaces only. Use spaces."),
    (
        CONFLICT,
        "a git conflict marker, '{}'. Keep one side of the conflict and delete its markers.",
    ),
    (re.compile(r"(?m)^(%)"), "a YAML directive, '{}'. None is read: delete the line."),
)


def _unusable(text: str) -> Iterator[Fault]:
    """At most a hundred faults a kind: to find the place of each costs a walk over the text."""
    for match in islice(UNSEEN.finditer(text), 100):
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


_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|\.[0-9]+([eE][-+][0-9]+)?)")
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULL = ("", "~", "null", "Null", "NULL")
# fmt: off
_REFUSED = tuple((re.compile(pattern), message) for pattern, message in {
    r"(?i)y|n|yes|no|on|off":
        "{0} is text to some YAML readers, true or false to others. Write true, false or '{0}'.",
    r"(?i)[-+]?(0[0-9]+(\.[0-9]*)?(e[-+]?[0-9]+)?|0[box][0-9a-f_]+)":
        "{0} is an ambiguous number: YAML readers differ on its base. Write a decimal without leading 0.",
    r"(?=[^_]*_)(?=[-+.0-9])[-+]?[0-9_]*+\.?[0-9_]*+([eE][-+]?[0-9_]++)?":
        "{0} is an ambiguous number: some YAML readers do not allow '_' in it. Leave '_' out.",
    r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?":
        "{0} is an ambiguous number: in base 60 to some YAML readers. Write a decimal one, or '{0}'.",
    r"[-+]?[0-9]+(,[0-9]+)+([eE][-+]?[0-9]+)?":
        "{0} is not a number to YAML. Write '.' as the decimal point, and nothing between thousands.",
    r"(?i)[-+]?\.(inf|nan)": "{0} is not a finite number. Write a finite one.",
    r"[-+]?\.[0-9]+[eE][0-9]+": "{0} is text to some YAML readers. Write a digit before the decimal point.",
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(([Tt]|[ \t]+)[0-9].*)?": "{0} is a date. Write '{0}', in quotes.",
    r"=|<<": "{0} has a meaning of its own in YAML. Write '{0}', in quotes.",
}.items())


# fmt: on
def plain_scalar(text: str) -> str | int | float | bool:
    """The value of an unquoted scalar. Raises ValueError where there is none, or readers differ."""
    if text in _NULL:
        raise ValueError("no value. Write one, or delete the line if the key may be left out.")
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _INTEGER.fullmatch(text):
        if len(text) > 18:
            raise ValueError(f"{text[:18]}… is too large: a whole number has 18 characters at most.")
        return int(text)
    if _FLOAT.fullmatch(text):
        return _float(text)
    for pattern, message in _REFUSED:
        if pattern.fullmatch(text):
            raise ValueError(message.format(text if len(text) <= 40 else text[:39] + "…"))
    return text


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large: it would be read as infinity. Write a smaller number.")
    if value == 0 and re.search(r"[1-9]", re.split("[eE]", text)[0]):
        raise ValueError(f"{text[:40]} is too small: it would be read as 0. Write 0, or a larger number.")
    return value


MAX_DEPTH = 8
NO_SECRETS = "Params are committed to git and logged with every run: delete it, pass secrets by the environment."
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels. Take levels away"
_CONFIDENTIAL = "this looks like a password, a token or a key."
_CREDENTIALS = re.compile(r"://[^/\s]*@")


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its place.

    `value` is a dict or list of nodes, or a str, int, float or bool; None where nothing usable stands.
    `text` is a scalar as written, without quotes; `key_at` is where its key or list item begins.
    """

    value: Any
    at: Position
    key_at: Position
    text: str = ""

    def plain(self) -> Any:
        """The value without places: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def parse_nodes(content: bytes) -> tuple[Node | None, list[Fault]]:
    """The tree in `content` and every fault found; no tree where `content` cannot be read to its end."""
    text, faults = decode(content)
    if faults:
        return None, faults
    composer = _Composer(text, faults)
    try:
        root = composer.document()
        faults += _secrets_elsewhere(text, faults)
        return root, faults
    except _StoppedError:
        pass
    except MarkedYAMLError as error:
        faults.append(syntax_fault(error))
    except (ValueError, OverflowError):  # ruamel.yaml gives the number of "\U00110000" to chr() unchecked
        message = "an escape from here on names no character, such as '\\U00110000'. Use single quotes."
        faults.append(Fault(composer.at, (), message))
    return None, faults


def _secrets_elsewhere(text: str, faults: list[Fault]) -> list[Fault]:
    """Those that stand in comments, which are committed too: of lines of which nothing is said yet."""
    places = [_position(text, match.start()) for match in islice(SECRET.finditer(text), 100)]
    told = {fault.at[0] for fault in faults}
    return [Fault(at, (), f"{_CONFIDENTIAL} {NO_SECRETS}") for at in places if at[0] not in told]


class _StoppedError(Exception):
    """The rest cannot be understood, or is not worth it; the reason is on the list of faults."""


class ShallowScanner(Scanner):
    """Ends a nest of brackets while it is scanned: 1024 characters are read ahead, in quadratic time."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:  # noqa: N803
        """Scan a bracket that opens, if not too many are open."""
        if self.flow_level >= MAX_DEPTH:
            raise MarkedYAMLError(problem=_TOO_DEEP, problem_mark=self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)


class _Composer:
    """Builds the tree from the events of `text`, and puts what it finds wrong on the list `faults`."""

    def __init__(self, text: str, faults: list[Fault]) -> None:
        yaml = YAML(typ="safe", pure=True)
        yaml.Scanner = ShallowScanner
        self.events = yaml.parse(text)
        self.faults = faults
        self.at: Position = (1, 1)

    def next(self) -> Any:
        event = next(self.events)
        self.at = (event.start_mark.line + 1, event.start_mark.column + 1)
        return event

    def fault(self, key: Key, message: str) -> None:
        self.faults.append(Fault(self.at, key, message))

    def document(self) -> Node:
        self.next()  # the start of the stream
        if isinstance(self.next(), StreamEndEvent):
            return Node(None, (1, 1), (1, 1))
        root = self.node(self.next(), (), None)
        self.next()  # the end of the document
        if not isinstance(self.next(), StreamEndEvent):
            self.fault((), "a second YAML document begins here. One is expected: delete '---' or the rest.")
            raise _StoppedError
        return root

    def node(self, event: Any, key: Key, key_at: Position | None) -> Node:
        """The node that begins with `event`; `key_at` is None where no key stands before it."""
        at = self.at
        key_at = key_at or at
        if isinstance(event, ScalarEvent) and event.style is None and not event.value:
            at = self.at = key_at  # ruamel.yaml puts an empty value where the next one stands
        if not self.is_written_out(event, key):
            return Node(None, at, key_at)
        if isinstance(event, ScalarEvent):
            return Node(self.scalar(event, key), at, key_at, event.value)
        if len(key) >= MAX_DEPTH:
            self.fault(key, f"{_TOO_DEEP}.")
            raise _StoppedError
        if isinstance(event, SequenceStartEvent):
            return Node(self.sequence(key), at, key_at)
        return Node(self.mapping(key), at, key_at)

    def sequence(self, key: Key) -> list[Node]:
        nodes: list[Node] = []
        while not isinstance(event := self.next(), SequenceEndEvent):
            nodes.append(self.node(event, (*key, len(nodes)), None))
        return nodes

    def mapping(self, key: Key) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        while not isinstance(event := self.next(), MappingEndEvent):
            at = self.at
            name = self.name(event, key)
            if name in nodes:
                line = nodes[name].key_at[0]
                self.fault((*key, name), f"this key stands in line {line} already. Keep one of the two.")
            node = self.node(self.next(), (*key, name), at)
            nodes.setdefault(name, node)
        return nodes

    def name(self, event: Any, block: Key) -> str:
        """The key that `event` holds, in the block `block`."""
        if not isinstance(event, ScalarEvent):
            if self.is_written_out(event, block):
                self.fault(block, "this key is a list or a block. Write 'name: value'.")
            raise _StoppedError
        name: str = event.value
        self.is_written_out(event, (*block, name))
        if SECRET.search(name):
            self.fault(block, f"this key {_CONFIDENTIAL.removeprefix('this ')} {NO_SECRETS}")
            raise _StoppedError
        if message := control_character(name):
            self.fault((*block, name), message)
            raise _StoppedError
        if event.style is None and name == "<<":
            self.fault((*block, name), "a merge key. Merging is refused: write the keys themselves.")
        elif event.style is None and not _is_text(name):
            self.fault((*block, name), "this key is no text to some YAML readers. Write a name in letters.")
        return name

    def is_written_out(self, event: Any, key: Key) -> bool:
        """False for an alias; reports that, an anchor and a tag."""
        if isinstance(event, AliasEvent):
            self.fault(key, "an alias ('*') of another value. Aliases are refused: write the value itself.")
            return False
        if event.anchor is not None:
            self.fault(key, "an anchor ('&'). Anchors are refused: delete it.")
        if event.ctag is not None:
            self.fault(key, "a tag ('!'). Tags are refused: delete it.")
        return True

    def scalar(self, event: Any, key: Key) -> str | int | float | bool | None:
        """The value, or None with a fault; for an empty file without one: the schema says what it lacks."""
        text: str = event.value
        try:
            value = text if event.style is not None else plain_scalar(text)
        except ValueError as error:
            if key or text:
                self.fault(key, str(error))
            return None
        if message := control_character(text):
            self.fault(key, message)
            return None
        if SECRET.search(text):
            self.fault(key, f"{_CONFIDENTIAL} {NO_SECRETS}")
            return None
        if _CREDENTIALS.search(text):
            self.fault(key, f"an address with a password or token in it. {NO_SECRETS}")
            return None
        return value


def _is_text(scalar: str) -> bool:
    try:
        return isinstance(plain_scalar(scalar), str)
    except ValueError:
        return False
