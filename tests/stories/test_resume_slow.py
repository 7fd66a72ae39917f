"""An interrupted training goes on to the same bytes: from every step, on every strategy, after every kind of end."""

import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

import every_step
import small
from places import PROGRAM
from programs import run_program
from real_workspace import wait_until

pytestmark = pytest.mark.slow

CHANGES: dict[str, Any] = {
    "fetch.dataset": "digits",
    "normalize.validation_share": 0.2,
    "model.hidden_units": [64],
    "train.epochs": 10,  # long enough not to be over when a busy machine looks late
    "train.batch_size": 16,
    "train.checkpoint_steps": 7,
}
REPRODUCED = ("model.keras", "history.csv")


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("resume"), validation_share=0.2)


@pytest.mark.parametrize(("changes", "every"), [(every_step.EVERYTHING_KEPT, 4), (every_step.REPLICAS, 5)])
def test_from_many_steps(normalized: Path, changes: dict[str, Any], every: int) -> None:
    """Of every step, and of other strategies and backends, see tests/proofs."""
    every_step.check(normalized, changes, every)


class Training:
    """A folder with params.yaml in which `keras-pipeline train` runs, as often as it takes."""

    def __init__(self, folder: Path, normalized: Path, changes: dict[str, Any]) -> None:
        folder.mkdir()
        self.folder, self.normalized, self.log = folder, normalized, folder / "log"
        (folder / "params.yaml").write_bytes(small.params_text({**CHANGES, **changes}))

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        environ = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}
        with self.log.open("w") as log:
            return subprocess.Popen(
                [PROGRAM, "train", "--normalized", self.normalized, *options],
                cwd=self.folder,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def finish(self, *options: str) -> str:
        assert self.start(*options).wait(300) == 0, self.log.read_text()
        return self.log.read_text()

    def interrupted(self, number: int, after: int, options: tuple[str, ...] = ()) -> int:
        """The exit code of a training that gets a signal when `after` more checkpoints were written."""
        training = self.start(*options)
        before = self.generation()
        wait_until(lambda: self.generation() >= before + after or training.poll() is not None, 200, "checkpoints")
        training.send_signal(number)
        return training.wait(60)

    def generation(self) -> int:
        kept = [int(path.stem) for path in self.folder.glob(".checkpoints/*/*.checkpoint")]
        return max(kept, default=0)

    def digests(self) -> dict[str, str]:
        return {name: hashlib.sha256((self.folder / "models" / name).read_bytes()).hexdigest() for name in REPRODUCED}


@pytest.fixture(scope="module")
def whole(normalized: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(tmp_path_factory.mktemp("whole") / "training", normalized, {})
    training.finish()
    return training


@pytest.mark.own_processes
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


def runs(folder: Path) -> list[dict[str, Any]]:
    """Each run's status and every value of its series but the machine's own."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        found = []
        for identity, status in database.execute("SELECT run_uuid, status FROM runs").fetchall():
            query = "SELECT key, step, value FROM metrics WHERE run_uuid = ? AND key NOT LIKE 'system/%' ORDER BY 1, 2"
            key = database.execute("SELECT value FROM tags WHERE run_uuid = ? AND key = 'pipeline.key'", (identity,))
            series = database.execute(query, (identity,)).fetchall()
            found.append({"status": status, "series": series, "key": key.fetchone()[0]})
        return found


def test_killed_after_its_last_checkpoint_it_writes_what_the_checkpoint_holds(tmp_path: Path) -> None:
    """No epoch is left to do, in any engine: neither history, best weights nor averages may come from one."""
    short = {"fetch.dataset": "digits", "normalize.validation_share": 0.2, "model.hidden_units": [32]}
    short |= {"train.epochs": 2, "train.batch_size": 64}
    averages = {"train.optimizer": {"name": "adamw", "learning_rate": 0.01, "use_ema": True, "ema_momentum": 0.9}}
    numpy = {"train.engine": "numpy", "train.optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}}
    numpy |= {"model.dropout": 0.0, "model.batch_normalization": False}
    stops = {"train.epochs": 9, "train.optimizer.learning_rate": 0.9, "train.early_stopping.patience": 1}
    replicas = {"train.strategy": "mirrored", "train.devices": 2, "train.batch_statistics": "per_replica"}
    variants: dict[str, dict[str, Any]] = {
        "step by step": {"train.fused": False, **averages},
        "stopped early": {"train.fused": True, **stops},
        "numpy": numpy,
        "replicas": replicas,
    }
    small.normalized_digits(tmp_path, validation_share=0.2)
    asked = json.dumps({name: short | changes for name, changes in variants.items()})
    printed = run_program("killed_at_the_end.py", tmp_path, asked)
    assert printed.splitlines() == [f"{name}: the same" for name in variants]
    early = json.loads((tmp_path / "stopped early killed/models/run.json").read_text())
    assert early["best_epoch"] < len(early["history"]) < 9
    [run], [reference] = (runs(tmp_path / f"stopped early {kind}") for kind in ("killed", "whole"))
    assert (run["status"], run["series"]) == ("FINISHED", reference["series"])


@pytest.mark.own_processes
def test_another_value_begins_anew_and_no_resume_does_too(normalized: Path, whole: Training, tmp_path: Path) -> None:
    training = Training(tmp_path / "training", normalized, {"train.optimizer.learning_rate": 0.01})
    training.interrupted(signal.SIGKILL, 2)
    (training.folder / "params.yaml").write_bytes(small.params_text(CHANGES))
    text = training.finish()
    assert "train: begins anew; the newest checkpoint is of another training:" in text
    assert "  params.train.optimizer.learning_rate: 0.01 there, 0.003 here" in text
    assert training.digests() == whole.digests()
    assert len(list((training.folder / ".checkpoints").iterdir())) == 1  # the other one's, for whoever goes back

    training.interrupted(signal.SIGKILL, 2)
    text = training.finish("--no-resume")
    assert "goes on" not in text
    assert training.digests() == whole.digests()


@pytest.mark.own_processes
def test_a_killed_worker_ends_all_and_the_same_command_goes_on(normalized: Path, tmp_path: Path) -> None:
    changes = {"train.strategy": "multi_worker", "train.workers": 2, "train.checkpoint_steps": 20, "train.epochs": 3}
    undisturbed = Training(tmp_path / "undisturbed", normalized, changes)
    undisturbed.finish()
    training = Training(tmp_path / "training", normalized, changes)
    launcher = training.start()
    wait_until(lambda: training.generation() >= 2 or launcher.poll() is not None, 200, "checkpoints")
    workers = psutil.Process(launcher.pid).children(recursive=True)
    victim = next(one for one in workers if one.environ().get("LOCAL_RANK") == "1")
    victim.kill()
    assert launcher.wait(60) == 75, training.log.read_text()
    assert "worker 1 of 2" in training.log.read_text()
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []
    text = training.finish()
    assert "train: goes on from its checkpoint" in text
    assert training.digests() == undisturbed.digests()
    assert not list((training.folder / ".checkpoints").iterdir())
