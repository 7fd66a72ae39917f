"""The stage track: MLflow says what the files say."""

import sys
from pathlib import Path

from keras_pipeline import files, provenance
from keras_pipeline.errors import DataError, masked
from keras_pipeline.params import Params
from keras_pipeline.tracking import live, mirror, store


def run(params: Params, params_file: Path, models: Path, reports: Path, *, again: bool = False) -> None:
    """Bring MLflow's run of the trained model in line with the files, if it is not (or `again`).

    Where nothing is to do, MLflow is not even imported. A store that cannot be reached is said in one line
    and is no error: the next call sends what is missing. Runs that a dead process left open are closed.
    """
    where = store.location(store.project_root())
    try:
        closed = live.repair(where)
        if closed:
            print(f"track: {closed} unfinished run(s) of ended processes closed")
        record = files.read_json(models / "run.json", written_by="train", keys=provenance.RECORD)
        now = mirror.state(where, params, params_file, models / "run.json", reports)
        if not again and mirror.in_line(where, record["key"], now):
            print(f"track: MLflow has '{record['name']}' as it is here")
            return
        mirror.synchronise(where, params, params_file, models, reports, record, now)
        print(f"track: '{record['name']}' is in MLflow ({masked(where.uri)}). Look at it: keras-pipeline ui")
    except DataError:
        raise
    except Exception as error:  # whatever MLflow raises
        print(
            f"track: MLflow at {masked(where.uri)} is not available ({store.reason(error)}). Nothing is lost: run "
            "`keras-pipeline track`, or the next `dvc repro`, when the store is back.",
            file=sys.stderr,
        )
