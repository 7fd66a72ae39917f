"""The pipeline as its users drive it: real dvc, git and make processes on a small network, one story a test."""

import csv
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from keras_pipeline.core import files, json_files
from pipeline_workspaces import CURVES, FIGURES, REPORTS, REPRODUCED, digests, stages_run
from real_workspace import Workspace, wait_until
from tracking_fixtures import MAKER_THAT_IS_KILLED

pytestmark = pytest.mark.slow

EXIT_2 = r"(?s:.*)Nothing was changed\.\nkeras-pipeline \w+: exit 2 \(bad params or usage\)\n"
PROBE = """\
import json, os, sys
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
[run] = client.search_runs([one.experiment_id for one in client.search_experiments()])
print(json.dumps(sorted(one.path for one in client.list_artifacts(run.info.run_id, "reports/figures"))))
print(open(client.download_artifacts(run.info.run_id, "params.yaml")).read() == open("params.yaml").read())
"""


@pytest.fixture
def closed_port() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def experiments(workspace: Workspace) -> dict[str, dict[str, str]]:
    """The rows of `dvc exp show` by experiment."""
    rows = csv.DictReader(io.StringIO(workspace.good("dvc exp show --csv")))
    return {row["Experiment"]: row for row in rows if row["Experiment"]}


def points(plots: Any, name: str, revision: str, column: str | None = None) -> list[dict[str, str]]:
    """The data points of a plot (of one of its lines, if `column`) in the output of `dvc plots … --json`."""
    [plot] = plots["data"][name]
    values = plot["content"]["data"]["values"]
    return [point for point in values if (point["rev"], point.get("field")) == (revision, column)]


def queue_is_done(workspace: Workspace) -> bool:
    """Whether nothing is queued or runs; DVC fails where it reads a task's file that is being written just then."""
    status = workspace.run("dvc queue status")
    return status.code == 0 and not re.search("Queued|Running", status.output)


def of_the_training(metrics: dict[str, Any]) -> dict[str, Any]:
    """Without those of the machine, which a training that lasts some seconds has too."""
    return {name: value for name, value in metrics.items() if not name.startswith("system/")}


def start_long_training(
    workspace: Workspace, **variables: str
) -> tuple["subprocess.Popen[bytes]", Path, psutil.Process]:
    """`dvc repro` in the middle of a training of many epochs: it, its output, and the process that trains."""
    workspace.set(train__epochs=10_000, train__early_stopping__patience=0)
    dvc, log = workspace.start("dvc repro", **variables)
    alive, history = workspace.folder / "mlruns" / "alive", workspace.folder / "models" / "history.csv"

    def trains() -> bool:
        assert dvc.poll() is None, log.read_text()
        return bool(list(alive.glob("*.json"))) and history.exists() and len(history.read_text().split()) > 3

    wait_until(trains, 300, "the first epochs")
    [marker] = alive.glob("*.json")
    return dvc, log, psutil.Process(json_files.parse_json(marker.read_bytes())["pid"])


def check_repro_restores(workspace: Workspace, finished: Workspace) -> None:
    """With the params of before, `dvc repro` brings everything back without a training."""
    workspace.good("git checkout -- .")
    output = workspace.good("dvc repro")
    assert "Stage 'train' is cached" in output
    assert stages_run(output) == ["track"]
    assert digests(workspace, REPRODUCED) == digests(finished, REPRODUCED)
    assert not workspace.good("git status --short")


