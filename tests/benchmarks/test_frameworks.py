"""benchmarks/frameworks.py: what it says of trainings, and of an MXNet that cannot be installed."""

import ast
import shutil
import sys
from pathlib import Path

import frameworks
import numpy as np

from mxnet_setup import make_mxnet
from places import ROOT


def trained(losses: list[float], weight: float, answers: list[int], seconds: list[float]) -> frameworks.Trained:
    return frameworks.Trained(losses, seconds, [np.array([[weight, -4.0]]), np.zeros(2)], np.array(answers))


# What it says.


def test_the_largest_difference_of_any_seed_stands_there_and_who_is_missing() -> None:
    baseline = {1: trained([2.0, 1.0], 1.0, [0, 1, 2], [0.5]), 2: trained([2.0, 1.0], 1.0, [0, 1, 2], [0.7])}
    other = {1: trained([2.002, 1.0], 1.0, [0, 1, 2], [3.0]), 2: trained([2.0, 0.99], 1.04, [0, 2, 2], [5.0, 4.0])}
    runs = {"A": baseline, "B": other, "MXNet": {}}
    assert frameworks.compared(runs, "A") == [
        "| beside A | epoch 1 | epoch 2 | weights | same answers |",
        "|---|---|---|---|---|",
        "| B | 1e-03 | 1e-02 | 1e-02 | 2 of 3 |",
        "| MXNet | not installed: make mxnet |  |  |  |",
    ]
    assert frameworks.timed(runs) == [
        "|  | seconds of an epoch |",
        "|---|---|",
        "| A | 0.60 |",
        "| B | 4.00 |",
        "| MXNet | not installed: make mxnet |",
    ]


def test_the_peer_imports_mxnet_and_numpy_alone() -> None:
    """In its environment there is nothing of ours."""
    source = ast.parse((ROOT / "benchmarks" / "peer_mxnet.py").read_text())
    names = {name.name for node in ast.walk(source) if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module or "" for node in ast.walk(source) if isinstance(node, ast.ImportFrom)}
    assert names - sys.stdlib_module_names == {"mxnet", "numpy"}


# Where it cannot be installed.


def test_a_python_that_is_too_new_is_told(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "make", "rm"):
        (tools / name).symlink_to(shutil.which(name) or "")
    said = make_mxnet(tmp_path, {"PATH": str(tools)})
    assert said.startswith(
        "MXNet is not installed: it needs Python 3.10 or 3.11 with its venv module. Nothing else needs MXNet.\n"
    )
