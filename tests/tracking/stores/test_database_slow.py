"""The database that MLflow keeps runs in: cut off at each statement of its making and of its upgrade."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crafted_databases import check_cut_offs, copied, found, watching
from keras_pipeline.cli.overviews import doctor
from keras_pipeline.core.errors import MachineError
from keras_pipeline.tracking import ui
from keras_pipeline.tracking.stores import database
from keras_pipeline.tracking.stores.database import Condition
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, Checkout, contents

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


def test_the_schemas_are_those_that_mlflow_knows() -> None:
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    scripts = ScriptDirectory.from_config(utils._get_alembic_config(""))
    assert database._schemas() == (scripts.get_current_head(), {one.revision for one in scripts.walk_revisions()})


def test_wherever_mlflow_s_making_of_a_store_is_cut_off_it_is_recognised(tmp_path: Path) -> None:
    """At every fifth statement; of all see tests/proofs."""
    check_cut_offs(tmp_path, 5)


@pytest.fixture
def of_an_older_mlflow(tmp_path: Path) -> Path:
    """A store as MLflow 0.9 made it, with one run."""
    import sqlalchemy
    from mlflow.store.tracking.dbmodels.initial_models import Base

    file = tmp_path / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO experiments VALUES (0, 'Default', '/artifacts', 'active')")
        connection.exec_driver_sql(
            "INSERT INTO runs (run_uuid, name, experiment_id, status, artifact_uri, lifecycle_stage) "
            "VALUES ('r', 'old', 0, 'FINISHED', '/artifacts', 'active')"
        )
    engine.dispose()
    return file


def test_wherever_an_upgrade_is_cut_off_the_store_counts_as_one_with_runs(
    of_an_older_mlflow: Path, tmp_path: Path
) -> None:
    import sqlalchemy
    from mlflow.store.db import utils

    file, cut = of_an_older_mlflow, tmp_path / "cut.db"
    seen: list[Condition] = []

    def look() -> None:
        copied(file, cut)
        seen.append(found(cut))

    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    with watching(look):
        utils._upgrade_db(engine)
    engine.dispose()
    assert len(seen) > 400
    assert set(seen[:-1]) == {Condition.OLDER}
    assert found(file) is Condition.GOOD
    assert [row[0] for row in contents(file)["runs"]] == ["r"]


def test_an_older_store_is_left_alone_until_the_user_upgrades_it_with_the_command_of_the_doctor(
    fresh: Checkout, of_an_older_mlflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(of_an_older_mlflow, fresh.database)
    before = fresh.database.read_bytes()
    fresh.write()
    fresh.track()
    told = f"MLflow at {fresh.where.uri} is not available (it is of an older MLflow, or its upgrade was cut off: "
    assert capsys.readouterr().err.startswith(f"track: {told}`keras-pipeline doctor` says what to do). Nothing is lost")
    with contextlib.chdir(fresh.root):
        with pytest.raises(MachineError) as refused:
            ui.serve_ui(EXPERIMENT, 0, browser=False)
        good, text = doctor._store()
    assert str(refused.value).startswith(told)
    assert not good
    assert fresh.database.read_bytes() == before
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(text.rpartition(": ")[2], shell=True, env={**os.environ, "PATH": path}, check=True, timeout=240)
    assert Path(f"{fresh.database}.old").read_bytes() == before
    fresh.track()
    assert "is in MLflow" in capsys.readouterr().out
    [new] = {row[0] for row in contents(fresh.database)["runs"]} - {"r"}
    assert new
