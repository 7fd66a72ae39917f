"""One store of MLflow, written by several trainings at once while others read it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import tracking_fixtures
from places import SUPPORT
from tracked_runs import CURVES, output, python

TRAININGS = 4
TOGETHER = f"""if True:
    import os, sys, time
    from pathlib import Path
    sys.path.append({str(SUPPORT)!r})
    import mlflow, sqlalchemy
    import mlflow.store.tracking.sqlalchemy_store
    import tracking_fixtures
    from keras_pipeline.tracking import live_run, runs, store

    checkout = tracking_fixtures.Checkout(Path.cwd())

    def train(number):
        record = tracking_fixtures.record(checkout.params_file, f"{{number:032x}}")
        reached = store.connect_store(checkout.where, "keras-pipeline")
        run = runs.ensure_run(reached, record, None)
        for row in tracking_fixtures.history(int(os.environ["EPOCHS"])):
            if row["epoch"] % 20 == 0:  # some at a time, as a training that was interrupted sends them
                runs.log_epochs(reached, run, tracking_fixtures.history(int(row["epoch"]))[-20:])
        reached.client.set_terminated(run, "FINISHED")

    def look():
        reached = store.connect_store(checkout.where, "keras-pipeline")
        while not Path("done").exists():
            reached.client.search_runs([reached.experiment])
            live_run.close_dead_runs(checkout.where)

    children = []
    for act in [*(lambda number=number: train(number) for number in range({TRAININGS})), look]:
        if not (child := os.fork()):
            while not Path("go").exists():
                pass
            act()
            os._exit(0)
        children.append(child)
    Path("go").touch()
    codes = [os.waitpid(child, 0)[1] for child in children[:-1]]
    Path("done").touch()
    print([*codes, os.waitpid(children[-1], 0)[1]])
"""


def check_many_writers(folder: Path, epochs: int) -> None:
    """Each of the trainings sends so many epochs, and each point of each is there once."""
    checkout = tracking_fixtures.checkout(folder / "checkout")
    process = python(TOGETHER, checkout.root, MLFLOW_TRACKING_URI="", DVC_ROOT="", EPOCHS=str(epochs))
    assert output(process).splitlines()[-1] == str([0] * (TRAININGS + 1))
    with closing(sqlite3.connect(checkout.database)) as database:
        assert database.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone() == (TRAININGS,)
        counts = database.execute("SELECT run_uuid, key, count(*), count(DISTINCT step) FROM metrics GROUP BY 1, 2")
        found = counts.fetchall()
    assert len(found) == TRAININGS * len(CURVES)
    assert {row[2:] for row in found} == {(epochs, epochs)}
