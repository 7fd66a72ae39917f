"""This process's Python, without what its environment and the current folder would change. Importing it makes it so.

The command line imports it before anything else. A file of the checkout with the name of a module, such as `json.py`,
is never run: the current folder is no place for modules here, nor in any Python that this process starts. And a warning
never is an error: the frameworks' own code warns.
"""

import os
import sys
import warnings

OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
"""From where this package is imported. As `pathlib` is not loaded yet, the module does without it."""
IGNORED = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""As Python has it from the start."""
OTHERS_WISHES = ("PYTHONWARNINGS", "MPLBACKEND", "MATPLOTLIBRC")
"""Of the environment: they let the import of a package fail, or change figures."""


def is_for_modules(folder: str) -> bool:
    """Whether an entry of the module search path may stay: it is not the current folder, or this package is there."""
    try:
        current = not folder or os.path.samefile(folder, os.curdir)  # noqa: PTH121
        return not current or os.path.samefile(OWN_FOLDER, os.curdir)  # noqa: PTH121
    except OSError:  # one of them is not there
        return bool(folder)


def settle() -> None:
    """What importing this module does."""
    sys.path[:] = filter(is_for_modules, sys.path)
    os.environ["PYTHONSAFEPATH"] = "1"
    if "PYTHONPATH" in os.environ:
        kept = filter(is_for_modules, os.environ["PYTHONPATH"].split(os.pathsep))
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)
    if os.environ.get("PYTHONWARNINGS"):
        warnings.resetwarnings()
        for category in IGNORED:
            warnings.simplefilter("ignore", category)
    for name in OTHERS_WISHES:
        os.environ.pop(name, None)
    if sys.flags.optimize > 1:  # MLflow misses the texts that -OO takes away, and says so twelve times
        warnings.filterwarnings("ignore", "Failed to register a dataset source")


settle()
