"""Whether a stage of DVC ends beside the params and the code that it began with.

DVC notes what stands there when a stage ends. Where that was edited meanwhile, it would take what was made of the old
for what the new gives, and never run the stage again.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_pipeline.core.errors import BusyError

_SHOWN = 5


@contextmanager
def require_unchanged_inputs(stage: str) -> Iterator[None]:
    """For the time that DVC runs this stage; raises BusyError at the end where the values of params.yaml or the code
    that dvc.yaml names for it are no longer those of the beginning. Does nothing where DVC does not run it."""
    if "DVC_STAGE" not in os.environ:
        yield
        return
    before = _inputs(stage)
    yield
    after = _inputs(stage)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise BusyError(
            f"{', '.join(changed[:_SHOWN])}{more} changed while this stage ran, and DVC would note what it wrote as "
            "made of that. Run `dvc repro` again; with the old values back, a training goes on from its last "
            "checkpoint. To edit while a training runs, begin it with `dvc exp run --temp`, which takes a copy."
        )


def _inputs(stage: str) -> dict[str, Any]:
    """What dvc.yaml of the current folder names for the stage: each value of its params, and each file of its code.
    Nothing of a stage that DVC always runs."""
    asked = _plain(Path("dvc.yaml")).get("stages", {}).get(stage, {})
    if asked.get("always_changed"):
        return {}
    values = _plain(Path("params.yaml"))
    found: dict[str, Any] = {}
    for name in asked.get("params", []):
        value: Any = values
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        found |= _flat(f"params.yaml: {name}", value)
    for path in (Path(one) for one in asked.get("deps", []) if one.startswith("src/")):
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found[str(file)] = file.read_bytes() if file.is_file() else None
    return found


def _plain(path: Path) -> dict[str, Any]:
    """What a file holds if it is there and good YAML, else nothing: what is wrong with it is told elsewhere."""
    from keras_pipeline.strict_yaml.nodes import parse_nodes

    root, _ = parse_nodes(path.read_bytes()) if path.is_file() else (None, None)
    value = root.plain() if root else None
    return value if isinstance(value, dict) else {}


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {key: one for inner, own in value.items() for key, one in _flat(f"{name}.{inner}", own).items()}
