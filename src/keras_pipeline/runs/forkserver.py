"""What a run on TensorFlow imports, imported once: imported itself by the process that forks the runs of studies.

The process that stands by for the stages of DVC imports it too.

Nothing here may look for devices or let TensorFlow start a thread: neither would survive a fork.
"""
# ruff: noqa: F401

import gc
import os
from contextlib import suppress

from keras_pipeline.models import frameworks, settings
from keras_pipeline.tracking.stores import connection


def _load() -> None:
    """Import it, and print nothing: what fails here fails in each run again, and is told there."""
    settings.settle("tensorflow")
    for name, value in {**frameworks.QUIET, **connection.ENVIRONMENT}.items():
        os.environ.setdefault(name, value)
    standard_error, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        with suppress(Exception):
            _import()
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
        os.close(nothing)
    gc.freeze()  # no run looks through it for garbage, and so all share its memory


def _import() -> None:
    with frameworks.hidden_packages(frameworks.UNUSED_BY["tensorflow"]):
        import keras
    import matplotlib.backends.backend_agg
    import mlflow.models
    import mlflow.store.tracking.sqlalchemy_store

    from keras_pipeline.evaluation import reports
    from keras_pipeline.models import model_file
    from keras_pipeline.training import fit
    from keras_pipeline.training.engines import fused_tensorflow


with suppress(PermissionError):  # of who is apart already
    os.setsid()  # a signal from the terminal is for the study alone
_load()
