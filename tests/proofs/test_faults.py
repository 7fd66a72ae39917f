"""What goes wrong around `dvc repro`: real processes of DVC, one story a test."""

import re

import pytest

from pipeline_workspaces import REPRODUCED, digests, stages_run
from real_workspace import Workspace, wait_until

pytestmark = pytest.mark.proof


def test_params_that_are_edited_while_a_network_trains_are_not_taken_for_its_own(
    workspace: Workspace, finished: Workspace
) -> None:
    """A value of params.yaml that is edited while `dvc repro` trains is never noted as the network's: the stage says
    so, and the next `dvc repro` trains with it; with the old one back, it goes on from its last checkpoint."""
    workspace.set(train__epochs=30, train__early_stopping__patience=0)
    dvc, log = workspace.start("dvc repro")
    history = workspace.folder / "models" / "history.csv"
    wait_until(lambda: history.exists() and len(history.read_text().split()) > 3 and dvc.poll() is None, 300, "epochs")
    text = (workspace.folder / "params.yaml").read_text()
    (workspace.folder / "params.yaml").write_text(text.replace("  dropout: 0.3 ", "  dropout: 0.4 "))
    assert dvc.wait(300) != 0
    assert "params.yaml: model.dropout changed while this stage ran, and DVC would note" in log.read_text()
    assert "keras-pipeline train: exit 75" in log.read_text()
    (workspace.folder / "params.yaml").write_text(text)
    output = workspace.good("dvc repro")
    assert "train: goes on from its checkpoint after the last epoch" in output
    assert stages_run(output) == ["train", "evaluate", "track"]
    assert workspace.json("models/run.json")["params"]["model.dropout"] == 0.3
    assert [run.status for run in workspace.runs()] == ["FINISHED", "FINISHED"]
    workspace.good("git checkout -- .")
    workspace.good("dvc repro")
    assert digests(workspace, REPRODUCED) == digests(finished, REPRODUCED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.epochs=two", r"params\.yaml:\d+:\d+: train\.epochs: 'two' is a string"),
        ("model.dropout=1", r"params\.yaml:\d+:\d+: model\.dropout: 1 is out of range"),
        ("+train.epoch=3", r"params\.yaml:\d+:\d+: train\.epoch: this key is not known here.*Did you mean 'epochs'"),
    ],
)
def test_a_wrong_value_of_an_experiment_is_told_as_one_of_the_file(
    workspace: Workspace, finished: Workspace, change: str, message: str
) -> None:
    """`dvc exp run -S` with a value that cannot be ends as the same value in params.yaml does, and costs nothing."""
    done = workspace.run("dvc exp run", "-S", change, timeout=120)
    assert done.code != 0
    assert re.search(message, done.output)
    assert "exit 2 (bad params or usage)" in done.output
    assert "Traceback" not in done.output
    workspace.recover()
    assert digests(workspace, REPRODUCED) == digests(finished, REPRODUCED)
    assert len(workspace.runs()) == 1
