"""The stage export of networks that only Keras can compute another way."""

import json
from pathlib import Path

import pytest

from evaluated_project import Project
from exported import ask_formats_here

pytestmark = pytest.mark.slow


def test_mixed_precision_is_exported_in_float32_and_its_distance_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask_formats_here(monkeypatch)
    project = Project(tmp_path, {"train.precision": "mixed_bfloat16"})
    outputs = project.answers.outputs
    outputs += 0.01 * (outputs.max(axis=1, keepdims=True) == outputs)  # as a coarser precision might
    project.write_answers()
    assert list(project.export()["formats"]) == ["onnx", "javascript"]
    metrics = json.loads((project.reports / "export.json").read_text())
    assert metrics["export/float32/largest_difference"] == pytest.approx(0.01, rel=1e-2)
    assert metrics["export/float32/labels_flipped"] == 0
    assert metrics["export/onnx/largest_difference"] < 1e-5
    assert "export: float32: 0 of 360 labels flipped, largest difference 1.0e-02, of the network in float32" in (
        capsys.readouterr().out
    )