def test_a_first_repro_runs_every_stage_and_writes_what_each_promises(first_repro: tuple[Workspace, str]) -> None:
    workspace, output = first_repro
    folder = workspace.folder
    assert stages_run(output) == ["fetch", "normalize", "train", "evaluate", "export", "track"]
    assert "ERROR" not in output
    assert "WARNING" not in output

    assert workspace.json("data/raw/dataset.json")["name"] == "digits"
    statistics = workspace.json("data/normalized/statistics.json")
    for split, count in {"train": 1293, "validation": 144, "test": 360}.items():
        images = np.load(folder / f"data/normalized/{split}_images.npy", mmap_mode="r")
        labels = np.load(folder / f"data/normalized/{split}_labels.npy")
        assert (images.dtype, images.shape) == (np.uint8, (count, 28, 28, 1))
        assert (labels.dtype, labels.shape) == (np.int64, (count,))
        assert statistics["images"][split] == count

    record = workspace.json("models/run.json")
    assert zipfile.is_zipfile(folder / "models/model.keras")
    assert record["sha256"]["model"] == files.file_sha256(folder / "models/model.keras")
    with (folder / "models/history.csv").open() as history:
        rows = list(csv.DictReader(history))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert set(rows[0]) == CURVES | {"epoch"}
    assert [row["val/loss"] for row in rows] == [str(row["val/loss"]) for row in record["history"]]

    with np.load(folder / "reports/predictions.npz", allow_pickle=False) as saved:
        outputs, labels = saved["outputs"], saved["labels"]
    assert (outputs.dtype, outputs.shape, labels.dtype, labels.shape) == (np.float32, (360, 10), np.int64, (360,))
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-5)
    scores = workspace.json("reports/metrics.json")
    assert all(name.startswith("test/") and isinstance(score, float) for name, score in scores.items())
    assert scores["test/accuracy"] == (outputs.argmax(axis=1) == labels).mean()
    assert all((folder / "reports" / name).is_file() for name in REPORTS)
    assert {path.name for path in (folder / "reports/figures").iterdir()} == FIGURES
    exported = workspace.json("models/export/export.json")
    assert (exported["run"], exported["model_sha256"]) == (record["key"], record["sha256"]["model"])
    assert workspace.json("reports/export.json")["export/onnx/labels_flipped"] == 0


def test_a_first_repro_leaves_one_finished_run_that_mirrors_the_files(finished: Workspace) -> None:
    [run] = finished.runs()
    record = finished.json("models/run.json")
    assert run.status == "FINISHED"
    assert "digits mlp " in run.name
    assert set(run.params) == set(record["params"])
    assert run.params["train.epochs"] == "2"
    assert run.tags["pipeline.key"] == record["key"]
    assert run.tags["dataset"] == "digits"
    assert run.tags["evaluate.calibration_bins"] == "15"
    assert {name: run.epochs[name] for name in CURVES} == {name: [1, 2] for name in CURVES}
    assert run.metrics.items() >= finished.json("reports/metrics.json").items()
    assert run.metrics.items() >= finished.json("reports/export.json").items()
    assert run.metrics.items() >= finished.json("reports/export/times.json").items()
    [model] = run.models
    assert (model / "MLmodel").is_file()
    kept = {str(path.relative_to(run.artifacts)) for path in run.artifacts.rglob("*")}
    assert kept >= {"params.yaml", "run.json", "environment.txt", *(f"reports/{name}" for name in REPORTS)}
    assert kept >= {f"reports/figures/{name}" for name in FIGURES}
    assert kept >= {"export/export.json", "export/model.onnx", "export/javascript/network.js", "reports/export.json"}


def test_a_second_repro_only_looks(finished: Workspace) -> None:
    lock = (finished.folder / "dvc.lock").read_bytes()
    output = finished.good("dvc repro")
    assert stages_run(output) == ["track"]
    assert "track: MLflow has 'digits mlp' as it is here" in output
    assert (finished.folder / "dvc.lock").read_bytes() == lock
    assert not finished.good("git status --short")
    assert len(finished.runs()) == 1


def test_an_evaluate_knob_there_and_back_runs_evaluate_once_and_the_run_follows(workspace: Workspace) -> None:
    [before] = workspace.runs()

    def bins_here() -> int:
        return (workspace.folder / "reports/tables/calibration.csv").read_text().count("\n") - 1

    def check(bins: int) -> float:
        [run] = workspace.runs()
        assert bins_here() == bins
        error: float = workspace.json("reports/metrics.json")["test/calibration_error"]
        assert (run.tags["evaluate.calibration_bins"], run.metrics["test/calibration_error"]) == (str(bins), error)
        assert (run.params, run.tags["pipeline.key"]) == (before.params, before.tags["pipeline.key"])
        return error

    workspace.set(evaluate__calibration_bins=100)
    assert stages_run(workspace.good("dvc repro")) == ["evaluate", "track"]
    with_100 = check(100)
    workspace.set(evaluate__calibration_bins=15)
    output = workspace.good("dvc repro")
    assert "Stage 'evaluate' is cached" in output
    assert stages_run(output) == ["track"]
    assert check(15) == before.metrics["test/calibration_error"] != with_100

    # The same in a temporary copy: the same store, and nothing here changes.
    workspace.good("dvc exp run --temp -S evaluate.calibration_bins=100 -n away")
    [run] = workspace.runs()
    assert (run.tags["evaluate.calibration_bins"], run.metrics["test/calibration_error"]) == ("100", with_100)
    assert (run.tags["dvc.exps"], run.tags["dvc.last_exp"]) == ("away", "away")
    assert float(experiments(workspace)["away"]["test/calibration_error"]) == with_100
    assert bins_here() == 15
    assert workspace.json("reports/metrics.json")["test/calibration_error"] != with_100


