"""Checkouts with and without a store, and an environment that is afterwards as it was before."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tracking_fixtures
from keras_pipeline.tracking import store
from tracking_fixtures import EXPERIMENT, Checkout


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Afterwards as before, since MLflow writes there too."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def made(tmp_path: Path) -> Checkout:
    """A checkout without a store."""
    return tracking_fixtures.checkout(tmp_path / "checkout")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the experiment and no run, made once: copying it takes a tenth of making it."""
    template = tracking_fixtures.checkout(tmp_path_factory.mktemp("template"))
    store.connect_store(template.where, EXPERIMENT)
    return template.database


@pytest.fixture
def stored(tmp_path: Path, empty_database: Path) -> Checkout:
    """A checkout with a trained network, its reports and an empty store."""
    checkout = tracking_fixtures.checkout(tmp_path / "checkout", empty_database)
    checkout.write()
    return checkout


@pytest.fixture
def fresh(tmp_path: Path) -> Checkout:
    """A checkout without a store, but with its folder."""
    checkout = tracking_fixtures.checkout(tmp_path / "checkout")
    checkout.database.parent.mkdir()
    return checkout
