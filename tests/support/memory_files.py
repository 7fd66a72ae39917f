"""A dataset's files that are nowhere but in memory: `sources.source_files.SourceFiles` for tests of one kind."""

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_pipeline.sources.files.names import missing
from keras_pipeline.sources.kinds.kind import Examples


class MemoryFiles:
    """The files by their names; `name` is what messages call the whole."""

    def __init__(self, files: dict[str, bytes], name: str = "data") -> None:
        self.files, self.name = files, name

    def names(self) -> list[str]:
        return sorted(self.files)

    def size(self, name: str) -> int:
        return len(self._content(name))

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._content(name))

    def local(self, name: str) -> Path | None:
        return None

    def _content(self, name: str) -> bytes:
        if name not in self.files:
            raise missing(self.name, name)
        return self.files[name]


def images_of(examples: Examples, done: int = 0) -> Any:
    """All images of a dataset in one array."""
    blocks = [block for block, _ in examples.inputs.blocks(done)]  # type: ignore[union-attr]
    return np.concatenate(blocks) if blocks else np.empty(0)
