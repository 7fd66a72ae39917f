"""What a run was made of: digests of its code, data and params, versions, and the git commit."""

import ast
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_pipeline import files
from keras_pipeline.params import flat
from keras_pipeline.strict_yaml import Block

PACKAGE = "keras_pipeline"
# fmt: off
RECORD = (
    "key", "name", "started", "ended", "train_seconds", "params", "dataset", "sha256", "git", "history",
    "best_epoch", "weights", "strategy", "resumed", "reproducibility",
)
# fmt: on
"""What every reader of models/run.json relies on."""
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn", "mlflow", "dvc")
BESIDE_TRAINING = ("scikit-learn", "mlflow", "dvc")
"""The libraries that a training's result does not depend on."""


def flat_params(blocks: dict[str, Block | int]) -> dict[str, int | float | bool | str]:
    """The values of params blocks (or of single values, such as seed) by dotted key."""
    result: dict[str, int | float | bool | str] = {}
    for name, block in blocks.items():
        result.update(flat(block, f"{name}.") if isinstance(block, Block) else {name: block})
    return result


def params_digest(flat_values: dict[str, Any]) -> str:
    """SHA-256 over the values, whatever their order."""
    return hashlib.sha256(json.dumps(flat_values, sort_keys=True).encode()).hexdigest()


def imported_modules(module: str) -> set[str]:
    """`module` and every module of this package that it imports, directly or not, anywhere in its source."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += _own_imports(source_file(name))
    return found


def source_file(module: str) -> Path:
    """The file of a module of this package, whether it exists or not."""
    path = Path(__file__).parent.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def code_digest(module: str) -> str:
    """SHA-256 over the sources of `imported_modules`."""
    digests = sorted((name, files.sha256(source_file(name))) for name in imported_modules(module))
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Python, the libraries that decide the result as far as they are installed, and the machine's kind."""
    installed = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
    return {
        "python": platform.python_version(),
        **{name: installed[name] for name in LIBRARIES if name in installed},
        "system": f"{platform.system()} {platform.machine()}",
    }


def environment() -> list[str]:
    """Every installed distribution as name==version, as pip's requirements are written, in order."""
    found = importlib.metadata.distributions()
    return sorted({f"{one.metadata['Name'].lower()}=={one.version}" for one in found})


def git_state() -> dict[str, Any]:
    """commit (None outside a git repository or before its first commit) and dirty: whether tracked files differ."""
    commit = _git("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _own_imports(source: Path) -> Iterable[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from a.b import c`: c is a module or a name in the module a.b.
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if source_file(name).is_file() else node.module for name in modules]
        yield from (name for name in names if name.split(".")[0] == PACKAGE)
