"""For every test here: no git repository and no settings of this machine."""

from pathlib import Path

import pytest

from real_workspace import IDENTITY


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, which belongs to no git repository, with a git that has no settings."""
    monkeypatch.chdir(tmp_path)
    for name, value in {**IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CEILING_DIRECTORIES": "/"}.items():
        monkeypatch.setenv(name, value)
