"""Files of the current folder are never taken for modules."""

import subprocess
import sys
from pathlib import Path

import pytest

from keras_pipeline.core import process
from places import PROGRAM, SHIPPED

PLANTED = ("json", "argparse", "yaml", "ruamel", "numpy", "requests", "mlflow", "keras", "tensorflow", "pydantic")
AS_MODULE = [sys.executable, "-m", "keras_pipeline.cli.main"]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A folder with params.yaml, and files that leave a trace when they are run."""
    (tmp_path / "params.yaml").write_bytes(SHIPPED.read_bytes())
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text(f"open('ran-{name}', 'w')\nraise SystemExit('planted')\n")
    return tmp_path


@pytest.mark.own_processes
@pytest.mark.parametrize("command", [[PROGRAM], AS_MODULE])
@pytest.mark.parametrize("search_path", ["", "{here}", ":/nowhere", "."])
def test_a_file_with_the_name_of_a_module_is_not_run(planted: Path, command: list[str], search_path: str) -> None:
    if command == AS_MODULE or search_path:
        for name in ("json", "argparse"):  # Python's own, which it imports before anything of ours where it is told so
            (planted / f"{name}.py").unlink()
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": search_path.format(here=planted), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [*command, "params", "check"], cwd=planted, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "params.yaml: good\n"), done.stderr
    assert list(planted.glob("ran-*")) == []


CHILD = """if True:
    import os, subprocess, sys, warnings
    from keras_pipeline.core import interpreter, process
    warnings.warn("is no error", UserWarning)
    for command in (process.python("-c", "import requests"), [sys.executable, "-c", "import requests.nothing"]):
        subprocess.run(command, capture_output=True)
    print(os.environ.get("PYTHONPATH"), sys.path[:1])
"""


@pytest.mark.own_processes
def test_nor_in_the_processes_that_are_started(planted: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f":{planted}:/nowhere:.", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=planted, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "/nowhere ['/nowhere']\n", done.stderr
    assert list(planted.glob("ran-*")) == []


def test_a_python_is_started_with_its_words() -> None:
    assert process.python("-c", "1", "a") == [sys.executable, "-P", "-c", "1", "a"]
