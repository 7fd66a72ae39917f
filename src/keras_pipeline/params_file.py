"""The text of params.yaml with some of its values changed, its comments and order kept."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq


def changed(text: str, values: Mapping[str, Any]) -> str:
    """`text` with the values at these dotted keys, whose blocks are there; a last part that is not is added."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 10_000, True
    document = yaml.load(text)
    for key, value in values.items():
        *blocks, last = key.split(".")
        place = document
        for block in blocks:
            place = place[block]
        place[last] = _in_one_line(value)
    result = io.StringIO()
    yaml.dump(document, result)
    return result.getvalue()


def _in_one_line(value: Any) -> Any:
    """As people write lists and blocks there."""
    if not isinstance(value, list | dict):
        return value
    made = CommentedSeq(value) if isinstance(value, list) else CommentedMap(value)
    made.fa.set_flow_style()
    return made
