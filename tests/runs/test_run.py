"""The params of a run, made of the text of params.yaml and what it changes."""

from typing import Any

import pytest
from ruamel.yaml import YAML

from keras_pipeline.runs.run import change_params

LISTS = {
    "in one line": "m:\n  l: [1, 2]   # c\n",
    "below": "m:\n  l:\n  - 1\n  - 2\n",
    "below a comment": "m:\n  l:   # c\n  - 1\n  - 2\n",
    "indented below a comment": "m:\n  l:   # c\n    - 1\n    - 2\n",
    "empty": "m:\n  l: []   # c\n",
}


@pytest.mark.parametrize("style", LISTS)
@pytest.mark.parametrize("value", [[], [5], [{"layer": "Dense", "units": 3}]], ids=str)
def test_a_list_is_changed_in_whatever_style_it_is_written(style: str, value: list[Any]) -> None:
    text = change_params(f"{LISTS[style]}  o: 1   # c\n\nt:\n  e: 1\n", {"m.l": value})
    assert YAML(typ="safe").load(text) == {"m": {"l": value, "o": 1}, "t": {"e": 1}}
    assert text.count("# c") == 1 + ("# c" in LISTS[style])
    assert text.endswith("\n\nt:\n  e: 1\n")
