"""The stage export, without a framework: what it leaves, and that it leaves nothing where a format does not agree."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
import small_tasks
from evaluated_project import Project
from exported import ask_formats_here, image_input
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, ModelFileError
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.data.task_spec import task_spec_from
from keras_pipeline.evaluation.predictions import Predictions, read_predictions, write_predictions
from keras_pipeline.export import manifest
from keras_pipeline.records import record

TASKS: dict[str, dict[str, Any]] = {
    "classes": {"normalize.scaling": "standard"},
    "binary": {**small_tasks.BINARY, "normalize.scaling": "symmetric"},
    "line": small_tasks.LINE,
    "diabetes": {**small_tasks.CHANGES["diabetes"], "normalize.scaling": "none"},
}


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_formats_here(monkeypatch)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_exported_and_described(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = Project(tmp_path, TASKS[task])
    capsys.readouterr()
    found = project.export()
    statistics = read_statistics(project.normalized)
    assert found["model_sha256"] == files.file_sha256(project.models / "model.keras")
    assert found["run"] == record.read_record(project.models / "run.json")["key"]
    assert (found["task"], found["class_names"]) == (statistics["task"], statistics["class_names"])
    assert found["outputs"] == task_spec_from(statistics).outputs
    assert list(found["formats"]) == ["onnx", "javascript"]
    for name in found["formats"]:
        assert manifest.read_format(project.models / "export", found, name)
    if found["input"]["kind"] == "table":
        assert len(found["input"]["features"]) == statistics["shape"][0]
        assert found["target"] == {"line": "y", "diabetes": "progression"}[task]
    else:
        assert found["input"] == image_input(28, 28)
    metrics = json.loads((project.reports / "export.json").read_text())
    assert metrics["export/parameters"] == found["parameters"] == made_weights(project)
    for name in ("onnx", "javascript"):
        assert metrics.get(f"export/{name}/labels_flipped", 0) == 0
        assert metrics[f"export/{name}/bytes"] == manifest.size_of(found["formats"][name])
    assert project.left() == [
        "models/export/export.json", "models/export/javascript/network.js", "models/export/javascript/predict.js",
        "models/export/model.onnx", "reports/export.json", "reports/export/formats.csv",
        "reports/export/formats.png", "reports/export/times.json",
    ]  # fmt: skip
    out = capsys.readouterr().out.splitlines()
    assert [line.split(":")[1].strip() for line in out] == ["onnx", "javascript"]
    network = (project.models / "export/javascript/network.js").read_text()
    about = json.loads(network.removeprefix("globalThis.KERAS_PIPELINE_NETWORK = ").removesuffix(";\n"))
    assert {key: about[key] for key in ("class_names", "run", "input")} == {
        key: found[key]
        for key in ("class_names", "run", "input")  # type: ignore[literal-required]
    }


def made_weights(project: Project) -> int:
    from keras_pipeline.models.weights_file import read_weights

    return sum(array.size for array in read_weights(project.models / "model.keras").values())


@pytest.mark.usefixtures("in_this_process")
def test_a_second_time_gives_the_same_package_and_no_format_none(tmp_path: Path) -> None:
    project = Project(tmp_path, {})
    first = project.export()
    content = {path: (tmp_path / path).read_bytes() for path in project.left() if path.startswith("models")}
    assert project.export() == first
    assert {path: (tmp_path / path).read_bytes() for path in content} == content
    project.params = small.params({"export.formats": []})
    assert project.export()["formats"] == {}
    assert project.left() == [
        "models/export/export.json", "reports/export.json", "reports/export/formats.csv", "reports/export/times.json",
    ]  # fmt: skip


@pytest.mark.usefixtures("in_this_process")
def test_a_format_that_does_not_agree_leaves_no_package(tmp_path: Path) -> None:
    project = Project(tmp_path, {})
    project.export()
    outputs = project.answers.outputs.copy()
    outputs[17] = np.roll(outputs[17], 1)
    changed = Predictions(
        outputs, *[getattr(project.answers, name) for name in ("targets", "loss", "coefficients", "model")]
    )
    write_predictions(project.reports / "predictions.npz", changed)
    with pytest.raises(ModelFileError, match=r"export: onnx: got 1 of 360 labels flipped, .*; test image 17: '"):
        project.export()
    assert project.left() == []
    project.write_answers()
    assert project.export()["formats"]


@pytest.mark.usefixtures("in_this_process")
def test_what_is_not_of_one_run_is_not_exported(tmp_path: Path) -> None:
    project = Project(tmp_path, {})
    other = Predictions(
        *[getattr(project.answers, name) for name in ("outputs", "targets", "loss", "coefficients")], "a" * 64
    )
    write_predictions(project.reports / "predictions.npz", other)
    with pytest.raises(DataError, match=r"predictions\.npz: the answers of the network aaaaaaaaaaaa…\. Expected"):
        project.export()
    (project.models / "model.keras").write_bytes(b"another")
    with pytest.raises(ModelFileError, match=r"model\.keras: got the network .* Expected"):
        project.export()
    assert project.left() == []


def test_the_command_needs_no_framework(tmp_path: Path) -> None:
    project = Project(tmp_path, {})
    (tmp_path / "params.yaml").write_bytes(small.params_text(small.QUICK))
    program = (
        "import sys; from keras_pipeline.cli import main\n"
        "code = main._main(['export', '--normalized', 'normalized'])\n"
        "print(code, {'tensorflow', 'keras', 'jax', 'torch', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 set()"
    assert manifest.read_manifest(project.models / "export")["formats"]
    assert read_predictions(project.reports / "predictions.npz", read_statistics(project.normalized)).model
