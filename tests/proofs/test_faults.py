"""What goes wrong around `dvc repro`: real processes of DVC, one story a test."""

import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

import small
from keras_pipeline.tracking import live_run
from keras_pipeline.tracking.stores import address
from many_writers import check_many_writers
from pipeline_workspaces import REPRODUCED, digests, stages_run
from real_workspace import Workspace, wait_until
from resumed_trainings import Training, runs
from tracking_fixtures import MLFLOW_WARNINGS

pytestmark = [pytest.mark.proof, MLFLOW_WARNINGS]


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


def test_four_trainings_that_write_10_000_points_each_lose_none(tmp_path: Path) -> None:
    """Four trainings that send 10,000 points each into one store at once, while others look at it, lose none."""
    check_many_writers(tmp_path, epochs=2000)


@pytest.mark.own_processes
@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_worker_that_is_asked_to_end_ends_all_and_they_go_on_together(tmp_path: Path, rank: str) -> None:
    """Of two workers one gets SIGTERM: both end within a minute with exit 75, and the same command goes on from the
    chief's checkpoint to the same bytes, in one run of MLflow."""
    normalized = small.normalized_digits(tmp_path / "data", validation_share=0.2)
    changes = {"train.strategy": "multi_worker", "train.workers": 2, "train.checkpoint_steps": 20, "train.epochs": 3}
    undisturbed = Training(tmp_path / "undisturbed", normalized, changes)
    undisturbed.finish()
    training = Training(tmp_path / "training", normalized, changes)
    launcher = training.start()
    wait_until(lambda: training.generation() >= 2 or launcher.poll() is not None, 200, "checkpoints")
    workers = psutil.Process(launcher.pid).children(recursive=True)
    next(one for one in workers if one.environ().get("LOCAL_RANK") == rank).terminate()
    assert launcher.wait(60) == 75, training.log.read_text()
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    assert "train: goes on from its checkpoint" in training.finish()
    assert training.digests() == undisturbed.digests()
    assert [run["status"] for run in runs(training.folder)] == ["FINISHED"]  # the chief alone tells and writes
    assert not list((training.folder / ".checkpoints").iterdir())


def test_a_training_that_was_stopped_for_a_while_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    """A training that gets SIGSTOP, and SIGCONT later, as when a laptop sleeps, lives for whoever asks meanwhile, and
    ends in the same bytes and curves."""
    normalized = small.normalized_digits(tmp_path / "data", validation_share=0.2)
    whole, slept = (Training(tmp_path / name, normalized, {}) for name in ("whole", "slept"))
    whole.finish()
    process = slept.start()
    wait_until(lambda: slept.generation() >= 2 or process.poll() is not None, 200, "checkpoints")
    trainer = int((slept.folder / "models" / ".lock").read_text().split()[0])
    os.kill(trainer, signal.SIGSTOP)
    try:
        generation = slept.generation()
        time.sleep(1)
        assert slept.generation() == generation
        location = address.store_location(slept.folder)
        assert live_run.find_dead_runs(location) == []  # it lives, however long it is silent
        (slept.folder / "log").rename(slept.folder / "log of the first")
        second = slept.start()
        assert second.wait(60) == 75
        assert f"models/ is being written by process {trainer}" in slept.log.read_text()
    finally:
        os.kill(trainer, signal.SIGCONT)
    assert process.wait(200) == 0
    assert slept.digests() == whole.digests()
    assert [run["series"] for run in runs(slept.folder)] == [run["series"] for run in runs(whole.folder)]
    assert [run["status"] for run in runs(slept.folder)] == ["FINISHED"]
