"""Data under DVC: real git and dvc, and a clone that has nothing but what both of them keep."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_pipeline.cli import main
from made_images import clean_images, write_pictures
from places import SHIPPED
from real_workspace import IDENTITY

pytestmark = pytest.mark.slow


def done(folder: Path, *command: str) -> str:
    """What git or dvc says, which have to succeed."""
    environment = {
        **os.environ, **IDENTITY, "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
        "DVC_SITE_CACHE_DIR": str(folder.parent / "site"),
    }  # fmt: skip
    words = [sys.executable, "-m", *command] if command[0] == "dvc" else list(command)
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_a_clone_pulls_the_data_and_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where DVC is not set up, nothing is written; as long as the data are not there, it is said what brings them."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    project, clone = tmp_path / "project", tmp_path / "clone"
    images, labels = clean_images(12, 12)
    write_pictures(images, labels, project / "photos")
    (project / "params.yaml").write_text(SHIPPED.read_text().replace("dataset: mnist ", "dataset: own "))
    (project / "dvc.yaml").write_text("stages: {}\n")
    (project / ".gitignore").write_text("/data/\n/photos/\n")
    monkeypatch.chdir(project)
    done(project, "git", "init", "-q")
    assert main.main(["dataset", "add", "own", "photos", "--dvc"]) == 6
    assert "dvc add datasets/own.tar: you are not inside of a DVC repository" in capsys.readouterr().err
    assert list(Path("datasets").iterdir()) == []
    done(project, "dvc", "init", "-q")
    assert main.main(["dataset", "add", "own", "photos", "--dvc"]) == 0
    assert "git add datasets/own.yaml datasets/own.tar.dvc datasets/.gitignore" in capsys.readouterr().out
    done(project, "dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    done(project, "dvc", "push", "-q")
    done(project, "git", "add", ".")
    done(project, "git", "commit", "-qm", "data")
    assert "datasets/own.tar\n" not in done(project, "git", "ls-files")
    assert main.main(["fetch"]) == 0
    done(tmp_path, "git", "clone", "-q", str(project), str(clone))
    monkeypatch.chdir(clone)
    assert main.main(["fetch"]) == 3
    assert "Run `dvc pull datasets/own.tar.dvc`" in capsys.readouterr().err
    done(clone, "dvc", "pull", "-q", "datasets/own.tar.dvc")
    assert main.main(["fetch"]) == 0
    assert (clone / "data/raw/dataset.json").read_bytes() == (project / "data/raw/dataset.json").read_bytes()
