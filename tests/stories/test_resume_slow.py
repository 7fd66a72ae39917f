"""An interrupted training goes on to the same bytes: from every step, on every strategy, after every kind of end."""

import json
import random
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import every_step
import small
from resumed_trainings import CHANGES, Training, check_killed_at_the_end, runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("resume"), validation_share=0.2)


@pytest.mark.parametrize(("changes", "every"), [(every_step.EVERYTHING_KEPT, 4), (every_step.REPLICAS, 5)])
def test_from_many_steps(normalized: Path, changes: dict[str, Any], every: int) -> None:
    """Of every step, and of other strategies and backends, see tests/proofs."""
    every_step.check(normalized, changes, every)


@pytest.fixture(scope="module")
def whole(normalized: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(tmp_path_factory.mktemp("whole") / "training", normalized, {})
    training.finish()
    return training


def test_killed_stopped_and_interrupted_it_ends_in_the_same_bytes_and_the_same_run(
    normalized: Path, whole: Training, tmp_path: Path
) -> None:
    training = Training(tmp_path / "training", normalized, {})
    after = random.Random(5)
    assert training.interrupted(signal.SIGKILL, after.randint(1, 6)) == -signal.SIGKILL
    assert training.interrupted(signal.SIGINT, after.randint(1, 6)) == 75
    text = training.log.read_text()
    assert re.search(r"train: goes on from its checkpoint at epoch \d step \d+, in the same run", text)
    assert re.search(r"train: stopped as asked, after .*\. A checkpoint is kept: the same command goes on", text)
    assert training.interrupted(signal.SIGTERM, after.randint(1, 6)) == 75
    assert training.interrupted(signal.SIGKILL, after.randint(1, 6)) == -signal.SIGKILL
    training.finish()
    assert training.digests() == whole.digests()
    assert not list((training.folder / ".checkpoints").iterdir())

    (run,), (reference,) = runs(training.folder), runs(whole.folder)
    assert run["status"] == "FINISHED"
    assert run["series"] == reference["series"]
    record = json.loads((training.folder / "models/run.json").read_text())
    assert len(record["resumed"]) == 4
    assert run["key"] == record["key"]


def test_killed_after_its_last_checkpoint_it_writes_what_the_checkpoint_holds(tmp_path: Path) -> None:
    """Of other engines see tests/proofs."""
    check_killed_at_the_end(tmp_path, "stopped early")


def test_another_value_begins_anew_and_no_resume_does_too(normalized: Path, whole: Training, tmp_path: Path) -> None:
    training = Training(tmp_path / "training", normalized, {"train.optimizer.learning_rate": 0.01})
    training.interrupted(signal.SIGKILL, 2)
    (training.folder / "params.yaml").write_bytes(small.params_text(CHANGES))
    text = training.finish()
    assert "train: starts a new training; the newest checkpoint is of another one:" in text
    assert "  params.train.optimizer.learning_rate: 0.01 there, 0.003 here" in text
    assert training.digests() == whole.digests()
    assert len(list((training.folder / ".checkpoints").iterdir())) == 1  # the other one's, for whoever goes back

    training.interrupted(signal.SIGKILL, 2)
    text = training.finish("--no-resume")
    assert "goes on" not in text
    assert training.digests() == whole.digests()
