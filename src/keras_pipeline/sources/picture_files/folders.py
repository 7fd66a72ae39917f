"""Pictures in folders: a folder a class, and above these, if there are any, train, validation and test."""

import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from keras_pipeline.core.errors import DataError
from keras_pipeline.sources import pictures
from keras_pipeline.sources.kinds.kind import Split
from keras_pipeline.sources.tables.divisions import split_named

if TYPE_CHECKING:
    from keras_pipeline.sources.source_files import SourceFiles

SHOWN = 5
"""So many files, folders or classes does a message name."""


class Placed(NamedTuple):
    """Where a picture is: the folder that is its class, "" for none, and the split of that above it."""

    name: str
    folder: str
    split: Split | None


def placed_pictures(source: "SourceFiles", classes: Collection[str]) -> list[Placed]:
    """All pictures, sorted by the names of their files, whatever folders these are in, then by path.

    `classes`: the names of folders that are classes. Folders that every picture is in are not looked at, if they are no
    class. Raises DataError where there are other files, a picture in no folder, or a folder that is no class.
    """
    names = sorted(picture_names(source), key=_by_file_name)
    placed = placed_in_folders(names, classes)
    _require_classes(source, placed, classes)
    return placed


def picture_names(source: "SourceFiles") -> list[str]:
    """All files. Raises DataError where one is no picture by its name, or there is none."""
    names = source.names()
    others = [name for name in names if not is_picture(name)]
    if others:
        raise DataError(
            f"{source.name}: {listed(others)}: no picture by its name. Expected: {', '.join(pictures.ENDINGS)}. Remove "
            "what is no picture, or let its name begin with a dot."
        )
    if not names:
        raise DataError(f"{source.name}: no file is in it. Expected: a folder a class, with pictures in it.")
    return names


def is_picture(name: str) -> bool:
    """Whether a file is called as pictures are."""
    return name.lower().endswith(pictures.ENDINGS)


def placed_in_folders(names: Sequence[str], classes: Collection[str]) -> list[Placed]:
    """Where each of these files is."""
    parts = [unicodedata.normalize("NFC", name).split("/") for name in names]
    first, last = min(parts, default=[]), max(parts, default=[])
    above = 0
    while above < min(len(first), len(last)) - 1 and first[above] == last[above] and first[above] not in classes:
        above += 1
    tops = {one[above] for one in parts if len(one) > above + 1}
    if tops and all(map(split_named, tops)) and not tops <= set(classes):
        return [
            Placed(name, one[above + 1] if len(one) > above + 2 else "", split_named(one[above]))
            for name, one in zip(names, parts, strict=True)
        ]
    return [
        Placed(name, one[above] if len(one) > above + 1 else "", None) for name, one in zip(names, parts, strict=True)
    ]


def _by_file_name(name: str) -> tuple[str, str]:
    path = unicodedata.normalize("NFC", name)
    return path.rpartition("/")[2], path


def _require_classes(source: "SourceFiles", placed: Sequence[Placed], classes: Collection[str]) -> None:
    folders: dict[str, list[str]] = {}
    for one in placed:
        folders.setdefault(one.folder, []).append(one.name)
    if "" in folders:
        raise DataError(
            f"{source.name}: {listed(folders[''])}: in no class's folder. Expected: a folder a class, and above them "
            "at most train, validation and test. Move them, or list files and labels in a CSV: `table` of the dataset "
            "file."
        )
    unknown = [folder for folder in folders if folder not in classes]
    if unknown:
        shown = "; ".join(f"{folder!a} with {listed(folders[folder], 1)}" for folder in unknown[:SHOWN])
        more = f"; {len(unknown) - SHOWN} folders more" if len(unknown) > SHOWN else ""
        raise DataError(
            f"{source.name}: no class is called as the folder {shown}{more}. Expected: {listed(sorted(classes))}. Add "
            "it to `classes` of the dataset file, or remove the folder."
        )
    spellings: dict[str, str] = {}
    for folder in folders:
        other = spellings.setdefault(folder.casefold(), folder)
        if other != folder:
            raise DataError(
                f"{source.name}: the folders {other!a} and {folder!a} are one on some machines. Expected: names that "
                "differ in more than case. Rename one."
            )


def listed(values: Sequence[str], most: int = SHOWN) -> str:
    """The first of these, quoted, and how many more there are."""
    shown = ", ".join(f"{value!a:.200}" for value in values[:most])
    return f"{shown} and {len(values) - most:,} more" if len(values) > most else shown


def contents_of(source: "SourceFiles", names: Sequence[str]) -> Callable[[int], Iterator[bytes]]:
    """What gives the bytes of each of these files, from a number on; of one that is too large more than are allowed."""

    def contents(start: int) -> Iterator[bytes]:
        for name in names[start:]:
            with source.open(name) as file:
                yield file.read(pictures.MOST_BYTES + 1)

    return contents
