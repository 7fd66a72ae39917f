"""What `params check` lets through can be done."""

import subprocess
import sys

import pytest

from places import SUPPORT

pytestmark = pytest.mark.proof


def test_what_the_check_accepts_is_trained_and_evaluated_or_diverges() -> None:
    """60 draws of params that `params check` accepts, many at ends of ranges together: each trains or diverges."""
    command = [sys.executable, str(SUPPORT / "extreme_params.py"), "1", "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
