"""For every test here: an empty project."""

from pathlib import Path

import pytest

from places import SHIPPED


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the shipped params and no dataset of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "params.yaml").write_bytes(SHIPPED.read_bytes())
    return tmp_path
