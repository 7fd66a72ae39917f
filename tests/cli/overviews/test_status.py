"""`keras-pipeline status`: where the files come from, and why they are stale."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import small
import tiny_datasets
from keras_pipeline.checks.params import load_params
from keras_pipeline.cli.overviews import status
from keras_pipeline.config import params
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.data.statistics import describe_dataset
from keras_pipeline.evaluation.predictions import Predictions, write_predictions
from keras_pipeline.records import provenance
from keras_pipeline.records.git import git_state
from keras_pipeline.sources.files import scan
from keras_pipeline.stages import fetch
from places import SHIPPED

PARAMS = load_params(SHIPPED)
SCORES = {"test/accuracy": 0.98765, "test/accuracy_low": 0.98, "test/accuracy_high": 0.99, "test/loss": 0.04321}


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A run of the shipped params, and the files that it left in the current folder."""
    monkeypatch.chdir(tmp_path)
    blocks = {name: getattr(PARAMS, name) for name in ("seed", "fetch", "normalize", "model", "train")}
    statistics = small.statistics({"train": 54_000, "validation": 6_000, "test": 10_000}, dataset="mnist")
    files.write_json(Path("data/normalized/statistics.json"), statistics)
    files.write_atomically(Path("models/model.keras"), b"weights")
    strategy = {"name": "none", "asked": "none", "backend": "tensorflow", "devices": ["/cpu:0"]}
    record = {
        "key": "f" * 32,
        "dataset": describe_dataset(statistics),
        "best_epoch": 2,
        "weights": 7,
        "strategy": {**strategy, "workers": 1, "replicas": 1},
        "machine": {},
        "versions": {},
        "environment": [],
        "resumed": [],
        "reproducibility": "seeded",
        "name": "mnist mlp",
        "started": 1_700_000_000.0,
        "ended": 1_700_000_071.5,
        "train_seconds": 61.5,
        "history": [{"epoch": epoch, "train/loss": 1.0, "val/loss": 1.0} for epoch in (1, 2)],
        "params": provenance.flat_params(blocks),
        "git": {"commit": "0123456789abcdef" * 4, "dirty": True},
        "sha256": {
            "params": "1" * 64,
            "data": files.file_sha256(Path("data/normalized/statistics.json")),
            "code": provenance.code_digest("keras_pipeline.stages.train"),
            "model": files.file_sha256(Path("models/model.keras")),
        },
    }
    files.write_json(Path("models/run.json"), record)
    return record


def stale(record: dict[str, Any], values: params.Params = PARAMS) -> list[str]:
    return status.find_stale(values, Path("data/normalized"), Path("models"), record)


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    status.show_status(PARAMS, Path("data/normalized"), Path("models"), Path("reports"))
    return capsys.readouterr().out.splitlines()


def test_nothing_is_stale_after_a_run(record: dict[str, Any]) -> None:
    assert stale(record) == []


def test_params_of_other_stages_make_nothing_stale(record: dict[str, Any]) -> None:
    evaluate = PARAMS.evaluate.model_copy(update={"worst_mistakes": 1})
    tracking = PARAMS.tracking.model_copy(update={"experiment": "other"})
    assert stale(record, PARAMS.model_copy(update={"evaluate": evaluate, "tracking": tracking})) == []


def test_each_param_that_differs_is_named(record: dict[str, Any]) -> None:
    now = dict(record["params"])
    record["params"] |= {"seed": 7, "model.hidden_units": "[1]", "train.optimizer.rho": 0.25}
    del record["params"]["train.epochs"]
    assert stale(record) == [
        f"params: model.hidden_units was [1], is {now['model.hidden_units']}",
        f"params: seed was 7, is {PARAMS.seed}",
        f"params: train.epochs was not given, is {PARAMS.train.epochs}",
        "params: train.optimizer.rho was 0.25, is not given",
    ]


@pytest.mark.parametrize("change", ["other", "missing"])
def test_other_data(change: str, record: dict[str, Any]) -> None:
    path = Path("data/normalized/statistics.json")
    path.unlink()
    if change == "other":
        files.write_json(path, {"images": {"train": 1}})
    assert stale(record) == ["data: not the normalized data that the network was trained on"]


def test_other_code(record: dict[str, Any]) -> None:
    record["sha256"]["code"] = "0" * 64
    assert stale(record) == ["code: a module that train imports has changed"]


@pytest.mark.parametrize("change", ["other", "missing"])
def test_another_model(change: str, record: dict[str, Any]) -> None:
    path = Path("models/model.keras")
    path.unlink()
    if change == "other":
        path.write_bytes(b"other weights")
    assert stale(record) == ["model: models/model.keras is not the network that this run wrote"]


