"""YAML 1.2 text as a tree of values that know their line and column; only what every reader reads alike.

One pass over ruamel.yaml's events (DVC's parser), so that an alias bomb or a deep nest is refused before
anything is built from it. Values are those of `ruamel.yaml.YAML(typ="safe", pure=True)`; a scalar that
another YAML reader would take for something else is a fault, and so are anchors, aliases, tags, merge
keys, duplicate keys and keys that are no text.
"""

import re
from dataclasses import dataclass
from typing import Any

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

from keras_pipeline.yaml_scalars import plain_scalar
from keras_pipeline.yaml_text import Fault, Key, Position, control_character, decode, syntax_fault

MAX_DEPTH = 8
NO_SECRETS = "Params are committed to git and logged with every run: delete it, pass secrets by the environment."
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels, which no params are. Take levels away"
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


def parse(content: bytes) -> tuple[Node | None, list[Fault]]:
    """The tree in `content` and every fault found; no tree where `content` cannot be read to its end."""
    text, faults = decode(content)
    if faults:
        return None, faults
    composer = _Composer(text, faults)
    try:
        return composer.document(), faults
    except _StoppedError:
        pass
    except MarkedYAMLError as error:
        faults.append(syntax_fault(error))
    except (ValueError, OverflowError):  # ruamel.yaml gives the number of "\U00110000" to chr() unchecked
        message = "an escape from here on names no character, such as '\\U00110000'. Use single quotes."
        faults.append(Fault(composer.at, (), message))
    return None, faults


class _StoppedError(Exception):
    """The rest cannot be understood, or is not worth it; the reason is on the list of faults."""


class _ShallowScanner(Scanner):
    """Ends a nest of brackets while it is scanned: 1024 characters are read ahead, in quadratic time."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:  # noqa: N803
        if self.flow_level >= MAX_DEPTH:
            raise MarkedYAMLError(problem=_TOO_DEEP, problem_mark=self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)


class _Composer:
    """Builds the tree from the events of `text`, and puts what it finds wrong on the list `faults`."""

    def __init__(self, text: str, faults: list[Fault]) -> None:
        yaml = YAML(typ="safe", pure=True)
        yaml.Scanner = _ShallowScanner
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
        if _CREDENTIALS.search(text):
            self.fault(key, f"an address with a password or token in it. {NO_SECRETS}")
            return None
        return value


def _is_text(scalar: str) -> bool:
    try:
        return isinstance(plain_scalar(scalar), str)
    except ValueError:
        return False
