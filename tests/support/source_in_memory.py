"""Files of a dataset that are on no disk: what a kind reads them from."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources.kinds.kind import Examples


class InMemory:
    """The files by name, as `SourceFiles`."""

    def __init__(self, files: Mapping[str, bytes], name: str = "data/own") -> None:
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
            raise DataError(f"{self.name}: got no file {name!a}. Expected: one of {', '.join(self.files)}.")
        return self.files[name]


def images_of(examples: Examples, done: int = 0) -> Any:
    """All images in one array."""
    import numpy as np

    blocks = [block for block, _ in examples.inputs.blocks(done)]  # type: ignore[union-attr]
    return np.concatenate(blocks) if blocks else np.empty(0)
