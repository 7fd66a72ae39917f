"""What a pydantic schema refuses, said in the words of the file: place, key, received, expected, way out.

The expectation is read from the schema's JSON Schema, which has in one form what pydantic's error does not
tell: both bounds of a range, the description of a pattern, the keys that a block may have.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from keras_pipeline.schema_words import Rules, counted, expected, limits, noun, options, shown
from keras_pipeline.yaml_nodes import NO_SECRETS, Node
from keras_pipeline.yaml_text import Fault, Key, Position

_SECRET_NAME = re.compile(r"(?i)token|passw|secret|api_?key|credential|private_?key")
_NUMBER = re.compile(r"[-+]?[0-9.]{1,30}([eE][-+]?[0-9]{1,9})?")
_KINDS = {str: "a string", bool: "a boolean", int: "a whole number", float: "a decimal number"}


class Block(BaseModel):
    """The base of every block of a file: no other keys, no conversions, no infinities, no changes."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class KeyedError(ValueError):
    """What a schema's own validator raises to say which key its message is about.

    `key` is relative to the model that the validator belongs to: `KeyedError(("layers", 2), "does not fit.")`
    in `model` is reported at the third layer, as `model.layers[2]: does not fit.`; a key that is not in the
    file is reported at the block that should hold it. `others` are reported along with it. A plain
    ValueError is reported, as it is written, at the field or model of its validator.
    """

    def __init__(self, key: Key, message: str, *others: "KeyedError") -> None:
        super().__init__(message)
        self.key = key
        self.others = others


class _Place(NamedTuple):
    """Where the schema refused: `node` is None for a missing key, `rules` are those of its value."""

    at: Position
    key: Key
    node: Node | None
    rules: Rules
    block: Rules


def schema_faults(error: ValidationError, root: Node, schema: type[BaseModel]) -> list[Fault]:
    """The faults in `error`, in the order of the file `root`; a hundred at most."""
    whole = _json_schema(schema)
    refused: list[tuple[_Place, ErrorDetails]] = []
    for detail in error.errors(include_url=False, include_input=False):
        refused += [(_locate(key, one, root, whole), one) for key, one in _each(detail)]
    refused.sort(key=lambda pair: pair[0].at)
    return [Fault(place.at, place.key, _message(detail, place, whole)) for place, detail in refused[:100]]


@cache
def _json_schema(schema: type[BaseModel]) -> Rules:
    return schema.model_json_schema()


def _each(detail: ErrorDetails) -> Iterator[tuple[Key, ErrorDetails]]:
    cause = detail.get("ctx", {}).get("error")
    if not isinstance(cause, KeyedError):
        yield detail["loc"], detail
        return
    for keyed in (cause, *cause.others):
        yield (*detail["loc"], *keyed.key), {**detail, "ctx": {"error": keyed}}


def _locate(parts: Key, detail: ErrorDetails, root: Node, whole: Rules) -> _Place:
    place = _Place(root.at, (), root, _resolved(whole, whole), {})
    for part in parts:
        place = _step(place, part, whole)
    if detail["type"].startswith("union_tag"):
        place = _step(place, place.rules.get("discriminator", {}).get("propertyName", ""), whole)
    if place.node and detail["type"] == "extra_forbidden":
        return place._replace(at=place.node.key_at)
    return place


def _step(place: _Place, part: str | int, whole: Rules) -> _Place:
    """One part of pydantic's `loc` further; one that names a branch of a union leads to no other key."""
    branches = place.rules.get("discriminator", {}).get("mapping", {})
    if part in branches:
        return place._replace(rules=_resolved({"$ref": branches[part]}, whole))
    value = place.node.value if place.node else None
    node = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        node = value[part]
    rules = _inner(place.rules, part)
    if node is None and rules is None:
        return place
    at = place.at
    if node is not None:
        at = node.key_at if isinstance(node.value, dict) else node.at
    elif place.node is not None:
        at = place.node.key_at
    return _Place(at, (*place.key, part), node, _resolved(rules or {}, whole), place.rules)


def _inner(rules: Rules, part: str | int) -> Rules | None:
    """The rules of what `part` names in a block or list; None when they know no such part."""
    discriminator = rules.get("discriminator", {})
    if part == discriminator.get("propertyName"):
        return {"enum": list(discriminator["mapping"])}
    inner = rules.get("properties", {}).get(part, rules.get("additionalProperties"))
    if isinstance(part, int):
        first = rules.get("prefixItems", [])
        inner = first[part] if part < len(first) else rules.get("items")
    return inner if isinstance(inner, dict) else None


