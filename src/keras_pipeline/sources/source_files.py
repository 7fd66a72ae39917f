"""The files of a dataset: those of a folder, one file, or the members of an archive, which is read in place."""

from pathlib import Path
from typing import BinaryIO, Protocol


class SourceFiles(Protocol):
    """Names are relative POSIX paths. An instance can be pickled: another process opens the files for itself.

    What no dataset is made of is left out: names that begin with a dot, Thumbs.db, __MACOSX.
    """

    name: str
    """How messages call it: the path as the dataset file has it."""

    def names(self) -> list[str]:
        """All names, sorted. Raises DataError for a link, or a name with a control character, or two that are one
        after Unicode normalization (NFC) and case folding."""
        ...

    def size(self, name: str) -> int:
        """Bytes, as the folder or the archive has it."""
        ...

    def open(self, name: str) -> BinaryIO:
        """The content, to read and seek. Raises DataError where it is missing or no regular file."""
        ...

    def local(self, name: str) -> Path | None:
        """The file, where it is one of its own: to be mapped into memory. None in an archive."""
        ...
