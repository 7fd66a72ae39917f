"""What a plain (unquoted) YAML scalar means, as far as every YAML reader agrees on it.

YAML 1.1 and 1.2 readers, and ruamel.yaml's mixture of both, differ on `no`, `010`, `1_000`, `12:30` and
their like; those are refused here instead of being read in one of the ways.
"""

import math
import re

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
