"""Which folder is a project: looked for upwards, as git and DVC do."""

import os.path
from pathlib import Path

PARAMS = Path("params.yaml")
MARKS = ("dvc.yaml", PARAMS.name)
"""A folder with any of these is a project; of the folders above the one that is asked for, those with the first."""


def find_project(folder: Path) -> Path | None:
    """The project that a folder, an absolute path, is in: itself, or the nearest above it; None where there is none."""
    if any(os.path.isfile(folder / mark) for mark in MARKS):  # noqa: PTH113 - false, whatever is wrong with it
        return folder
    return next((above for above in folder.parents if os.path.isfile(above / MARKS[0])), None)  # noqa: PTH113
