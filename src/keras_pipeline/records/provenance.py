"""What a run was made of: digests of its code and params, and versions."""

import ast
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_pipeline.config.params import flatten
from keras_pipeline.strict_yaml.faults import Block

PACKAGE = "keras_pipeline"
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn", "mlflow", "dvc")
UNUSED_BY_TRAINING = ("scikit-learn", "mlflow", "dvc")
"""The libraries that a training's result does not depend on."""


def flat_params(blocks: dict[str, Block | int]) -> dict[str, int | float | bool | str]:
    """The values of params blocks (or of single values, such as seed) by dotted key."""
    result: dict[str, int | float | bool | str] = {}
    for name, block in blocks.items():
        result.update(flatten(block, f"{name}.") if isinstance(block, Block) else {name: block})
    return result


def short_param_name(key: str, keys: Iterable[str]) -> str:
    """The last part of a dotted key that says something: of train.optimizer.name the optimizer, of model.dropout
    dropout; with the part before it where another of `keys` ends so too."""
    *blocks, last = key.split(".")
    if last == "name" and blocks:
        return blocks[-1]
    shared = any(other != key and other.rpartition(".")[2] == last for other in keys)
    return f"{blocks[-1]}.{last}" if shared and blocks else last


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
    path = Path(__file__).parents[1].joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def code_digest(module: str) -> str:
    """SHA-256 over what `imported_modules` do: their syntax trees, without docstrings and comments.

    `strict_yaml` is left out, since it gives the values of params.yaml, which are recorded, or none.
    """
    names = sorted(name for name in imported_modules(module) if f"{name}.".split(".")[1] != "strict_yaml")
    syntax = [(name, _without_docstrings(ast.parse(source_file(name).read_text(encoding="utf-8")))) for name in names]
    return hashlib.sha256(json.dumps(syntax).encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Python, the libraries that decide the result as far as they are installed, and the machine's kind."""
    installed = dict(reversed([*_installed()]))  # of two, the one that is imported: the first
    return {
        "python": platform.python_version(),
        **{name: installed[name] for name in LIBRARIES if name in installed},
        "system": f"{platform.system()} {platform.machine()}",
    }


def installed_packages() -> list[str]:
    """Every installed distribution as name==version, as pip's requirements are written, in order; not from where."""
    return sorted({f"{name}=={version}" for name, version in _installed()})


def _installed() -> Iterator[tuple[str, str]]:
    """Name and version of each distribution; what an interrupted pip left of one has neither."""
    for one in importlib.metadata.distributions():
        if {"Name", "Version"} <= {*one.metadata}:
            yield one.metadata["Name"].lower(), one.version


def _without_docstrings(node: Any) -> Any:
    """A syntax tree as JSON values; what is empty is left out, so that it is the same for every version of Python."""
    if isinstance(node, list):
        return [_without_docstrings(one) for one in node]
    if not isinstance(node, ast.AST):
        return f"{type(node).__name__} {node!r}"
    fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        fields["body"] = [one for one in node.body if not _is_string(one)]  # after a constant or a field too
    return [type(node).__name__, {name: _without_docstrings(value) for name, value in fields.items()}]


def _is_string(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _own_imports(source: Path) -> Iterable[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from a.b import c`: c is a module or a name in the module a.b.
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if source_file(name).is_file() else node.module for name in modules]
        yield from (name for name in names if name.split(".")[0] == PACKAGE)


TRAINING = "keras_pipeline.stages.train"
