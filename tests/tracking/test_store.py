"""Where the store is, and which one can be moved."""

import os
from pathlib import Path

import pytest

import tracking_fixtures
from crafted_databases import OLD, WHOLE, craft
from keras_pipeline.core.errors import MachineError
from keras_pipeline.tracking import store
from keras_pipeline.tracking.stores import address, relocation
from tracking_fixtures import MLFLOW_WARNINGS, Checkout

pytestmark = MLFLOW_WARNINGS


# Where the store is


def test_the_store_is_in_mlruns_by_default(tmp_path: Path) -> None:
    where = address.store_location(tmp_path)
    assert where.uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert where.database == tmp_path / "mlruns" / "mlflow.db"
    assert where.artifacts == tmp_path / "mlruns" / "artifacts"
    assert where.state == tmp_path / "mlruns"


@pytest.mark.parametrize(
    ("given", "uri", "artifacts"),
    [
        ("sqlite:///other/runs.db", "sqlite:////main/other/runs.db", Path("/main/other/artifacts")),
        ("sqlite:////elsewhere/runs.db", "sqlite:////elsewhere/runs.db", Path("/elsewhere/artifacts")),
        (" http://mlflow.example:5000 ", "http://mlflow.example:5000", None),
        ("https://mlflow.example", "https://mlflow.example", None),
        ("postgresql://db.example/mlflow", "postgresql://db.example/mlflow", Path("/main/mlruns/artifacts")),
        ("", "sqlite:////main/mlruns/mlflow.db", Path("/main/mlruns/artifacts")),
    ],
)
def test_the_environment_names_another_store(given: str, uri: str, artifacts: Path | None) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = given
    where = address.store_location(Path("/main"))
    assert (where.uri, where.artifacts, where.state) == (uri, artifacts, Path("/main/mlruns"))
    assert (where.database is None) == (not uri.startswith("sqlite"))


def test_a_temporary_copy_uses_the_store_of_the_main_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = tracking_fixtures.checkout(tmp_path / "main").root
    copy = tracking_fixtures.checkout(main / ".dvc" / "tmp" / "exps" / "copy").root
    (copy / "src").mkdir()
    monkeypatch.chdir(copy / "src")
    assert address.project_root() == copy
    os.environ["DVC_ROOT"] = str(main)
    assert address.project_root() == main


# Whether anything is to be sent, and who is alive: without MLflow


def test_only_a_local_database_can_be_relocated(made: Checkout) -> None:
    with pytest.raises(MachineError, match=r"mlruns/mlflow\.db is not an SQLite file on this machine"):
        relocation.relocate_artifacts(made.where)
    assert not made.database.exists()
    os.environ["MLFLOW_TRACKING_URI"] = "http://mlflow.example"
    with pytest.raises(MachineError, match=r"http://mlflow\.example is not an SQLite file"):
        relocation.relocate_artifacts(made.where)


@pytest.mark.parametrize("given", ["sqlite:///other/x.db", "sqlite:///other/x.db?timeout=9"])
def test_a_store_that_the_user_named_is_not_our_own_place(
    fresh: Checkout, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    assert fresh.where.own
    assert Path(store._lock(fresh.where).lock_file) == fresh.root / "mlruns" / ".mlflow.db-lock"
    (fresh.root / "other").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert fresh.where.database == fresh.root / "other" / "x.db"
    assert not fresh.where.own
    # Beside the database: another checkout that names it, too, has to wait.
    assert Path(store._lock(fresh.where).lock_file) == fresh.root / "other" / ".x.db-lock"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != fresh.root / "other")
    assert Path(store._lock(fresh.where).lock_file) == fresh.root / "mlruns" / ".store-lock"


def test_a_half_made_store_is_not_relocated(fresh: Checkout) -> None:
    craft(fresh.database, OLD, **WHOLE | {"experiments": 0})
    with pytest.raises(MachineError, match=r"is not available \(it is half-made"):
        relocation.relocate_artifacts(fresh.where)
    fresh.database.write_bytes(b"no database" * 99)
    with pytest.raises(MachineError, match=r"is not available \(it is no database that SQLite can read"):
        relocation.relocate_artifacts(fresh.where)