def test_show_says_where_the_files_come_from(record: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    files.write_json(Path("reports/metrics.json"), SCORES)
    run, trained, result, state = shown(capsys)
    assert run == f"run:      mnist mlp, key {'f' * 32}"
    assert trained.endswith(", 2 epochs, 62 s, commit 0123456789ab with changes")
    assert result == ("result:   test/accuracy 0.9877 [0.9800, 0.9900], test/loss 0.0432; figures in reports/figures/")
    assert state == "state:    up to date"


def test_show_lists_the_reasons(record: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    record["params"]["seed"] = 7
    record["git"] = {"commit": None, "dirty": False}
    files.write_json(Path("models/run.json"), record)
    Path("models/model.keras").write_bytes(b"other weights")
    _, trained, *state = shown(capsys)
    assert trained.endswith(", no commit")
    assert state == [
        "state:    stale, run `dvc repro`:",
        f"          params: seed was 7, is {PARAMS.seed}",
        "          model: models/model.keras is not the network that this run wrote",
    ]


@pytest.mark.parametrize("of", ["this", "another", "an earlier version's"])
def test_reports_of_another_network_are_told(
    of: str, record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    files.write_json(Path("reports/metrics.json"), SCORES)
    digest = {"this": record["sha256"]["model"], "another": "a" * 64}.get(of)
    outputs, labels = np.zeros((10_000, 10), np.float32), np.zeros(10_000, np.int64)
    write_predictions(Path("reports/predictions.npz"), Predictions(outputs, labels, 0.5, None, digest))
    state = shown(capsys)[3:]
    if of != "another":
        assert state == ["state:    up to date"]
        return
    here = record["sha256"]["model"][:12]
    assert state == [
        "state:    stale, run `dvc repro`:",
        f"          reports: they are of the network aaaaaaaaaaaa…, and models/model.keras is {here}…",
    ]


def test_reports_that_cannot_be_of_this_run_are_told(
    record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """As they are while a training with other data is not evaluated yet."""
    outputs, labels = np.zeros((50, 10), np.float32), np.zeros(50, np.int64)
    write_predictions(Path("reports/predictions.npz"), Predictions(outputs, labels, 0.5, None, None))
    *_, reason = shown(capsys)
    assert reason.startswith(
        "          reports: reports/predictions.npz: outputs: got <f4 of the shape (50, 10). Expected"
    )


def test_show_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run\.json: not there\. The stage 'train' writes it"):
        status.show_status(PARAMS, tmp_path, tmp_path, tmp_path)


def test_a_network_of_no_use_is_said(record: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    files.write_json(Path("reports/metrics.json"), {**SCORES, "test/p_no_better_than_constant": 0.2})
    result = next(line for line in shown(capsys) if line.startswith("result:"))
    assert result == (
        "result:   test/accuracy 0.9877 [0.9800, 0.9900], no better than a constant answer, test/loss 0.0432; "
        "figures in reports/figures/"
    )


def test_files_that_dvc_refuses_are_named_with_the_way_out(
    record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n<<<<<<< HEAD\n  a: 12\n=======\n  a: 10\n>>>>>>> colleague\n")
    with pytest.raises(DataError) as raised:
        shown(capsys)
    assert str(raised.value).startswith("dvc.lock:3: a git conflict marker, '<<<<<<<'. Take one side")
    assert "`git checkout --theirs dvc.lock && dvc repro`; where nothing is being merged, `rm dvc.lock" in str(
        raised.value
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "state:    unknown while DVC refuses this folder"
    Path("models/run.json").unlink()
    with pytest.raises(DataError, match=r"(?s)^dvc\.lock:3: .*\nmodels/run\.json: not there"):
        shown(capsys)


def test_a_git_that_refuses_is_told_with_its_remedy(
    record: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet"], check=True)
    assert not any(line.startswith("git:") for line in shown(capsys))
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    *_, line, state = shown(capsys)
    assert line.startswith("git:      unknown: fatal: detected dubious ownership in repository at '")
    assert line.endswith(f"(its remedy: git config --global --add safe.directory {Path.cwd()})")
    assert state == "state:    up to date"
    record["git"] = git_state()
    files.write_json(Path("models/run.json"), record)
    assert "61 s, unknown: fatal: detected dubious ownership" in shown(capsys)[1].replace("62 s", "61 s")


def test_data_and_a_dataset_file_that_changed_since_they_were_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scan, "_UNSETTLED_NS", 0)
    own = tiny_datasets.write_own(tmp_path)
    chosen: Any = SimpleNamespace(fetch=SimpleNamespace(dataset="own"))

    def told() -> list[str]:
        return status.find_other_data(chosen, Path("data/raw"))

    assert told() == []  # nothing was fetched
    fetch.fetch_dataset(chosen, Path("data/raw"), Path("data/downloads"))
    assert told() == []
    content = (tmp_path / "own" / "labels").read_bytes()
    (tmp_path / "own" / "labels").write_bytes(content[:-1] + bytes([1 - content[-1]]))
    for _ in range(2):  # to look takes nothing from what the next `dvc repro` says
        assert told() == ["dataset: own: 1 file changed since the last time"]
    (tmp_path / "own" / "labels").write_bytes(content)
    assert told() == []
    own.write_text(own.read_text().replace("[a, b]", "[b, a]"))
    assert told() == ["dataset: datasets/own.yaml says something else than when its data were read"]
