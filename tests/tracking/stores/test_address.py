"""The addresses of stores and of files in them, whatever the folders are called."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from keras_pipeline.tracking.stores import address
from tracking_fixtures import MLFLOW_WARNINGS

pytestmark = MLFLOW_WARNINGS


@pytest.mark.parametrize(
    ("given", "kind", "database"),
    [
        ("", "sqlite", "/main/mlruns/mlflow.db"),
        ("sqlite:///x.db", "sqlite", "/main/x.db"),
        ("sqlite:////srv/x.db?timeout=9", "sqlite", "/srv/x.db"),
        ("sqlite+pysqlite:////srv/x.db", "sqlite", "/srv/x.db"),
        ("sqlite:////srv/100%25/x.db", "sqlite", "/srv/100%/x.db"),
        ("sqlite:////srv/a#b/x.db", "sqlite", "/srv/a#b/x.db"),
        ("sqlite://", "other", None),
        ("sqlite:///", "other", None),
        ("sqlite:///:memory:", "other", None),
        ("sqlite:///file:x.db?uri=true", "other", None),
        ("sqlite:///file:x.db", "other", None),
        ("sqlite:///x.db?mode=ro&uri=true", "other", None),
        ("http://h", "http", None),
        ("https://h:5000/base", "http", None),
        ("postgresql://h/runs", "database", None),
        ("mysql+pymysql://h/runs", "database", None),
        ("mssql+pyodbc://h/runs", "database", None),
        ("databricks", "other", None),
        ("databricks://profile", "other", None),
        ("foo://x", "other", None),
        ("mlruns", "other", None),
        ("/srv/mlruns", "other", None),
        ("file:///srv/mlruns", "other", None),
        ("SQLITE:///x.db", "other", None),
        ("postgres://h/x", "other", None),
        ("http:/h", "http", None),
        ("localhost:5000", "other", None),
        ("::", "other", None),
    ],
)
def test_each_kind_of_address(given: str, kind: str, database: str | None) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = given
    where = address.store_location(Path("/main"))
    assert (where.kind, where.database) == (kind, Path(database) if database else None)
    assert (where.artifacts is None) == (kind in ("http", "other"))


def test_a_location_is_told_and_kept_as_it_is_named() -> None:
    state = Path("/main/mlruns")
    for given, uri, file in (
        ("", "sqlite:////main/mlruns/mlflow.db", "/main/mlruns/mlflow.db"),
        (" ", "sqlite:////main/mlruns/mlflow.db", "/main/mlruns/mlflow.db"),
        ("sqlite:///x y.db?timeout=9&a=?", "sqlite:////main/x y.db?timeout=9&a=?", "/main/x y.db"),
        ("sqlite:////srv/100%25/a%3Fb.db", "sqlite+pysqlite:////srv/100%25/a%3Fb.db", "/srv/100%/a?b.db"),
    ):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if given:
            os.environ["MLFLOW_TRACKING_URI"] = given
        where = address.store_location(Path("/main"))
        database = Path(file)
        assert where == address.Location(uri, "sqlite", database, database.parent / "artifacts", state)
        assert where.shown == f"sqlite:///{file}"
        assert where.own == (not given.strip())
    os.environ["MLFLOW_TRACKING_URI"] = "mysql+pymysql://me:open-sesame@h/runs"
    where = address.store_location(Path("/main"))
    assert where == address.Location(os.environ["MLFLOW_TRACKING_URI"], "database", None, state / "artifacts", state)
    assert where.shown == "mysql+pymysql://***@h/runs"
    os.environ["MLFLOW_TRACKING_URI"] = "foo://\x7f" + "x" * 300
    where = address.store_location(Path("/main"))
    assert where == address.Location(os.environ["MLFLOW_TRACKING_URI"], "other", None, None, state)
    assert where.shown == rf"foo://\x7f{'x' * 193}"


def test_the_project_is_found_from_any_of_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "main" / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert address.project_root() == inner
    (tmp_path / "main" / "dvc.yaml").touch()
    assert address.project_root() == tmp_path / "main"
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "link"))
    assert address.project_root() == tmp_path / "other"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/srv/artifacts", "/srv/artifacts"),
        ("file:///srv/a%20b", "/srv/a b"),
        ("file:/srv/a", "/srv/a"),
        ("file://localhost/srv/a", "/srv/a"),
        ("file://elsewhere/srv/a", None),
        ("s3://bucket/artifacts", None),
        ("mlflow-artifacts:/1", None),
        ("dbfs:/x", None),
        ("", None),
    ],
)
def test_which_files_are_of_this_machine(given: str, path: str | None) -> None:
    assert address.local_path(given) == (Path(path) if path else None)


def test_a_quoted_address_has_no_other_parts() -> None:
    parts = urlsplit(address.file_address(Path("/a/what?is#this%20;x")))
    assert (parts.query, parts.fragment, unquote(parts.path)) == ("", "", "/a/what?is#this%20;x")