def test_another_network_in_the_models_place_is_told_and_evaluate_never_scores_it(workspace: Workspace) -> None:
    model, reports = workspace.folder / "models" / "model.keras", workspace.folder / "reports"
    before, scores = model.read_bytes(), (reports / "metrics.json").read_bytes()
    model.unlink()  # a link into DVC's cache, where it is one
    with zipfile.ZipFile(io.BytesIO(before)) as archive, zipfile.ZipFile(model, "w") as other:
        for name in archive.namelist():  # the same network in another archive
            other.writestr(name, archive.read(name))
    exchanged = files.file_sha256(model)
    told = workspace.good("keras-pipeline status")
    assert "model: models/model.keras is not the network that this run wrote" in told
    assert f"and models/model.keras is {exchanged[:12]}…" in told
    refused = workspace.run("keras-pipeline evaluate")
    assert refused.code == 7, refused.output
    assert (reports / "metrics.json").read_bytes() == scores

    workspace.good("dvc repro evaluate")  # DVC puts back what train wrote
    assert model.read_bytes() == before
    assert (reports / "metrics.json").read_bytes() == scores
    assert "state:    up to date" in workspace.good("keras-pipeline status")


def test_an_experiment_is_a_run_of_its_name_and_going_back_restores_the_first(
    workspace: Workspace, finished: Workspace
) -> None:
    [first] = finished.runs()
    assert stages_run(workspace.good("dvc exp run -S model.dropout=0.5 -n wet")) == [
        "train",
        "evaluate",
        "export",
        "track",
    ]
    old, wet = workspace.runs()
    assert (wet.name.rpartition(" · ")[2], wet.status, wet.tags["dvc.exps"]) == ("digits mlp wet", "FINISHED", "wet")
    assert (wet.params["model.dropout"], len(wet.models)) == ("0.5", 1)
    assert "dvc.exps" not in old.tags
    wet_scores = workspace.json("reports/metrics.json")

    output = workspace.good("dvc exp run -S model.dropout=0.3 -n back")
    assert "Stage 'train' is cached" in output
    assert stages_run(output) == ["track"]
    restored, unchanged = workspace.runs()
    assert unchanged == wet
    assert restored.tags["pipeline.key"] == first.tags["pipeline.key"] == workspace.json("models/run.json")["key"]
    assert (restored.name, restored.tags["dvc.exps"], restored.tags["dvc.last_exp"]) == (first.name, "back", "back")
    assert digests(workspace, REPRODUCED) == digests(finished, REPRODUCED)
    back_scores = workspace.json("reports/metrics.json")

    shown = experiments(workspace)
    assert (shown["wet"]["model.dropout"], shown["back"]["model.dropout"]) == ("0.5", "0.3")
    assert {name: float(shown["wet"][name]) for name in wet_scores} == wet_scores
    table = workspace.good("dvc exp show --md --only-changed --drop", "^(src|data|models|reports)/")
    assert "model.dropout" in table
    assert "train.epochs" not in table
    assert ".py" not in table
    assert re.search(r"model\.dropout\s+0\.5\s+0\.3\n", workspace.good("dvc params diff wet back"))
    changes = workspace.good("dvc metrics diff wet back --json --precision 17")
    assert f'"old": {wet_scores["test/loss"]}, "new": {back_scores["test/loss"]}' in changes

    shown_points = json.loads(workspace.good("dvc plots diff wet back --json"))
    for revision, run in (("wet", wet), ("back", restored)):
        for plot, column in (("loss", "val/loss"), ("accuracy", "train/accuracy")):
            curve = points(shown_points, plot, revision, column)
            assert [point["epoch"] for point in curve] == ["1", "2"]
            assert float(curve[-1]["dvc_inferred_y_value"]) == run.metrics[column]
        pairs = points(shown_points, "confusion matrix", revision)
        right = sum(pair["actual"] == pair["predicted"] for pair in pairs)
        assert (len(pairs), right / 360) == (360, run.metrics["test/accuracy"])
    workspace.good("dvc plots show")
    page = (workspace.folder / "dvc_plots/index.html").read_text()
    assert all(title in page for title in ("loss per epoch", "accuracy per epoch", "confusion matrix of the test"))
    assert not re.search("dvc_plots", workspace.good("git status --short"))


