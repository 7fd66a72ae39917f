"""What a JSON Schema allows, and what a file holds, in the words of an error message."""

from typing import Any

from keras_pipeline.yaml_nodes import Node

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


def expected(rules: Rules) -> str:
    """`a number, 0 <= value < 1`; for a string with a pattern its description."""
    if "pattern" in rules:
        return str(rules.get("description", f"a string that matches {rules['pattern']}"))
    return ", ".join(filter(None, (noun(rules), limits(rules))))


def noun(rules: Rules) -> str:
    """`a whole number`, `one of adam, sgd`, `a block with the keys epochs, loss`."""
    if choices := options(rules):
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if "anyOf" in rules:
        return " or ".join(expected(branch) for branch in rules["anyOf"])
    if "discriminator" in rules:
        return f"a block with the key {rules['discriminator']['propertyName']}"
    if properties := rules.get("properties"):
        return f"a block with the keys {', '.join(properties)}"
    return _NOUNS.get(rules.get("type", ""), "a block" if rules.get("type") == "object" else "a value")


def options(rules: Rules) -> list[str]:
    """The values that are allowed where they can be listed, else nothing."""
    return [str(option) for option in rules.get("enum", [rules["const"]] if "const" in rules else [])]


def limits(rules: Rules) -> str:
    """`0 <= value < 1`, or of items, characters, keys; with the bounds that there are, "" for none."""
    lower = next((f"{rules[name]:.15g} {sign} " for name, sign in _LOWER.items() if name in rules), "")
    upper = next((f" {sign} {rules[name]:.15g}" for name, sign in _UPPER.items() if name in rules), "")
    multiple = f"a multiple of {rules['multipleOf']:.15g}" if "multipleOf" in rules else ""
    bounds = f"{lower}{counted(rules)}{upper}" if lower or upper else ""
    return ", ".join(filter(None, (bounds, multiple)))


def counted(rules: Rules) -> str:
    """What the bounds of such a value count."""
    return _COUNTED.get(rules.get("type", ""), "value")


def shown(node: Node) -> str:
    """A scalar as it is written, 60 characters at most."""
    if isinstance(node.value, list | dict):
        return "a list" if isinstance(node.value, list) else "a block"
    text = node.text if len(node.text) <= 60 else node.text[:59] + "…"
    return repr(text) if isinstance(node.value, str) else text
