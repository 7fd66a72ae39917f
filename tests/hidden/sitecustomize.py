"""Packages that the tests' processes are to see as not installed: those that the variable HIDDEN_PACKAGES names.

Python imports this file when it starts, wherever its folder is on PYTHONPATH.
"""

import os
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution
from typing import Any

VARIABLE = "HIDDEN_PACKAGES"


class VisiblePackages(PathFinder):
    """Finds modules and distributions as `PathFinder` does, but for those that are hidden."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """No module of a hidden package."""
        return None if fullname.partition(".")[0] in _hidden() else super().find_spec(fullname, path, target)

    @classmethod
    def find_distributions(cls, *arguments: Any, **options: Any) -> Iterable[Distribution]:
        """No hidden distribution."""
        hidden = _hidden()
        found = PathFinder.find_distributions(*arguments, **options)
        return (one for one in found if one.metadata["Name"].lower() not in hidden) if hidden else found


def _hidden() -> list[str]:
    return os.environ.get(VARIABLE, "").split()


sys.meta_path[:] = [VisiblePackages if finder is PathFinder else finder for finder in sys.meta_path]