def test_a_queue_in_a_fresh_clone_fills_one_store_and_the_same_seed_gives_the_same_bytes(
    finished: Workspace, tmp_path: Path
) -> None:
    clone = finished.clone(tmp_path / "checkout")
    clone.good("dvc exp run --queue -S seed=1 -n same")
    clone.good("dvc exp run --queue -S seed=2 -n other")
    clone.good("dvc queue start -j 2")  # as many threads as `finished`: they decide the last bits
    try:
        wait_until(lambda: queue_is_done(clone), 900, "the queue is done", every=3)
    finally:
        clone.good("dvc queue stop --kill")
    runs = {run.name.rpartition(" · ")[2]: run for run in clone.runs()}
    assert set(runs) == {"digits mlp same", "digits mlp other"}, clone.good("dvc queue logs same")
    for run in runs.values():
        assert (run.status, len(run.models), run.epochs["val/loss"]) == ("FINISHED", 1, [1, 2])
        assert run.artifacts.is_relative_to(clone.folder / "mlruns")
        assert (run.artifacts / "reports/figures/confusion_matrix.png").is_file()
    shown = experiments(clone)
    for name in ("same", "other"):
        assert float(shown[name]["test/loss"]) == runs[f"digits mlp {name}"].metrics["test/loss"]
    assert shown["same"]["test/loss"] != shown["other"]["test/loss"]

    clone.good("dvc exp apply same")
    assert digests(clone, REPRODUCED) == digests(finished, REPRODUCED)
    # The numbers are the same, the trainings are two: each has a key, a run and a name of its own.
    assert clone.json("models/run.json")["key"] != finished.json("models/run.json")["key"]


def test_a_removed_store_is_rebuilt_from_the_files(workspace: Workspace, finished: Workspace) -> None:
    shutil.rmtree(workspace.folder / "mlruns")
    assert stages_run(workspace.good("dvc repro")) == ["track"]
    assert_rebuilt(workspace, finished)


def assert_rebuilt(workspace: Workspace, finished: Workspace) -> None:
    """That the one run of a workspace is that of its origin, in a store of its own."""
    [old], [new] = finished.runs(), workspace.runs()
    assert (new.name, new.status, new.params) == (old.name, old.status, old.params)
    assert new.epochs == of_the_training(old.epochs)
    assert new.metrics == of_the_training(old.metrics)
    assert new.tags == old.tags
    assert len(new.models) == 1
    assert (new.models[0] / "MLmodel").is_file()
    for path in old.artifacts.rglob("*"):
        name = path.relative_to(old.artifacts)
        if path.is_file() and name.parts[0] != "images":  # their names hold the time
            assert (new.artifacts / name).read_bytes() == path.read_bytes()


def test_a_store_that_a_kill_left_half_made_is_told_by_the_doctor_and_replaced(
    workspace: Workspace, finished: Workspace
) -> None:
    folder = workspace.folder / "mlruns"
    (folder / "mlflow.db").unlink()
    shutil.rmtree(folder / "artifacts")
    maker = workspace.run(f"{sys.executable} -c", MAKER_THAT_IS_KILLED, f"sqlite:///{folder}/mlflow.db")
    assert maker.code == -signal.SIGKILL
    assert (folder / "mlflow.db-journal").is_file()
    ill = workspace.run("keras-pipeline doctor")
    assert ill.code == 6
    assert re.search(r"^BAD   store: .* is half-made \(a process ended .* moves it aside", ill.output, re.MULTILINE)
    output = workspace.good("dvc repro")
    assert stages_run(output) == ["track"]
    assert len(re.findall("^tracking: .* It is kept as mlflow.db.aside-1, and a new store", output, re.MULTILINE)) == 1
    assert (folder / "mlflow.db.aside-1").is_file()
    assert_rebuilt(workspace, finished)


