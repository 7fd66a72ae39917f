"""A partial params file, such as examples/fast.yaml: some of params.yaml's values, laid over it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from keras_pipeline.checks.params import CheckedParams
from keras_pipeline.config.params import Params
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml import reader
from keras_pipeline.strict_yaml.edits import edit_yaml, value_text
from keras_pipeline.strict_yaml.nodes import Key, Node


def lay_over(partial: Path, params_path: Path) -> tuple[str, str]:
    """The text of `params_path` as it is, and with the values of `partial`: blocks are joined, lists replaced;
    comments, order and the text of what stays are kept.

    Raises ParamsError naming every fault with file, line and column, where the whole would not be good.
    """
    name, whole = str(partial), str(params_path)
    content, base = reader.read_yaml_bytes(partial), reader.read_yaml_bytes(params_path)
    root, base_root = reader.read_tree(content, name), reader.read_tree(base, whole)
    if not isinstance(root.value, dict) or not root.value:
        at = "{}:{}".format(*root.at)
        _refuse(
            f"{name}:{at}: no values. Expected: some of {whole}'s, in the same blocks, such as train: {{epochs: 5}}."
        )
    changes = dict(_changes(root, base_root))
    made = reader.change_yaml(base_root, whole, changes, name, CheckedParams)
    if not isinstance(made, Params):
        _refuse(*(line if line.startswith(f"{name}:") else f"{line} (with {name})" for line in made))
    before, source = base.decode(), content.decode("utf-8-sig")
    after = edit_yaml(before, {key: value_text(source, key) for key in changes})
    if not _holds(after, made):
        way_out = "Expected: each key before its value in a line of its own."
        _refuse(f"{whole}:1:1: is written in a way in which single values cannot be changed. {way_out}")
    return before, after


def _changes(node: Node, base: Node | None, key: Key = ()) -> Iterator[tuple[Key, Node]]:
    """The values of a partial file that another does not have, by key; blocks that both have are entered."""
    if isinstance(node.value, dict) and base and isinstance(base.value, dict):
        for name, inner in node.value.items():
            yield from _changes(inner, base.value.get(name), (*key, name))
    elif base is None or repr(node.plain()) != repr(base.plain()):  # repr: 1 is not 1.0, nor true
        yield key, node


def _holds(text: str, params: Params) -> bool:
    try:
        return reader.parse_yaml(text.encode(), "", CheckedParams) == params
    except ParamsError:
        return False


def _refuse(*lines: str) -> NoReturn:
    raise ParamsError("\n".join([*lines, "Nothing was changed."]))
