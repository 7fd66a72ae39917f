"""What a pydantic schema refuses, said in the words of the file: place, key, received, expected, way out."""

import difflib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from keras_pipeline.strict_yaml.nodes import NO_SECRETS, Fault, Key, Node, Position

Rules = dict[str, Any]
"""The JSON Schema of one value, its references resolved."""
_NOUNS = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "string": "a string",
    "array": "a list",
}
_COUNTED = {"array": "items", "string": "characters", "object": "keys"}
_LOWER = {
    "minimum": "<=",
    "exclusiveMinimum": "<",
    "minLength": "<=",
    "minItems": "<=",
    "minProperties": "<=",
}
_UPPER = {
    "maximum": "<=",
    "exclusiveMaximum": "<",
    "maxLength": "<=",
    "maxItems": "<=",
    "maxProperties": "<=",
}


def expected_words(rules: Rules) -> str:
    """`a number, 0 <= value < 1`; for a string with a pattern its description."""
    if "pattern" in rules:
        return str(rules.get("description", f"a string that matches {rules['pattern']}"))
    return ", ".join(filter(None, (type_words(rules), limit_words(rules))))


def type_words(rules: Rules) -> str:
    """`a whole number`, `one of adam, sgd`, `a block with the keys epochs, loss`."""
    if choices := allowed_values(rules):
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if "anyOf" in rules:
        return " or ".join(expected_words(branch) for branch in rules["anyOf"])
    if "discriminator" in rules:
        return f"a block with the key {rules['discriminator']['propertyName']}"
    if properties := rules.get("properties"):
        return f"a block with the keys {', '.join(properties)}"
    return _NOUNS.get(rules.get("type", ""), "a block" if rules.get("type") == "object" else "a value")


def allowed_values(rules: Rules) -> list[str]:
    """The values that are allowed where they can be listed, else nothing."""
    return [str(option) for option in rules.get("enum", [rules["const"]] if "const" in rules else [])]


def limit_words(rules: Rules) -> str:
    """`0 <= value < 1`, or of items, characters, keys; with the bounds that there are, "" for none."""
    lower = next((f"{rules[name]:.15g} {sign} " for name, sign in _LOWER.items() if name in rules), "")
    upper = next((f" {sign} {rules[name]:.15g}" for name, sign in _UPPER.items() if name in rules), "")
    multiple = f"a multiple of {rules['multipleOf']:.15g}" if "multipleOf" in rules else ""
    bounds = f"{lower}{counted_words(rules)}{upper}" if lower or upper else ""
    return ", ".join(filter(None, (bounds, multiple)))


def counted_words(rules: Rules) -> str:
    """What the bounds of such a value count."""
    return _COUNTED.get(rules.get("type", ""), "value")


def shown_value(node: Node) -> str:
    """A scalar as it is written, 60 characters at most."""
    if isinstance(node.value, list | dict):
        return "a list" if isinstance(node.value, list) else "a block"
    text = node.text if len(node.text) <= 60 else node.text[:59] + "…"
    return repr(text) if isinstance(node.value, str) else text


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


def translate_faults(error: ValidationError, root: Node, schema: type[BaseModel]) -> list[Fault]:
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
    of_any_key = next(iter(rules.get("patternProperties", {}).values()), rules.get("additionalProperties"))
    inner = rules.get("properties", {}).get(part, of_any_key)
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
        return f"missing. Add it: {expected_words(rules)}."
    if "anyOf" in rules:
        return f"{shown_value(node)} is not accepted. Expected: {expected_words(rules)}."
    choices = allowed_values(rules) if kind.startswith(("literal", "enum", "union_tag")) else []
    if choices and not isinstance(node.value, list | dict):
        hint = did_you_mean(node.text, choices)
        return f"{shown_value(node)} is not known. Allowed: {', '.join(choices)}.{hint}"
    if choices or kind.endswith("_type"):
        return _wrong_type(node, rules)
    if kind.endswith(("_short", "_long")):
        return f"{len(node.value)} is not the right number of {counted_words(rules)}. Expected: {limit_words(rules)}."
    if kind == "string_pattern_mismatch":
        return f"{shown_value(node)} does not fit. Expected: {expected_words(rules)}."
    if kind.startswith(("greater", "less", "multiple")):
        return f"{shown_value(node)} is out of range. Expected: {limit_words(rules)}."
    return detail["msg"]


def _unknown_key(place: _Place, whole: Rules) -> str:
    *block, name = map(str, place.key)
    if _SECRET_NAME.search(name):
        return f"this key is not known, and looks like a secret. {NO_SECRETS}"
    known = list(place.block.get("properties", {}))
    allowed = f"Allowed: {', '.join(known)}." if known else "No key is."
    home = next((home for home in _homes(name, whole, whole, ()) if home != tuple(block)), None)
    hint = did_you_mean(name, known) if home is None else f" It belongs {_where(home)}."
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


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """ " Did you mean 'x'?" where one of the options is near, else nothing."""
    folded = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(word[:60].casefold(), folded, n=1)
    return f" Did you mean '{folded[close[0]]}'?" if close else ""


def _wrong_type(node: Node, rules: Rules) -> str:
    wanted = type_words(rules)
    if node.value is None:
        received = "the file holds no params"
    elif isinstance(node.value, list | dict):
        received = f"{shown_value(node)} is given"
    else:
        received = f"{shown_value(node)} is {_KINDS[type(node.value)]}"
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