def test_a_store_that_is_down_costs_a_warning_and_gets_everything_later(workspace: Workspace, closed_port: str) -> None:
    workspace.replace("learning_rate: 0.01\n", "learning_rate: 2e-3\n")
    output = workspace.good("dvc repro", timeout=120, MLFLOW_TRACKING_URI=closed_port)
    assert stages_run(output) == ["train", "evaluate", "export", "track"]
    warnings = [line for line in output.splitlines() if "is not available" in line]
    assert [line.split(":")[0] for line in warnings] == ["tracking", "track"]
    assert "Traceback" not in output
    assert len(workspace.runs()) == 1

    assert stages_run(workspace.good("dvc repro")) == ["track"]
    _, sent = workspace.runs()
    assert sent.params["train.optimizer.learning_rate"] == "0.002"
    assert (sent.status, sent.epochs["val/loss"], len(sent.models)) == ("FINISHED", [1, 2], 1)
    assert sent.metrics.items() >= workspace.json("reports/metrics.json").items()
    assert (sent.artifacts / "reports/predictions.npz").is_file()


@pytest.mark.own_processes
def test_a_training_killed_without_warning_leaves_no_open_run(workspace: Workspace, finished: Workspace) -> None:
    dvc, log, train = start_long_training(workspace)
    wait_until(lambda: len(workspace.runs()) == 2, 120, "its run in MLflow, which a thread begins")
    train.kill()
    assert dvc.wait(120) != 0, log.read_text()
    assert [run.status for run in workspace.runs()] == ["FINISHED", "RUNNING"]
    done = workspace.run("keras-pipeline track")
    assert done.code == 3
    assert "1 unfinished run(s) of ended processes closed" in done.output
    assert "models/run.json: not there" in done.output
    assert [run.status for run in workspace.runs()] == ["FINISHED", "KILLED"]
    check_repro_restores(workspace, finished)


@pytest.mark.own_processes
def test_a_training_asked_to_end_says_so_and_closes_its_run(workspace: Workspace, finished: Workspace) -> None:
    dvc, log, train = start_long_training(workspace)
    train.terminate()
    assert dvc.wait(120) != 0
    assert re.search(r"train: stopped as asked, after .*\. A checkpoint is kept", log.read_text())
    assert "keras-pipeline train: exit 75 (stopped or busy: run the same command again)" in log.read_text()
    assert "Traceback" not in log.read_text()
    _, run = workspace.runs()
    assert (run.status, run.models) == ("KILLED", [])
    assert not list((workspace.folder / "mlruns/alive").iterdir())
    check_repro_restores(workspace, finished)


