"""Ending with the process of DVC that runs this stage."""

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


def _top() -> "psutil.Process":
    """What DVC itself began: this process, or the shell between them.

    DVC starts every stage with one: bash steps aside for the command, dash waits for it. Like everything below DVC,
    that shell has DVC_STAGE in its environment.
    """
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
