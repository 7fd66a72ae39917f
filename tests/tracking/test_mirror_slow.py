"""What MLflow is told, and that it is told once."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tracking_fixtures
from keras_pipeline.checks.params import load_params
from keras_pipeline.core.errors import DataError
from keras_pipeline.tracking import mirror, runs, store
from keras_pipeline.tracking.stores import relocation
from tracked_runs import CURVES, KEY, TRACK, artifacts, output, python, run_of, series, state_of
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, STARTED, Checkout, contents

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


def test_everything_arrives(stored: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    layers = json.dumps([{"layer": "Dense", "units": units} for units in range(1, 60)])
    record = tracking_fixtures.record(stored.params_file)
    record["params"]["model.layers"] = layers
    stored.write(record)
    stored.track()
    assert capsys.readouterr() == (
        f"track: 'digits mlp' is in MLflow (sqlite:///{stored.database}). Look at it: keras-pipeline ui\n",
        "",
    )
    run = run_of(stored)
    info = run.info
    assert " batch_size=128 learning_rate=0.001 · digits mlp 11-1" in info.run_name
    assert (info.status, info.start_time, info.end_time) == ("FINISHED", 1_700_000_000_250, 1_700_000_031_250)
    expected = {key: str(value) for key, value in record["params"].items()}
    expected |= {"model.hidden_units": "512, 256", "model.filters": "32, 64, 128"}
    assert len(run.data.params.pop("model.layers")) <= 500 < len(layers)
    del expected["model.layers"]
    assert run.data.params == expected
    assert series(stored, run) == {
        name: [(row["epoch"], row[name], round((STARTED + 10 * row["epoch"]) * 1000)) for row in record["history"]]
        for name in CURVES
    }
    assert {key: value for key, value in run.data.metrics.items() if key not in CURVES} == {
        **tracking_fixtures.scores(),
        "best/epoch": 3,
        "best/val_loss": 0.5,
        "best/val_accuracy": 1 - 0.625 / 3,
        "time/train_seconds": 31,
    }
    tags = {
        "pipeline.key": KEY,
        "dataset": "digits",
        "strategy": "none",
        "devices": "/cpu:0",
        "weights": "538122",
        "git.dirty": "false",
        "sha256.model": "4" * 64,
        "sha256.data": "2" * 64,
        "version.keras": "3.15.1",
        "evaluate.calibration_bins": "15",
        "mlflow.source.git.commit": "c" * 40,
    }
    assert {name: run.data.tags[name] for name in tags} == tags
    note = run.data.tags["mlflow.note.content"]
    assert "**95.00%** of the 20 test images right [88.75%, 98.12%], loss 0.2500." in note
    assert "digits → mlp with 538,122 weights, adam at 0.001, batches of 256, 3 epochs (weights of epoch 3)" in note
    assert f"`git checkout {'c' * 12}`, params.yaml" in note
    datasets = {one.dataset.name: one for one in run.inputs.dataset_inputs}
    assert [datasets[f"digits {split}"].dataset.digest for split in tracking_fixtures.SPLITS] == [
        f"{number}69000000000" for number in range(3)
    ]
    assert json.loads(datasets["digits train"].dataset.profile) == {
        "num_rows": 90, "scaling": "standard", "title": "The title of digits", "licence": "CC0 1.0", "input": "images",
        "shape": [28, 28, 1], "sha256 of the source": "d" * 64,
    }  # fmt: skip
    assert datasets["digits test"].tags[0].value == "testing"
    assert artifacts(stored, run) == [
        "environment.txt",
        "params.yaml",
        "reports/figures/confusion_matrix.png",
        "reports/figures/reliability.png",
        "reports/metrics.json",
        "reports/predictions.npz",
        "reports/tables/per_class.csv",
        "run.json",
    ]
    kept = Path(info.artifact_uri.removeprefix("file://"))
    assert kept.is_relative_to(stored.root / "mlruns" / "artifacts")
    assert json.loads((kept / "run.json").read_text()) == record
    assert (kept / "environment.txt").read_text() == "keras==3.15.1\nnumpy==2.4.6\n"
    assert {path.name for path in stored.root.iterdir()} == {"dvc.yaml", "mlruns", "models", "params.yaml", "reports"}
    assert {path.name for path in (stored.root / "mlruns").iterdir()} == {
        ".mlflow.db-lock",
        "artifacts",
        "mlflow.db",
        "sent",
        "waiting",
    }


def test_sending_twice_changes_nothing(stored: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    stored.track()
    before, files = contents(stored.database), sorted((stored.root / "mlruns" / "artifacts").rglob("*"))
    assert len(before["metrics"]) == 3 * len(CURVES) + 4 + 4
    stored.track()
    assert capsys.readouterr().out.splitlines()[1] == "track: MLflow has 'digits mlp' as it is here"
    stored.track(again=True)
    assert contents(stored.database) == before
    assert sorted((stored.root / "mlruns" / "artifacts").rglob("*")) == files


def test_what_was_deleted_in_mlflow_is_sent_again_whole(stored: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    stored.track()
    capsys.readouterr()
    shutil.rmtree(stored.root / "mlruns" / "artifacts")
    stored.track()
    assert "is in MLflow" in capsys.readouterr().out
    kept = Path(run_of(stored).info.artifact_uri.removeprefix("file://"))
    assert {"environment.txt", "images", "params.yaml", "reports", "run.json"} == {one.name for one in kept.iterdir()}
    client = store.connect_store(stored.where, load_params(stored.params_file).tracking.experiment).client
    first = run_of(stored).info.run_id
    client.delete_run(first)
    stored.track()
    assert "is in MLflow" in capsys.readouterr().out
    assert run_of(stored).info.run_id != first
    stored.track()
    assert "as it is here" in capsys.readouterr().out
    client.delete_experiment(run_of(stored).info.experiment_id)
    stored.track()
    assert "was deleted" in capsys.readouterr().err


def test_mlflow_follows_an_evaluation_there_and_back(stored: Checkout) -> None:
    def evaluated(bins: int, accuracy: float, shade: int) -> Any:
        stored.set_params({"evaluate.calibration_bins": bins})
        stored.write(accuracy=accuracy, shade=shade)
        stored.track()
        experiment = load_params(stored.params_file).tracking.experiment
        assert mirror.is_mirrored(stored.where, experiment, KEY, state_of(stored))
        return run_of(stored)

    first, second, third = (evaluated(*values) for values in ((15, 0.95, 0), (7, 0.5, 255), (15, 0.95, 0)))
    assert second.data.tags["evaluate.calibration_bins"] == "7"
    assert second.data.metrics["test/accuracy"] == 0.5
    assert "**50.00%**" in second.data.tags["mlflow.note.content"]
    assert (third.info.status, third.info.end_time) == (first.info.status, first.info.end_time)
    assert (third.data.metrics, third.data.tags) == (first.data.metrics, first.data.tags)
    kept = Path(third.info.artifact_uri.removeprefix("file://"))
    picture = "figures/confusion_matrix.png"
    assert (kept / "reports" / picture).read_bytes() == (stored.root / "reports" / picture).read_bytes()
    # The names of the images with a key hold the time: one for each time that the picture changed.
    shown = [Image.open(path).getpixel((0, 0)) for path in sorted((kept / "images").glob("*.png"))]
    assert shown == [0, 255, 0]


def test_a_run_carries_the_names_of_every_experiment_that_gave_it(stored: Checkout) -> None:
    for name in ("icy-boat", "old-yolk", "icy-boat"):
        os.environ["DVC_EXP_NAME"] = name
        stored.track()
    run = run_of(stored)
    assert run.info.run_name == "batch_size=128 learning_rate=0.001 · digits mlp icy-boat"
    assert run.data.tags["dvc.exps"] == "icy-boat,old-yolk"
    assert run.data.tags["dvc.last_exp"] == "icy-boat"


def test_a_run_that_was_only_begun_is_completed(stored: Checkout) -> None:
    reached = store.connect_store(stored.where, EXPERIMENT)
    reached.client.create_run(reached.experiment, tags={runs.KEY: KEY}, run_name="begun")
    stored.track()
    run = run_of(stored)
    assert run.info.run_name == "begun"
    assert len(run.data.params) == len(tracking_fixtures.record(stored.params_file)["params"])
    assert len(run.inputs.dataset_inputs) == 3


@pytest.mark.parametrize("missing", ["models/run.json", "reports/metrics.json"])
def test_nothing_is_sent_before_a_stage_has_ended(stored: Checkout, missing: str) -> None:
    (stored.root / missing).unlink()
    with pytest.raises(DataError, match=f"{missing}: not there"):
        stored.track()
    assert contents(stored.database)["runs"] == []


def test_nothing_to_do_needs_no_mlflow_and_a_deleted_database_is_made_again(stored: Checkout) -> None:
    stored.track()
    before = run_of(stored)
    code = TRACK + "print(code, 'mlflow' in sys.modules)"
    said = r"track: MLflow has 'digits mlp' as it is here\ntrack: [\d.]+ s: other [\d.]+\n0 False\n"
    assert re.fullmatch(said, output(python(code, stored.root)))
    stored.database.unlink()
    assert output(python(code, stored.root)).endswith("\n0 True\n")
    copy = Checkout(stored.root.rename(stored.root.with_name("moved")))  # here SQLAlchemy holds the deleted file open
    relocation.relocate_artifacts(copy.where)
    run = run_of(copy)
    assert (run.data.params, run.data.metrics, run.data.tags) == (
        before.data.params,
        before.data.metrics,
        before.data.tags,
    )
