"""One YAML file against one pydantic schema: a typed value, or every fault at once with line and column.

What is read as YAML is said in `nodes`, what the schema's refusals are called in `faults`.
"""

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml.faults import translate_faults
from keras_pipeline.strict_yaml.nodes import MAX_BYTES, Fault, Key, Node, parse_nodes

Model = TypeVar("Model", bound=BaseModel)
_MAX_LINES = 30


def load_yaml(path: Path, schema: type[Model]) -> Model:
    """`parse_yaml` of the file at `path`, named as given. Raises ParamsError also where it cannot be read."""
    return parse_yaml(read_yaml_bytes(path), str(path), schema)


def parse_yaml(content: bytes, name: str, schema: type[Model]) -> Model:
    """`content`, UTF-8 YAML of at most 64 KiB, as `schema` types it; strictly: no value is converted.

    Raises ParamsError with a line for each fault, `name:line:column: key: what is wrong`, in the order of
    the file and 30 at most, and the last line "Nothing was changed."
    """
    root, faults = parse_nodes(content)
    if root is not None:
        try:
            model = schema.model_validate_json(json.dumps(root.plain()), strict=True)
        except ValidationError as error:
            known = {fault.key for fault in faults}
            faults += [fault for fault in translate_faults(error, root, schema) if fault.key not in known]
        else:
            if not faults:
                return model
    raise ParamsError("\n".join([*_lines(name, faults), "Nothing was changed."]))


def parse_tree(content: bytes) -> Node:
    """What good YAML holds, with its places."""
    root, _ = parse_nodes(content)
    if root is None:
        raise ValueError("this is not good YAML")
    return root


def read_tree(content: bytes, name: str) -> Node:
    """What the file `name` holds, with its places. Raises ParamsError as `parse_yaml` does, but for what a schema would
    refuse."""
    root, faults = parse_nodes(content)
    if root is None or faults:
        raise ParamsError("\n".join([*_lines(name, faults), "Nothing was changed."]))
    return root


def change_yaml(
    root: Node, name: str, changes: Mapping[str, Node] | Mapping[Key, Node], changes_name: str, schema: type[Model]
) -> Model | list[str]:
    """The file with the tree `root` with the nodes `changes` of another file at keys, dotted or in parts, as `schema`
    types it; or a line for each fault, with the file, line and column where its value stands."""
    ours = {tuple(key.split(".")) if isinstance(key, str) else key: node for key, node in changes.items()}
    for key, node in ours.items():
        root = _grafted(root, key, node)
    try:
        return schema.model_validate_json(json.dumps(root.plain()), strict=True)
    except ValidationError as error:
        lines = []
        for fault in translate_faults(error, root, schema):
            within = any(fault.key[: len(key)] == key for key in ours)
            below = [node for key, node in ours.items() if key[: len(fault.key)] == fault.key]
            if below and not within:  # of a block that both files have values of
                fault = fault._replace(at=below[0].key_at)
            lines += _lines(changes_name if within or below else name, [fault])
        return lines


def _grafted(node: Node, key: Key, new: Node) -> Node:
    if not key:
        return new
    block = node.value if isinstance(node.value, dict) else {}
    inner = block.get(key[0], Node({}, new.at, new.key_at))
    at = node if isinstance(node.value, dict) else new
    return replace(at, value={**block, key[0]: _grafted(inner, key[1:], new)})


def read_yaml_bytes(path: Path) -> bytes:
    """At most one byte more than is allowed, of a regular file: neither a pipe nor a device can hold us."""
    try:
        if stat.S_ISREG(mode := path.stat().st_mode):
            with path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        reason = f"this is {kind}. A YAML file is expected: name one."
    except FileNotFoundError:
        reason = f"no such file. Run the command where it is, or restore it: `git restore {path}`."
        if path.is_symlink():
            reason = f"a link to '{path.readlink()}', where no file is. Restore that file, or replace the link."
    except OSError as error:
        reason = f"cannot be read: {error.strerror}. Expected: a file you may read, see `ls -l {path}`."
    raise ParamsError(f"{path}: {reason}\nNothing was changed.")


def _lines(name: str, faults: list[Fault]) -> list[str]:
    lines: dict[str, None] = {}
    for (line, column), key, message in sorted(faults, key=lambda fault: fault.at):
        if len(lines) == _MAX_LINES:
            return [*lines, f"{name}:{line}:{column}: more from here on. Mend the above first."]
        place = f"{name}:{line}:{column}: {_dotted(key)}: " if key else f"{name}:{line}:{column}: "
        lines[place + " ".join(message.split())] = None
    return list(lines)


def _dotted(key: Key) -> str:
    """`model.layers[2].units`; a part that is no word is quoted and cut."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." * bool(text) + (part if re.fullmatch(r"[\w-]{1,60}", part) else repr(part[:60]))
    return text
