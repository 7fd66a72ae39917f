"""The service over a hundred thousand requests."""

import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT
from served_network import HEAVY, write_network

pytestmark = pytest.mark.proof


def test_memory_does_not_grow(tmp_path: Path) -> None:
    """By more than 20 MB, as benchmarks/serve.py tells it."""
    program = str(ROOT / "benchmarks" / "serve.py")
    network = str(write_network(tmp_path, hidden=HEAVY))
    done = subprocess.run(
        [sys.executable, program, network, "--requests", "100000"], capture_output=True, text=True, check=True
    )
    words = done.stdout.split()
    assert int(words[0].replace(",", "")) >= 100_000
    assert float(words[words.index("after") - 2]) - float(words[words.index("before,") - 2]) < 20
