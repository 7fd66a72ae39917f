"""`dvc exp run -S` writes params.yaml anew, in DVC's way: of the shipped file it changes the value alone."""

import difflib
import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from places import SHIPPED, leaves

TEXT = SHIPPED.read_text(encoding="utf-8")


LEAVES = dict(leaves(YAML(typ="safe").load(TEXT)))
OTHERS = {
    "model.hidden_units": [[100], [], [64, 64, 64]],
    "model.filters": [[8]],
    "model.layers": [[{"layer": "Flatten"}, {"layer": "Dense", "units": 64}]],
}


def changed_by_dvc(text: str, folder: Path, key: str, value: Any) -> str:
    """The file after `dvc exp run -S key=value`, made by the function that does it there."""
    from dvc.utils.hydra import apply_overrides

    file = folder / "params.yaml"
    file.write_text(text, encoding="utf-8")
    written = json.dumps(value).replace('"', "") if not isinstance(value, str) else value
    apply_overrides(file, [f"{key}={written}"])
    return file.read_text(encoding="utf-8").replace("l2: 1e-05 ", "l2: 1.0e-5")  # its way of writing that number


@pytest.mark.parametrize("key", LEAVES)
def test_the_same_value_changes_no_character(key: str, tmp_path: Path) -> None:
    assert changed_by_dvc(TEXT, tmp_path, key, LEAVES[key]) == TEXT


@pytest.mark.parametrize("key", LEAVES)
def test_another_value_changes_nothing_else(key: str, tmp_path: Path) -> None:
    for other in OTHERS.get(key, [7]):
        text = changed_by_dvc(TEXT, tmp_path, key, other)
        assert dict(leaves(YAML(typ="safe").load(text))) == LEAVES | {key: other}
        lines = list(difflib.ndiff(TEXT.splitlines(), text.splitlines()))
        gone, new = ([line[2:] for line in lines if line.startswith(sign)] for sign in "-+")
        name = key.rpartition(".")[2]
        assert all(line.strip().startswith((f"{name}:", "-")) for line in gone)
        assert [line.partition("#")[2] for line in gone if "#" in line] == [
            line.partition("#")[2] for line in new if "#" in line
        ]
        assert changed_by_dvc(text, tmp_path, key, LEAVES[key]) == TEXT