def _resolved(rules: Rules, whole: Rules) -> Rules:
    """`rules` with what they refer to in place, and without the null that an optional key may have."""
    while "$ref" in rules:
        own = {name: rule for name, rule in rules.items() if name != "$ref"}
        rules = {**whole["$defs"][rules["$ref"].rpartition("/")[2]], **own}
    if "anyOf" in rules:
        branches = [_resolved(one, whole) for one in rules["anyOf"] if one.get("type") != "null"]
        own = {name: rule for name, rule in rules.items() if name != "anyOf"}
        rules = {**branches[0], **own} if len(branches) == 1 else {**own, "anyOf": branches}
    return rules


def _message(detail: ErrorDetails, place: _Place, whole: Rules) -> str:
    kind, node, rules = detail["type"], place.node, place.rules
    cause = detail.get("ctx", {}).get("error")
    if cause is not None:
        return str(cause)
    if kind == "extra_forbidden":
        return _unknown_key(place, whole)
    if node is None:
        return f"missing. Add it: {expected(rules)}."
    if "anyOf" in rules:
        return f"{shown(node)} is not accepted. Expected: {expected(rules)}."
    choices = options(rules) if kind.startswith(("literal", "enum", "union_tag")) else []
    if choices and not isinstance(node.value, list | dict):
        hint = _did_you_mean(node.text, choices)
        return f"{shown(node)} is not known. Allowed: {', '.join(choices)}.{hint}"
    if choices or kind.endswith("_type"):
        return _wrong_type(node, rules)
    if kind.endswith(("_short", "_long")):
        return f"{len(node.value)} is not the right number of {counted(rules)}. Expected: {limits(rules)}."
    if kind == "string_pattern_mismatch":
        return f"{shown(node)} does not fit. Expected: {expected(rules)}."
    if kind.startswith(("greater", "less", "multiple")):
        return f"{shown(node)} is out of range. Expected: {limits(rules)}."
    return detail["msg"]


def _unknown_key(place: _Place, whole: Rules) -> str:
    *block, name = map(str, place.key)
    if _SECRET_NAME.search(name):
        return f"this key is not known, and looks like a secret. {NO_SECRETS}"
    known = list(place.block.get("properties", {}))
    allowed = f"Allowed: {', '.join(known)}." if known else "No key is."
    home = next((home for home in _homes(name, whole, whole, ()) if home != tuple(block)), None)
    hint = _did_you_mean(name, known) if home is None else f" It belongs {_where(home)}."
    return f"this key is not known here. {allowed}{hint}"


def _where(block: tuple[str, ...]) -> str:
    return f"in {'.'.join(block)}" if block else "at the top level"


def _homes(name: str, rules: Rules, whole: Rules, key: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The blocks that know the key `name`, nearest to the top first, in `rules` of the block `key`."""
    rules = _resolved(rules, whole)
    if name in rules.get("properties", {}):
        yield key
    if len(key) < 4:
        for branch in rules.get("oneOf", []):
            yield from _homes(name, branch, whole, key)
        for part, inner in rules.get("properties", {}).items():
            yield from _homes(name, inner, whole, (*key, part))


def _did_you_mean(word: str, options: Iterable[str]) -> str:
    folded = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(word[:60].casefold(), folded, n=1)
    return f" Did you mean '{folded[close[0]]}'?" if close else ""


def _wrong_type(node: Node, rules: Rules) -> str:
    wanted = noun(rules)
    if node.value is None:
        received = "the file holds no params"
    elif isinstance(node.value, list | dict):
        received = f"{shown(node)} is given"
    else:
        received = f"{shown(node)} is {_KINDS[type(node.value)]}"
    return f"{received}. {wanted[0].upper()}{wanted[1:]} is expected{_way_out(node, rules.get('type'))}."


def _way_out(node: Node, wanted: str | None) -> str:
    value = node.value
    match wanted, value:
        case "array", dict():
            return ": begin each item with '- '"
        case "array", str() | int() | float():
            return f": write [{node.text[:40]}]"
        case "string", bool() | int() | float():
            return f": write '{node.text[:40]}'"
        case "integer", float() if value.is_integer() and abs(value) < 1e18:
            return f": write {int(value)}"
        case "integer" | "number", str() if _NUMBER.fullmatch(value):
            return f": write {value} without quotes"
    return ""
