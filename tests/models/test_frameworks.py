"""What limits memory."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import real_workspace
from keras_pipeline.models import frameworks

MEBIBYTE = 2**20


def test_the_limit_is_the_least_of_machine_and_container(tmp_path: Path) -> None:
    whole = psutil.virtual_memory().total
    assert frameworks.memory_limit(tmp_path) <= whole
    (tmp_path / "memory.max").write_text("max\n")
    assert frameworks.memory_limit(tmp_path) <= whole
    (tmp_path / "memory.max").write_text("104857600\n")
    assert frameworks.memory_limit(tmp_path) == 100 * MEBIBYTE
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("52428800\n")
    assert frameworks.memory_limit(tmp_path) == 50 * MEBIBYTE


@pytest.mark.parametrize("kind", [resource.RLIMIT_DATA, resource.RLIMIT_AS])
def test_the_limit_is_that_of_ulimit_too(kind: int) -> None:
    program = "from keras_pipeline.models.frameworks import memory_limit; print(memory_limit())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **real_workspace.ONE_THREAD, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(kind, (800 * MEBIBYTE, 800 * MEBIBYTE)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == 800 * MEBIBYTE
