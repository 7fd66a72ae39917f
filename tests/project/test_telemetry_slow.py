"""Neither DVC nor MLflow tells anybody about its user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_pipeline.checks import dvc_settings
from keras_pipeline.core.errors import MachineError
from places import ROOT

pytestmark = pytest.mark.slow

ASKED = """
import os
for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.pop(name, None)
from keras_pipeline.tracking.stores import connection
connection.start_mlflow()
from mlflow.telemetry.utils import is_telemetry_disabled
print("MLflow", is_telemetry_disabled())
from dvc.analytics import is_enabled
print("DVC", not is_enabled())
"""


def test_nobody_is_told() -> None:
    """Asked of their own functions, in this project, where nothing of the environment says so."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DVC_NO_ANALYTICS", "DVC_TEST", "CI")
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASKED],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "MLflow True\nDVC True\n"


def test_dvc_is_asked_in_silence_outside_of_a_project_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would send it keeps in the folder for temporary files first."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("DVC_NO_ANALYTICS", "DVC_TEST", "CI"):
        monkeypatch.delenv(name, raising=False)
    for folder in ("temporary", "home", "here"):
        (tmp_path / folder).mkdir()
    with pytest.raises(MachineError, match="DVC refuses"):
        dvc_settings.ask_dvc(tmp_path / "here", "cache", "dir")
    assert list((tmp_path / "temporary").iterdir()) == []
