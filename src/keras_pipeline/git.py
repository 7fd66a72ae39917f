"""Git, asked of a folder: its answer is a function of the repository alone, not of hooks or of who calls."""

import os
import subprocess
from pathlib import Path

from keras_pipeline.errors import MachineError

SET_BY_GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""What git itself sets for the programs that it calls, such as hooks: they would name another repository."""


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Git's exit code, output and errors; raises MachineError where it is not installed."""
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false", *arguments]
    inherited = {name: value for name, value in os.environ.items() if name not in SET_BY_GIT}
    try:
        return subprocess.run(command, cwd=folder, env=inherited, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MachineError("git is not installed, and what is recorded is found by its commit. Install git.") from None
