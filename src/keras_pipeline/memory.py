"""How much memory this process may use."""

import resource
from pathlib import Path

CGROUPS = ("memory.max", "memory/memory.limit_in_bytes")
"""Where Linux tells the limit of a container, of both versions."""


def limit(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The bytes of memory that this process may use at most: the machine's, or less by a container or `ulimit`."""
    import psutil

    limits = [psutil.virtual_memory().total]
    for name in CGROUPS:
        try:
            limits.append(int((groups / name).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    own = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    return min([*limits, *(one for one in own if one != resource.RLIM_INFINITY)])
