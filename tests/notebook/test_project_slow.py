"""The network and the store from within Python, and docs/notebook.ipynb run cell by cell."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import finished_pipeline
from places import ROOT

pytestmark = pytest.mark.slow

CHECKS = """
import numpy as np
from keras_pipeline import Project

project = Project()
raw, split = project.raw("test"), project.split("test")
outputs = project.predict(raw[:20])
np.testing.assert_allclose(outputs, project.model.predict(split.scaled(slice(20)), verbose=0), atol=1e-6)
np.testing.assert_array_equal(outputs.argmax(axis=1), project.predictions().predicted[:20])
assert list(project.runs().status) == ["FINISHED"], project.runs()
for wrong, said in ((raw[0], "Received: the shape (28, 28). Expected: raw pixels"), (raw[:2] / 255, "scaled")):
    try:
        project.predict(wrong)
    except ValueError as error:
        assert said in str(error) and len(str(error)) < 300, error
    else:
        raise AssertionError(said)
"""


def test_the_notebook_and_the_network(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    finished_pipeline.by_its_stages(root)
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    assert all(not cell.get("outputs") for cell in notebook["cells"])
    # As Jupyter does it: what is defined in one cell is there in the next.
    code = "\n".join([*cells, CHECKS])
    folder = root / "docs"
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
