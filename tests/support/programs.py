"""Runs the modules of tests/support that are programs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from places import SUPPORT


def run_program(name: str, *arguments: str | Path, seconds: float = 600) -> str:
    """What a program prints that has to end with exit code 0."""
    command = [sys.executable, SUPPORT / name, *arguments]
    done = subprocess.run(command, cwd=SUPPORT.parent, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def run_scenarios(name: str, folder: Path, backend: str) -> dict[str, Any]:
    """What became of the scenarios of the backend, in a process of their own, since a process has one backend."""
    run_program(name, folder, backend)
    found: dict[str, Any] = json.loads((folder / f"{backend}.json").read_text())
    return found
