"""The pipeline, killed at the moments where a training begins and ends."""

import os
import re
import sys
from pathlib import Path

import pytest

from pipeline_workspaces import REPRODUCED, digests, stages_run
from places import SUPPORT
from real_workspace import PROGRAMS, Workspace

pytestmark = [pytest.mark.proof, pytest.mark.own_processes]


def test_a_training_killed_at_its_begin_and_at_its_end_is_one_training_and_one_run(
    workspace: Workspace, finished: Workspace, tmp_path: Path
) -> None:
    """`dvc repro` killed before the first checkpoint of its training, after the last one, and when all is written but
    DVC has not taken it, is one training and one run in MLflow."""
    workspace.set(train__optimizer__learning_rate=0.003)
    moments = [
        ("training.recorded_training", "RecordedTraining.fit"),
        ("training.recorded_training", "RecordedTraining.write"),
        ("core.process", "timing_line"),
    ]
    outputs = []
    for number, (module, name) in enumerate(moments):
        program = tmp_path / f"killed{number}" / "keras-pipeline"
        program.parent.mkdir()
        program.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.append({str(SUPPORT)!r})\nimport killed_at\n"
            f"killed_at.kill_at('keras_pipeline.{module}', {name!r})\nsys.exit(killed_at.main.main())\n"
        )
        program.chmod(0o755)
        done = workspace.run("dvc repro", PATH=f"{program.parent}:{PROGRAMS}:{os.environ['PATH']}")
        assert re.search(r"exited with (-9|137)", done.output)  # of a shell that stays between DVC and the stage: 137
        outputs.append(done.output)
    outputs.append(workspace.good("dvc repro"))
    assert ["Epoch 1/" in output for output in outputs] == [False, True, False, False]
    assert "train: begins again, because it ended before its first checkpoint, in the same run" in outputs[1]
    assert outputs[3].count("train: goes on from its checkpoint after the last epoch, in the same run") == 1
    [_, run] = workspace.runs()
    record = workspace.json("models/run.json")
    assert (run.status, run.epochs["val/loss"], len(run.models)) == ("FINISHED", [1, 2], 1)
    assert run.tags["pipeline.key"] == record["key"]
    assert run.tags["resumed"] == ", ".join(record["resumed"]) == "epoch 1 step 1, epoch 3 step 1"
    assert not list((workspace.folder / ".checkpoints").iterdir())
    assert stages_run(workspace.good("dvc repro")) == ["track"]

    written = digests(workspace, REPRODUCED)
    assert "Epoch 2/2" in workspace.good("dvc repro --force --single-item train")
    assert workspace.json("models/run.json")["key"] != record["key"]
    assert digests(workspace, REPRODUCED) == written
