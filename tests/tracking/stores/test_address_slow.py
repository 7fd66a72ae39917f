"""The addresses of stores as MLflow and SQLAlchemy read them, whatever the folders are called."""

import os
from pathlib import Path

import pytest

from keras_pipeline.tracking.stores import address
from tracking_fixtures import MLFLOW_WARNINGS, STRANGE_NAMES

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_sqlalchemy_and_mlflow_find_the_very_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy
    from mlflow.store.db import utils
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import append_to_uri_path, get_uri_scheme

    root, aside = tmp_path / "in" / name, tmp_path / "aside"
    root.mkdir(parents=True)
    aside.mkdir()
    monkeypatch.chdir(aside)
    where = address.store_location(root)
    assert where.database == root / "mlruns" / "mlflow.db"
    url = sqlalchemy.make_url(where.uri)
    assert url.database == str(where.database)
    assert not url.query
    assert get_uri_scheme(where.uri) == "sqlite"
    where.database.parent.mkdir()
    with utils.create_sqlalchemy_engine(where.uri).connect() as connection:
        connection.exec_driver_sql("CREATE TABLE x (y)")
    utils._make_parent_dirs_if_sqlite(where.uri)
    assert [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*")) if path.is_file()] == [
        Path("in", name, "mlruns", "mlflow.db")
    ]
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == [name]
    assert not list(aside.iterdir())
    assert where.artifacts
    of_a_run = append_to_uri_path(address.file_address(where.artifacts), "r" * 32, "artifacts")
    assert local_file_uri_to_path(of_a_run) == str(where.artifacts / ("r" * 32) / "artifacts")
    assert address.local_path(of_a_run) == where.artifacts / ("r" * 32) / "artifacts"
    # Given back as an address, as `ui` gives it to MLflow's server, it is the same store.
    os.environ["MLFLOW_TRACKING_URI"] = where.uri
    assert address.store_location(Path("/elsewhere")).database == where.database
