"""What the process of a run makes of the world around it."""

from pathlib import Path

import pytest

from keras_pipeline.core.errors import BusyError
from keras_pipeline.runs import run_steps
from keras_pipeline.runs.folders import Folders
from study_workplace import ASKED, CHANGES, Workplace


def test_code_that_changes_while_it_trains_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workplace(tmp_path, CHANGES)
    study = place.ask("asked", **ASKED)
    monkeypatch.setattr(run_steps.train, "train_network", lambda *arguments: None)  # its record is of other code
    with pytest.raises(BusyError, match=r"^relu seed 1: code or data were changed while it trained"):
        run_steps.do_runs(Folders(tmp_path / "studies"), study.runs[:1], study.child_run)
