"""The process of DVC that runs this stage: which it is, and ending with it."""

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


def dvc_above() -> int:
    """The number of the process of DVC that runs this stage; `psutil.Error` where it cannot be found.

    Between the two there may be the shell that DVC starts every stage with: bash steps aside for the command, dash
    waits for it. Like everything below DVC, that shell has DVC_STAGE in its environment.
    """
    return _top().ppid()


def _top() -> "psutil.Process":
    """This process, or the shell above it: what DVC itself began."""
    import psutil

    child = psutil.Process()
    with contextlib.suppress(psutil.Error):
        while (parent := child.parent()) and "DVC_STAGE" in parent.environ():
            child = parent
    return child


def end_with_dvc() -> None:
    """DVC does not take its stages along when it is killed: end as after SIGTERM when it is gone."""
    import psutil

    child = _top()
    with contextlib.suppress(psutil.NoSuchProcess):
        dvc = child.ppid()
        while child.ppid() == dvc:
            time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
