"""Where this checkout and its programs are; params.yaml by its keys."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).parent
"""The folder of this file, whose modules tests import by their plain names."""
ROOT = SUPPORT.parents[1]
SHIPPED = ROOT / "params.yaml"
PROGRAM = Path(sysconfig.get_path("scripts")) / "keras-pipeline"
"""The installed command line."""


def leaves(block: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of params.yaml by its dotted key."""
    for key, value in block.items():
        yield from leaves(value, f"{above}{key}.") if isinstance(value, dict) else [(above + key, value)]
