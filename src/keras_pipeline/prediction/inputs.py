"""The inputs that a path holds, whatever they are: the form that pictures, arrays and rows are brought to."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from keras_pipeline.sources.source_files import SourceFiles, open_source

Block = tuple[Sequence[str], NDArray[Any]]
"""What each input is called, and the raw inputs (k, ...), as `scaling.Scaling.apply` takes them."""
SHOWN = 5
"""So many files does a message name."""


@dataclass
class Inputs:
    """`place`: what says which input it is: file, index or row; `count`: how many there are, None where nobody knows
    before all are read; `notes`: what is to be said of them when all are read."""

    place: str
    count: int | None
    blocks: Iterator[Block]
    notes: list[str] = field(default_factory=list)


def open_path(path: Path) -> tuple[SourceFiles, str | None]:
    """The files at a path, and of arrays.npz/NAME the name. Raises DataError where nothing is there, or an archive that
    is not read."""
    member = None
    if not path.exists() and path.parent.suffix.lower() == ".npz" and path.parent.is_file():
        path, member = path.parent, path.name
    return open_source(path, str(path), Path(tempfile.gettempdir())), member


def listed(names: Sequence[str]) -> str:
    """Some of these names, for a message."""
    more = f", … ({len(names):,} in all)" if len(names) > SHOWN else ""
    return ", ".join(ascii(name)[1:-1] for name in names[:SHOWN]) + more
