"""How the processes of runs are begun."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from keras_pipeline.runs import executor

FORKS = (
    "import multiprocessing, sys\nif __name__ == '__main__':\n"
    "    other = multiprocessing.get_context('forkserver').Process(target=print)\n    other.start(); other.join()\n"
)


@pytest.mark.parametrize("more", [0, 1])
def test_the_longest_folder_for_temporary_files_is_the_one_in_which_a_process_can_fork(
    tmp_path: Path, more: int
) -> None:
    around = tempfile.mkdtemp(dir="/tmp")
    folder = Path(around) / ("x" * (executor.LONGEST_FOLDER + more - len(around) - 1))
    folder.mkdir()
    (tmp_path / "program.py").write_text(FORKS)
    command, environment = [sys.executable, tmp_path / "program.py"], {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, "path too long" in done.stderr) == (("\n", False), ("", True))[more]
    folder.rmdir()
    folder.parent.rmdir()
