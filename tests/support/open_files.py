"""Which files this process has open."""

import os
from contextlib import suppress
from pathlib import Path


def open_files(folder: Path) -> list[str]:
    """Those in the folder, whatever other tests have open elsewhere."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            target = os.readlink(descriptor)  # noqa: PTH115 (a pipe's is no path)
            found += [target] if target.startswith(str(folder)) else []
    return found
