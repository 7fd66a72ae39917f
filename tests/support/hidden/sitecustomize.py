"""Packages that the tests' processes are to see as not installed: those that the variable HIDDEN_PACKAGES names.

Python imports this file when it starts, wherever its folder is on PYTHONPATH.
"""

import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution
from typing import Any

VARIABLE = "HIDDEN_PACKAGES"


class VisiblePackages(PathFinder):
    """Finds modules as `PathFinder` does, but for those of hidden packages."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """None where the package is hidden."""
        return None if fullname.partition(".")[0] in _hidden() else super().find_spec(fullname, path, target)


def _hidden() -> list[str]:
    return os.environ.get(VARIABLE, "").split()


def _visible(kind: type[Distribution], **wanted: Any) -> Iterator[Distribution]:
    """Whatever finders other packages have added to `sys.meta_path`: `importlib.metadata` asks them all here."""
    hidden = _hidden()
    return (
        one for one in _discover(kind, **wanted) if not hidden or (one.metadata.get("Name") or "").lower() not in hidden
    )


if VisiblePackages.__name__ not in [getattr(finder, "__name__", "") for finder in sys.meta_path]:
    sys.meta_path[:] = [VisiblePackages if finder is PathFinder else finder for finder in sys.meta_path]
    _discover = Distribution.discover.__func__  # type: ignore[attr-defined]
    Distribution.discover = classmethod(_visible)  # type: ignore[assignment, method-assign]

if __name__ == "sitecustomize" and os.environ.get("WARM_SERVERS"):
    import warm

    warm.hand_over()
