"""A run that was just trained, as its files say, and a small repository with a commit."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import small
from keras_pipeline.audit import checkout as repetition
from keras_pipeline.core import files
from recorded_run import MAIN, WHOLE, git, recorded


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("template")
    files.write_json(folder / "statistics.json", WHOLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return recorded()


@pytest.fixture
def run(template: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(template))
    return made


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a project inside a repository, with one commit, whose commands tell their environment."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(repetition.tempfile, "tempdir", str(tmp_path / "temporary"))
    project = tmp_path / "repository" / "project"
    package = project / "src" / "keras_pipeline"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "commands.py").write_text(MAIN)
    (package / "provenance.py").write_text("def code_digest(module): return 'digest of ' + module\n")
    (project / "params.yaml").write_bytes(small.params_text(small.QUICK))
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    monkeypatch.chdir(project)
    return project
