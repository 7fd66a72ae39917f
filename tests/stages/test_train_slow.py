"""The stage train: what it tells and writes, and images and networks that do not fit into memory."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fault_server
import real_workspace
import small
from keras_pipeline.core import files, json_files
from keras_pipeline.data import splits
from keras_pipeline.data.scaling import fit_scaling
from keras_pipeline.records.observer import Observer
from keras_pipeline.sources.kinds.made import digits
from keras_pipeline.stages import train
from keras_pipeline.tracking import live_run
from keras_pipeline.tracking.stores import address, connection
from tracking_fixtures import TrackingServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("training"))


class Witness(Observer):
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def started(self, run: dict[str, Any]) -> None:
        self.told.append("started")

    def epoch(self, row: dict[str, float]) -> None:
        self.told.append(f"epoch {row['epoch']}")

    def ended(self, status: str, run: dict[str, Any], model: Any) -> None:
        self.told.append(f"{status} {'with' if model else 'without'} model")


def test_the_stage_tells_its_observer_and_writes_the_contract(normalized: Path, tmp_path: Path) -> None:
    from keras_pipeline.core import files

    witness = Witness()
    train.train_network(small.params(), normalized, tmp_path, witness, tmp_path / "checkpoints")
    assert witness.told == ["started", "epoch 1", "epoch 2", "FINISHED with model"]
    record = json_files.parse_json((tmp_path / "run.json").read_bytes())
    assert record["sha256"]["model"] == files.file_sha256(tmp_path / "model.keras")
    assert record["sha256"]["data"] == files.file_sha256(normalized / "statistics.json")
    assert record["params"]["train.optimizer.name"] == "adam"
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,train/loss,train/accuracy,val/loss,val/accuracy,train/learning_rate"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2"]


def test_a_server_that_falls_silent_costs_no_bit_and_no_more_than_its_time(
    normalized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "CALL_SECONDS", 0.5)
    monkeypatch.setattr(live_run, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # MLflow writes there
    connection.start_mlflow()
    seconds, digests = [], set()
    with TrackingServer() as server:
        server.answers["log-batch"] = fault_server.silent
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        where = address.store_location(tmp_path)
        for number, observer in enumerate([Observer(), live_run.LiveTracker(where, "x"), Observer()]):
            models, began = tmp_path / str(number), time.monotonic()
            train.train_network(small.params(), normalized, models, observer, tmp_path / "checkpoints")
            seconds.append(time.monotonic() - began)
            digests.add(tuple(files.file_sha256(models / name) for name in ("model.keras", "history.csv")))
    assert len(digests) == 1
    assert seconds[1] < max(seconds[0], seconds[2]) + 1.0 + 1
    said = capsys.readouterr().err
    assert said.count("tracking: MLflow at http://127.0.0.1:") == 1
    assert "is not available (no answer within 0.5 s). Training goes on" in said


def test_a_training_that_fails_is_told_as_failed(
    normalized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, status in ((RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")):
        witness = Witness()

        def fail(*_: object, error: type[BaseException] = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("keras_pipeline.training.fit.fit_network", fail)
        with pytest.raises(error):
            train.train_network(small.params(), normalized, tmp_path, witness, tmp_path / "checkpoints")
        assert witness.told == ["started", f"{status} without model"]
        assert not (tmp_path / "model.keras").exists()


def test_a_network_beyond_this_machine_is_refused(normalized: Path) -> None:
    from keras_pipeline.core.errors import MachineError
    from keras_pipeline.training import recorded_training

    huge = small.params({"model.hidden_units": [65536] * 20})
    with pytest.raises(MachineError, match=r"params.yaml: model: a training step needs at least [\d.]+ GB of memory"):
        recorded_training.check_training(huge, normalized)


MEBIBYTE = 2**20


def many_digits(folder: Path, counts: dict[str, int]) -> int:
    """The digits over and over, as `normalize` writes them; the bytes of the training images when they are scaled."""
    pixels, labels = digits()["train"]
    scaling = fit_scaling("unit", [])
    digests: dict[str, str] = {}
    for name, count in counts.items():
        chosen = np.arange(count) % len(labels)
        digests |= splits.write_split(folder, name, splits.read_blocks(pixels, chosen), labels[chosen])
    of_classes = {
        name: np.bincount(labels[np.arange(count) % len(labels)], minlength=10).tolist()
        for name, count in counts.items()
    }
    statistics = small.statistics(
        counts,
        scaling=scaling.constants(),
        class_counts=of_classes,
        normalize=small.params().normalize.model_dump(),
        sha256=digests,
    )
    files.write_json(folder / "statistics.json", statistics)
    return 4 * counts["train"] * pixels[0].size


def test_images_that_do_not_fit_into_memory_are_trained_on(tmp_path: Path) -> None:
    """With all of them scaled in memory, beside what TensorFlow itself takes, the process would be over the limit."""
    limit = 900 * MEBIBYTE
    size = many_digits(tmp_path / "data" / "normalized", {"train": 250_000, "validation": 50_000, "test": 100})
    assert size > 0.8 * limit
    chosen = {"train.epochs": 1, "train.schedule.name": "constant", "train.batch_size": 1000}
    (tmp_path / "params.yaml").write_bytes(small.params_text({**small.QUICK, **chosen}))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    done = subprocess.run(
        [sys.executable, "-m", "keras_pipeline.cli.main", "train"],
        cwd=tmp_path,
        env={**os.environ, **real_workspace.ONE_THREAD, "MLFLOW_TRACKING_URI": ""},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((tmp_path / "models" / "run.json").read_text())
    assert run["strategy"]["fused"] is False  # the program would hold all images
    assert run["history"][0]["val/accuracy"] > 0.95
