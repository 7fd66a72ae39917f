"""Which names files of a dataset may have, and what is said of those that may not."""

import unicodedata
from collections.abc import Iterable

from keras_pipeline.core.errors import DataError

MOST_FILES = 10_000_000
_LEFT_OUT = ("thumbs.db", "__macosx", "desktop.ini")


def checked_names(names: Iterable[str], where: str) -> list[str]:
    """Those that a dataset can be made of, sorted. Raises DataError for one that no file may have."""
    kept: list[str] = []
    folded: dict[str, str] = {}
    for name in sorted(names):
        parts = name.split("/")
        if any(map(is_left_out, parts)) and ".." not in parts:
            continue
        if not name.isprintable() and any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
            raise DataError(f"{where}: {name!a}: a control character or no UTF-8 in a name. Rename the file.")
        if ".." in parts or name.startswith("/") or "\\" in name:
            raise DataError(f"{where}: {name!a} leads out of it. Expected: names of files in it. Pack it anew.")
        one = name if name.isascii() else unicodedata.normalize("NFC", name)
        other = folded.setdefault(one.casefold(), name)
        if other != name:
            raise DataError(
                f"{where}: {other!a} and {name!a} are one name on some machines. Expected: names that differ in more "
                "than case and accents' encoding. Rename one of them."
            )
        kept.append(name)
    return kept


def missing(where: str, name: str) -> DataError:
    """What is raised for a file that is not in the folder or archive."""
    return DataError(f"{where}: {name!a} is not in it. Expected: that file. Mend the dataset file, or the data.")


def too_many(name: str) -> DataError:
    """What is raised for more files than any dataset has."""
    return DataError(f"{name}: more than {MOST_FILES:,} files. Expected: fewer. Pack many examples into one file.")


def link(where: str, name: str) -> DataError:
    """What is raised for what is neither file nor folder."""
    return DataError(
        f"{where}: {name!a}: a link, a pipe or a device. Expected: files and folders. Put the file itself there."
    )


def is_left_out(name: str) -> bool:
    """Whether programs put files and folders of this name beside people's."""
    return name.startswith(".") or name.casefold() in _LEFT_OUT
