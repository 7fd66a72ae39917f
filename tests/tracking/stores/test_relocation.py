"""Which stores were moved or copied, and which only look so: by their addresses alone, without MLflow."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from crafted_databases import OLD, newest
from keras_pipeline.cli import main
from keras_pipeline.cli.overviews import doctor
from keras_pipeline.core.errors import MachineError
from keras_pipeline.tracking import store
from keras_pipeline.tracking.stores import address, database, relocation
from keras_pipeline.tracking.stores.connection import StoreError
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, STRANGE_NAMES, Checkout, checkout

pytestmark = MLFLOW_WARNINGS
RUN, MODEL = "r" * 32, "m-1"


def craft_store(where: address.Location, *roots: str) -> None:
    """A database as MLflow leaves it, with an experiment, a run and a model in each of these folders for files."""
    file = where.database
    assert file
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute("CREATE TABLE alembic_version (version_num)")
        opened.execute("INSERT INTO alembic_version VALUES (?)", (newest(),))
        opened.execute("CREATE TABLE experiments (name, artifact_location)")
        opened.execute("CREATE TABLE runs (run_uuid, artifact_uri)")
        opened.execute("CREATE TABLE logged_models (model_id, artifact_location)")
        opened.execute("CREATE TABLE model_versions (source, storage_location)")
        for number, root in enumerate(roots):
            opened.execute("INSERT INTO experiments VALUES (?, ?)", (f"experiment {number}", root))
            opened.execute("INSERT INTO runs VALUES (?, ?)", (RUN, f"{root}/{RUN}/artifacts"))
            network = f"{root}/models/{MODEL}/artifacts"
            opened.execute("INSERT INTO logged_models VALUES (?, ?)", (MODEL, network))
            opened.execute("INSERT INTO model_versions VALUES (?, ?)", (f"models:/{MODEL}", network))


def addresses(where: address.Location) -> list[str]:
    assert where.database
    with closing(sqlite3.connect(where.database)) as opened:
        return [
            row[0]
            for table, (column, _) in relocation.ADDRESSES.items()
            for row in opened.execute(f"SELECT {column} FROM {table} ORDER BY rowid")
        ]


def in_folder(root: Path) -> str:
    return address.file_address(root / "mlruns" / "artifacts")


@pytest.fixture
def original(tmp_path: Path) -> Checkout:
    """A checkout with a store."""
    made = checkout(tmp_path / "original")
    craft_store(made.where, in_folder(made.root))
    return made


def is_refused(copy: Checkout, folder: Path) -> None:
    with pytest.raises(StoreError) as refused:
        store.check_store(copy.where, EXPERIMENT)
    assert str(refused.value) == (
        f"sqlite:///{copy.database} keeps its files in {folder}/mlruns/artifacts: the store was made there, and moved "
        "or copied here. Nothing is written to either until `keras-pipeline relocate` was run here"
    )


def is_good(copy: Checkout) -> None:
    store.check_store(copy.where, EXPERIMENT)


def test_the_original_is_no_copy(original: Checkout) -> None:
    is_good(original)


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_copied_or_moved_checkout_is_recognised_until_it_is_relocated(
    original: Checkout, tmp_path: Path, gone: bool, name: str
) -> None:
    copy = Checkout(tmp_path / name)
    shutil.copytree(original.root, copy.root)
    if gone:
        shutil.rmtree(original.root)
    is_refused(copy, original.root)
    assert relocation.relocate_artifacts(copy.where) == 4
    is_good(copy)
    new = in_folder(copy.root)
    assert addresses(copy.where) == [f"{new}/{RUN}/artifacts", *2 * [f"{new}/models/{MODEL}/artifacts"], new]
    assert relocation.relocate_artifacts(copy.where) == 0
    if not gone:
        is_good(original)
        assert addresses(original.where)[-1] == in_folder(original.root)


def test_a_copy_of_a_copy(original: Checkout, tmp_path: Path) -> None:
    second, third = Checkout(tmp_path / "2"), Checkout(tmp_path / "3")
    shutil.copytree(original.root, second.root)
    relocation.relocate_artifacts(second.where)
    shutil.copytree(second.root, third.root)
    is_refused(third, second.root)
    is_good(second)


def test_a_checkout_that_came_back(original: Checkout, tmp_path: Path) -> None:
    original.root.rename(tmp_path / "away")
    is_refused(Checkout(tmp_path / "away"), original.root)
    (tmp_path / "away").rename(original.root)
    is_good(original)


def test_a_link_to_a_checkout_is_the_checkout(original: Checkout, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(original.root)
    is_good(Checkout(tmp_path / "link"))
    original.root.rename(tmp_path / "moved")
    original.root.symlink_to(tmp_path / "moved")  # left for those who know the old place
    is_good(Checkout(tmp_path / "moved"))


def test_runs_on_another_disk_are_those_of_the_link(original: Checkout, tmp_path: Path) -> None:
    (original.root / "mlruns").rename(tmp_path / "disk")
    (original.root / "mlruns").symlink_to(tmp_path / "disk")
    is_good(original)
    shutil.copytree(original.root, tmp_path / "copy", symlinks=True)
    is_good(Checkout(tmp_path / "copy"))  # the same store, by the same link


@pytest.mark.parametrize(
    "uri", ["sqlite:///{original}/mlruns/mlflow.db", "sqlite:///{original}/mlruns/mlflow.db?timeout=9"]
)
def test_a_store_that_is_shared_on_purpose_is_none(
    original: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(original=original.root))
    is_good(checkout(tmp_path / "another"))


def test_a_relative_store_is_copied_with_its_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///kept/runs.db")
    made = checkout(tmp_path / "original")
    craft_store(made.where, address.file_address(made.root / "kept" / "artifacts"))
    is_good(made)
    shutil.copytree(made.root, tmp_path / "copy")
    with pytest.raises(StoreError, match="/original/kept/artifacts: the store was made there"):
        store.check_store(checkout(tmp_path / "copy").where, EXPERIMENT)


def test_a_temporary_copy_of_dvc_s_uses_the_store_of_the_main_checkout(
    original: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = checkout(original.root / ".dvc" / "tmp" / "exps" / "tmpabc")
    monkeypatch.setenv("DVC_ROOT", str(original.root))
    monkeypatch.chdir(temporary.root)
    store.check_store(address.store_location(address.project_root()), EXPERIMENT)


@pytest.mark.parametrize(
    "chosen",
    ["s3://bucket/artifacts", "mlflow-artifacts:/1", "file:///srv/artifacts", "/srv/big/artifacts", "./mlruns/1",
     "file:///srv/mlruns/1", "dbfs:/mlruns/artifacts", "file://server/share/mlruns/artifacts", ""],
)  # fmt: skip
def test_a_folder_that_somebody_chose_is_kept(original: Checkout, chosen: str) -> None:
    original.database.unlink()
    craft_store(original.where, in_folder(original.root), chosen)
    is_good(original)
    assert relocation.relocate_artifacts(original.where) == 0
    assert addresses(original.where).count(chosen) == 1


def test_several_experiments_of_which_one_is_of_another_place(original: Checkout, tmp_path: Path) -> None:
    """As after a training that an older version of this program let write into a copy."""
    other = tmp_path / "other"
    original.database.unlink()
    kept = "file:///srv/artifacts"
    craft_store(original.where, in_folder(original.root), in_folder(other), kept, str(other / "mlruns" / "artifacts"))
    is_refused(original, other)
    assert relocation.relocate_artifacts(original.where) == 8
    assert [one for one in addresses(original.where) if not one.startswith((in_folder(original.root), kept))] == []
    is_good(original)


def test_runs_whose_experiment_alone_was_corrected_are_found(original: Checkout, tmp_path: Path) -> None:
    copy = Checkout(tmp_path / "copy")
    shutil.copytree(original.root, copy.root)
    with closing(sqlite3.connect(copy.database)) as opened, opened:
        opened.execute("UPDATE experiments SET artifact_location = ?", (in_folder(copy.root),))
    is_refused(copy, original.root)
    assert relocation.relocate_artifacts(copy.where) == 3
    is_good(copy)


def test_a_database_under_another_name_beside_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///a/x.db")
    made = checkout(tmp_path / "original")
    craft_store(made.where, address.file_address(made.root / "a" / "artifacts"))
    shutil.copytree(made.root / "a", made.root / "b")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///b/x.db")
    with pytest.raises(StoreError, match="/original/a/artifacts: the store was made there"):
        store.check_store(made.where, EXPERIMENT)


def test_what_is_no_store_of_mlflow_s_was_never_copied(original: Checkout) -> None:
    original.database.unlink()
    assert relocation.foreign_folders(original.where) == {}
    with closing(sqlite3.connect(original.database)) as opened, opened:
        opened.execute("CREATE TABLE experiments (artifact_location)")
        opened.execute("INSERT INTO experiments VALUES ('/away/mlruns/artifacts')")
    assert relocation.foreign_folders(original.where) == {}


@pytest.mark.parametrize("uri", ["http://h", "postgresql://h/x", "sqlite:///none.db"])
def test_a_store_that_is_no_file_here_is_not_relocated(made: Checkout, uri: str) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    assert relocation.foreign_folders(made.where) == {}
    with pytest.raises(MachineError) as refused:
        relocation.relocate_artifacts(made.where)
    assert str(refused.value) == (
        f"{made.where.shown} is not an SQLite file on this machine, so there is nothing to relocate. "
        "Expected: the store in mlruns/mlflow.db, or MLFLOW_TRACKING_URI=sqlite:///…"
    )


def test_the_store_of_another_mlflow_is_not_relocated(original: Checkout, tmp_path: Path) -> None:
    copy = Checkout(tmp_path / "copy")
    shutil.copytree(original.root, copy.root)
    with closing(sqlite3.connect(copy.database)) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = ?", (OLD,))
    before = addresses(copy.where)
    with pytest.raises(
        StoreError, match=r"\(it is of an older MLflow, or its upgrade was cut off: .* says what to do\)"
    ):
        relocation.relocate_artifacts(copy.where)
    assert addresses(copy.where) == before


def test_every_verb_says_so_and_writes_nothing(
    original: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original.write()
    copy = Checkout(tmp_path / "copy")
    shutil.copytree(original.root, copy.root)
    monkeypatch.chdir(copy.root)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for verb, code in (["ui"], 6), (["track"], 0), (["compare", "abcdef", "."], 6), (["certify", "abcdef"], 6):
        assert main.main(verb) == code
        assert "the store was made there, and moved or copied here" in capsys.readouterr().err
    monkeypatch.setattr(database, "find_damage", lambda file: None)
    monkeypatch.setattr(store, "count_experiments", lambda location: 1)
    with pytest.raises(StoreError, match="`keras-pipeline relocate` was run here"):
        doctor._store()
    shutil.rmtree(copy.root / "mlruns" / "waiting")  # what could not be sent waits; nothing else is written
    changed = {path for path in tmp_path.rglob("*") if path.stat().st_mtime_ns != before.get(path)}
    assert changed == {copy.root / "mlruns"}
    assert main.main(["relocate"]) == 0
    assert capsys.readouterr().out == "relocate: 4 paths changed\n"
    assert doctor._store()[0]
