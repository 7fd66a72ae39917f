"""datasets/NAME.yaml, which says what a dataset is: found, and read as one of the KINDS."""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

from keras_pipeline.core.errors import ParamsError
from keras_pipeline.sources.kinds.arrays import Arrays
from keras_pipeline.sources.kinds.idx import Idx
from keras_pipeline.sources.kinds.images import PictureFiles
from keras_pipeline.sources.kinds.kind import Kind
from keras_pipeline.sources.kinds.made import Made
from keras_pipeline.sources.kinds.pixels import Pixels
from keras_pipeline.sources.kinds.records import Records
from keras_pipeline.sources.kinds.table import Table
from keras_pipeline.strict_yaml import reader

KINDS: tuple[type[Kind], ...] = (Idx, Arrays, Records, PictureFiles, Pixels, Table, Made)
"""Every kind, in the order in which `keras-pipeline dataset add` asks them."""
FOLDER = "datasets"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""What a dataset may be called: a file's name, which leads nowhere else."""


def kind_name(kind: type[Kind]) -> str:
    """The value of the key `kind` in its files."""
    return str(get_args(kind.model_fields["kind"].annotation)[0])


def roots() -> list[Path]:
    """Where a project's files are looked for: the current folder; the main checkout, of which an experiment of DVC's
    may be a copy; and beside the source of this package."""
    main = os.environ.get("DVC_ROOT")
    every = [Path(), *([Path(main)] if main else []), Path(__file__).resolve().parents[3]]
    return list(dict.fromkeys(every))


def dataset_names() -> list[str]:
    """All that there are, sorted."""
    found = {path.stem for root in roots() for path in (root / FOLDER).glob("*.yaml") if NAME.fullmatch(path.stem)}
    return sorted(found)


def dataset_path(name: str) -> Path | None:
    """The file of a dataset; None where there is none."""
    if not NAME.fullmatch(name):
        return None
    paths = (root / FOLDER / f"{name}.yaml" for root in roots())
    return next((path for path in paths if os.path.lexists(path)), None)


def unknown_dataset(name: str) -> str:
    """What is said of a dataset that there is not."""
    known = dataset_names()
    close = difflib.get_close_matches(name[:60].casefold(), {one.casefold(): one for one in known}, n=1)
    folded = {one.casefold(): one for one in known}
    hint = f" Did you mean '{folded[close[0]]}'?" if close else ""
    return (
        f"{name[:100]!a} is not known: {FOLDER}/{name[:100]}.yaml is not there. Known: {', '.join(known)}.{hint} "
        f"`keras-pipeline dataset add` writes the file for data of your own."
    )


def load_dataset(name: str) -> Kind:
    """What datasets/NAME.yaml says. Raises ParamsError: it is not there, or each fault with file, line, column and
    key."""
    path = dataset_path(name)
    if path is None:
        raise ParamsError(f"{unknown_dataset(name)}\nNothing was changed.")
    return read_dataset(path)


def read_dataset(path: Path) -> Kind:
    """What a dataset file says. Raises ParamsError as `load_dataset` does."""
    return _parsed(reader.read_yaml_bytes(path), str(path))


@cache
def _parsed(content: bytes, name: str) -> Kind:
    root = reader.read_tree(content, name)
    block = root.value if isinstance(root.value, dict) else {}
    known = {kind_name(kind): kind for kind in KINDS}
    node = block.get("kind")
    if node is None or node.text not in known:
        line, column = (node or root).at
        said = "missing. Add it" if node is None else f"{node.text[:60]!r} is not known. Allowed"
        close = difflib.get_close_matches(node.text[:60].casefold(), known, n=1) if node else []
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ParamsError(f"{name}:{line}:{column}: kind: {said}: {', '.join(known)}.{hint}\nNothing was changed.")
    return reader.parse_yaml(content, name, known[node.text])


def definition_digest(dataset: Kind) -> str:
    """SHA-256 of all that a dataset file says but what was there when it was written: comments and the order of keys
    make no difference."""
    values = dataset.model_dump(mode="json", exclude={"recorded"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def found_in(path: str) -> Iterator[Path]:
    """Where a relative path of a dataset file may be: in each of the `roots`."""
    for root in roots():
        yield root / path