@pytest.mark.own_processes
def test_a_second_repro_is_refused_and_a_killed_dvc_takes_its_training_along(
    workspace: Workspace, finished: Workspace
) -> None:
    dvc, log, train = start_long_training(workspace, SHELL="/bin/sh")  # Debian's stays between DVC and the stage
    second = workspace.run("dvc repro", timeout=60)
    assert second.code != 0
    assert re.search(r"is busy, it is being blocked by|Unable to acquire lock", second.output)
    by_hand = workspace.run("keras-pipeline train", timeout=60)
    assert by_hand.code == 75
    assert f"models/ is being written by process {train.pid}" in by_hand.output
    assert by_hand.output.endswith("keras-pipeline train: exit 75 (stopped or busy: run the same command again)\n")
    assert train.is_running(), log.read_text()

    dvc.kill()
    dvc.wait(60)
    train.wait(60)
    assert "Traceback" not in log.read_text()
    check_repro_restores(workspace, finished)
    assert [run.status for run in workspace.runs()] == ["FINISHED", "KILLED"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  dropout: ", "  dropuot: ", rf"params\.yaml:\d+:3: model\.dropuot: .*'dropout'\?{EXIT_2}"),
        ("\nevaluate:\n", "\nevalaute: {}\nevaluate:\n", rf"params\.yaml:\d+:1: evalaute: .*'evaluate'\?{EXIT_2}"),
        ("  epochs: 2 ", "  epochs: 2.5 ", rf"params\.yaml:\d+:\d+: train\.epochs: 2\.5 {EXIT_2}"),
        ("\nmodel:\n", "\nmodle:\n", rf"params\.yaml:\d+:1: modle: .*'model'\?{EXIT_2}"),
    ],
    ids=["misspelt key", "unknown section", "wrong type", "misspelt section"],
)
def test_a_mistake_in_the_params_costs_a_moment_and_nothing_else(
    workspace: Workspace, finished: Workspace, old: str, new: str, message: str
) -> None:
    workspace.replace(old, new)
    done = workspace.run("dvc repro", timeout=60)
    assert done.code != 0
    assert re.search(message, done.output)
    assert "Epoch" not in done.output
    assert "Traceback" not in done.output
    workspace.recover()
    assert digests(workspace, REPRODUCED) == digests(finished, REPRODUCED)
    assert len(workspace.runs()) == 1


def test_a_moved_checkout_finds_its_artifacts_after_relocate(finished: Workspace, tmp_path: Path) -> None:
    moved = finished.copy(tmp_path / "a folder with spaces & ümlaut")
    assert re.fullmatch(r"relocate: [1-9]\d* paths changed\n", moved.good("keras-pipeline relocate"))
    assert moved.good("keras-pipeline relocate") == "relocate: every path is right already\n"
    store = f"sqlite:///{moved.folder}/mlruns/mlflow.db"
    listed, same = moved.good(sys.executable, "-W", "ignore", "-c", PROBE, store).splitlines()[-2:]
    assert set(json.loads(listed)) == {f"reports/figures/{name}" for name in FIGURES}
    assert same == "True"


def test_make_run_without_the_dataset_uses_the_digits_and_says_so(
    source: Workspace, finished: Workspace, closed_port: str, tmp_path: Path
) -> None:
    clone = Workspace(source.clone(tmp_path / "checkout").folder, identity=False)
    clone.replace("\nseed: 1 ", "\nseed: 1  ")  # an edited file, which DVC puts aside for the experiment
    (tmp_path / "mirror").mkdir()
    (clone.folder / ".ready").touch()
    offline = {
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), closed_port),
        "KERAS_PIPELINE_MIRRORS": str(tmp_path / "mirror"),
    }
    done = clone.run("keras-pipeline fetch --download-only", timeout=60, **offline)
    assert done.code == 4
    assert "KERAS_PIPELINE_MIRRORS" in done.output
    assert "digits" in done.output

    # READY: this environment is used instead of one that make would build.
    output = clone.good("make run READY=.ready", PIP_NO_INDEX="1", **offline)
    assert "This run uses the 1,797 digits inside scikit-learn instead" in output
    assert stages_run(output) == ["fetch", "normalize", "train", "evaluate", "export", "track"]
    assert "state:    up to date" in output
    [run] = clone.runs()
    assert (run.tags["dataset"], run.params["fetch.dataset"]) == ("digits", "digits")
    assert "digits mlp " in run.name
    assert digests(clone, REPRODUCED) == digests(finished, REPRODUCED)


def test_a_diverging_training_fails_with_advice_and_registers_no_model(
    workspace: Workspace, finished: Workspace
) -> None:
    workspace.set(
        model__l2=10,
        train__optimizer__name="sgd",
        train__optimizer__learning_rate=1000,
        train__schedule__name="constant",
    )
    done = workspace.run("dvc repro")
    assert done.code != 0
    assert re.search(r"training diverged: train/loss is (nan|inf) at step \d+ of epoch \d", done.output)
    assert "keras-pipeline train: exit 5 (training diverged, or overfit failed)" in done.output
    assert "Traceback" not in done.output
    _, run = workspace.runs()
    assert (run.status, run.models) == ("FAILED", [])
    workspace.recover()
    assert digests(workspace, REPRODUCED) == digests(finished, REPRODUCED)
