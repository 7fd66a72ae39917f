"""How much memory something takes at most."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    """Within, this process takes no more than so many bytes beside what it had; on Linux alone.

    As the system sees it, all libraries included: tracemalloc may not be stopped while a thread of Arrow's ends.
    """
    if not RESET.exists():
        yield
        return
    RESET.write_text("5")  # the peak is what there is now
    before = _kilobytes("VmRSS")
    yield
    assert (_kilobytes("VmHWM") - before) * 1024 < most


def _kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    assert found
    return int(found[1])
