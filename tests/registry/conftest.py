"""For every test here: no git repository and no settings of this machine; one store for all slow ones."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tracking_fixtures
from keras_pipeline.tracking import store
from real_workspace import IDENTITY


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In an empty folder, which belongs to no git repository; the environment is afterwards as before."""
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    for name, value in {**IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CEILING_DIRECTORIES": "/"}.items():
        monkeypatch.setenv(name, value)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the experiment and no run: copying it takes a tenth of making it."""
    template = tracking_fixtures.checkout(tmp_path_factory.mktemp("template"))
    store.connect_store(template.where, tracking_fixtures.EXPERIMENT)
    return template.database


@pytest.fixture
def project(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> tracking_fixtures.Checkout:
    """A project with an empty store, which is the current folder."""
    made = tracking_fixtures.checkout(tmp_path / "project", empty_database)
    made.set_params({"fetch.dataset": "digits"})
    monkeypatch.chdir(made.root)
    return made
