"""A dataset's files that are nowhere but in memory: `sources.source_files.SourceFiles` for tests of one kind."""

import io
from pathlib import Path
from typing import BinaryIO


class MemoryFiles:
    """The files by their names; `name` is what messages call the whole."""

    def __init__(self, files: dict[str, bytes], name: str = "data") -> None:
        self.files, self.name = files, name

    def names(self) -> list[str]:
        return sorted(self.files)

    def size(self, name: str) -> int:
        return len(self.files[name])

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.files[name])

    def local(self, name: str) -> Path | None:
        return None
