"""Which folder is a project: looked for upwards, as git and DVC do."""

import os.path
from pathlib import Path

from keras_pipeline.core.errors import PipelineError

PARAMS = Path("params.yaml")
EXPERIMENT = "keras-pipeline"
"""Of MLflow's, where there is no params.yaml that names another."""
MARKS = ("dvc.yaml", PARAMS.name)
"""A folder with any of these is a project; of the folders above the one that is asked for, those with the first."""


def find_project(folder: Path) -> Path | None:
    """The project that a folder, an absolute path, is in: itself, or the nearest above it; None where there is none."""
    if any(os.path.isfile(folder / mark) for mark in MARKS):  # noqa: PTH113 - false, whatever is wrong with it
        return folder
    return next((above for above in folder.parents if os.path.isfile(above / MARKS[0])), None)  # noqa: PTH113


def experiment_here() -> str:
    """The experiment of MLflow's that params.yaml of the current folder names; the usual one where there is none, or
    none without faults."""
    from keras_pipeline.checks.params import load_params

    try:
        return load_params(PARAMS).tracking.experiment if PARAMS.exists() else EXPERIMENT
    except PipelineError:
        return EXPERIMENT
