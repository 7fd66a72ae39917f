import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests
from PIL import Image

import fault_server
import tracking_fixtures
from keras_pipeline.checks.params import load_params
from keras_pipeline.config.datasets import IMAGE_SHAPE
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, MachineError
from keras_pipeline.tracking import live_run, mirror, runs, store, ui
from tracking_fixtures import EXPERIMENT, SECRET, STARTED, Checkout, TrackingServer, contents

pytestmark = pytest.mark.filterwarnings(
    "ignore:The .*noload.* loader strategy is deprecated",  # MLflow with SQLAlchemy 2.1
    "ignore:.*Any type hint is inferred as AnyType",  # MLflow, of its own functions
    "ignore:__array__ implementation doesn't accept a copy keyword",  # Keras with NumPy 2
)

KEY = "a" * 32
CURVES = runs.epoch_metrics(tracking_fixtures.history(1)[0])
TRACK = "import sys; from keras_pipeline.cli import main; code = main.main(['track']); "


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Afterwards as before, since MLflow writes there too."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def made(tmp_path: Path) -> Checkout:
    """A checkout without a store."""
    return tracking_fixtures.checkout(tmp_path / "checkout")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the experiment and no run, made once: copying it takes a tenth of making it."""
    template = tracking_fixtures.checkout(tmp_path_factory.mktemp("template"))
    store.connect_store(template.where, EXPERIMENT)
    return template.database


@pytest.fixture
def stored(tmp_path: Path, empty_database: Path) -> Checkout:
    """A checkout with a trained network, its reports and an empty store."""
    checkout = tracking_fixtures.checkout(tmp_path / "checkout", empty_database)
    checkout.write()
    return checkout


def python(code: str, folder: Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: "subprocess.Popen[str]") -> str:
    """What the process said, once it is done without an error."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def run_of(checkout: Checkout, key: str = KEY) -> Any:
    """MLflow's run."""
    reached = store.connect_store(checkout.where, EXPERIMENT)
    found = reached.client.search_runs([reached.experiment], f"tags.`pipeline.key` = '{key}'")
    assert len(found) == 1
    return found[0]


def series(checkout: Checkout, run: Any) -> dict[str, list[tuple[int, float, int]]]:
    """Each of the training's metrics as (step, value, milliseconds)."""
    client = store.connect_store(checkout.where, EXPERIMENT).client
    return {
        name: [(one.step, one.value, one.timestamp) for one in client.get_metric_history(run.info.run_id, name)]
        for name in CURVES
    }


def artifacts(checkout: Checkout, run: Any, folder: str | None = None) -> list[str]:
    """Every file that MLflow lists, except the images with a key, whose names are random."""
    found = store.connect_store(checkout.where, EXPERIMENT).client.list_artifacts(run.info.run_id, folder)
    paths: list[str] = []
    for one in found:
        paths += artifacts(checkout, run, one.path) if one.is_dir else [one.path]
    return [path for path in paths if not path.startswith("images/")]


# Where the store is


def test_the_store_is_in_mlruns_by_default(tmp_path: Path) -> None:
    where = store.store_location(tmp_path)
    assert where.uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert where.database == tmp_path / "mlruns" / "mlflow.db"
    assert where.artifacts == tmp_path / "mlruns" / "artifacts"
    assert where.state == tmp_path / "mlruns"


@pytest.mark.parametrize(
    ("given", "uri", "artifacts"),
    [
        ("sqlite:///other/runs.db", "sqlite:////main/other/runs.db", Path("/main/other/artifacts")),
        ("sqlite:////elsewhere/runs.db", "sqlite:////elsewhere/runs.db", Path("/elsewhere/artifacts")),
        (" http://mlflow.example:5000 ", "http://mlflow.example:5000", None),
        ("https://mlflow.example", "https://mlflow.example", None),
        ("postgresql://db.example/mlflow", "postgresql://db.example/mlflow", Path("/main/mlruns/artifacts")),
        ("", "sqlite:////main/mlruns/mlflow.db", Path("/main/mlruns/artifacts")),
    ],
)
def test_the_environment_names_another_store(given: str, uri: str, artifacts: Path | None) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = given
    where = store.store_location(Path("/main"))
    assert (where.uri, where.artifacts, where.state) == (uri, artifacts, Path("/main/mlruns"))
    assert (where.database is None) == (not uri.startswith("sqlite"))


def test_a_temporary_copy_uses_the_store_of_the_main_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = tracking_fixtures.checkout(tmp_path / "main").root
    copy = tracking_fixtures.checkout(main / ".dvc" / "tmp" / "exps" / "copy").root
    (copy / "src").mkdir()
    monkeypatch.chdir(copy / "src")
    assert store.project_root() == copy
    os.environ["DVC_ROOT"] = str(main)
    assert store.project_root() == main


def test_no_decision_needs_mlflow(made: Checkout) -> None:
    made.write()
    code = """if True:
        import sys
        from pathlib import Path
        from keras_pipeline.checks.params import load_params
        from keras_pipeline.tracking import live_run, mirror, store
        where = store.store_location(store.project_root())
        paths = Path("params.yaml"), Path("models/run.json"), Path("reports")
        now = mirror.mirror_state(where, load_params(paths[0]).tracking.experiment, *paths)
        told = mirror.is_mirrored(where, "keras-pipeline", "a", now)
        print(told, live_run.close_dead_runs(where), {"mlflow", "tensorflow"} & set(sys.modules))
    """
    assert output(python(code, made.root)) == "False 0 set()\n"


# Whether anything is to be sent, and who is alive: without MLflow


def fake_store(checkout: Checkout, key: str = KEY) -> None:
    """A database with as much of MLflow's schema as is looked at."""
    checkout.database.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(checkout.database)) as connection, connection:
        connection.execute("CREATE TABLE tags (key, value, run_uuid)")
        connection.execute("INSERT INTO tags VALUES ('pipeline.key', ?, 'run')", (key,))


def state_of(checkout: Checkout) -> str:
    models, reports = checkout.root / "models", checkout.root / "reports"
    values = load_params(checkout.params_file)
    return mirror.mirror_state(
        checkout.where, values.tracking.experiment, checkout.params_file, models / "run.json", reports
    )


@pytest.mark.parametrize(
    ("stamp", "experiment", "expected"),
    [
        ('{"state": "now", "experiment": null}', None, True),
        ('{"state": "now", "experiment": "x-1"}', None, True),
        ('{"state": "now", "experiment": "x-1"}', "x-1", True),
        ('{"state": "now", "experiment": "x-1"}', "x-2", False),
        ('{"state": "then", "experiment": null}', None, False),
        ('{"state": "now"}', None, False),
        ('{"state": "no', None, False),
        ("[]", None, False),
        ("", None, False),
    ],
)
def test_the_stamp_says_what_was_sent_last(made: Checkout, stamp: str, experiment: str | None, expected: bool) -> None:
    fake_store(made)
    files.write_atomically(mirror._stamp(made.where, "mine", KEY), stamp.encode())
    if experiment:
        os.environ["DVC_EXP_NAME"] = experiment
    assert mirror.is_mirrored(made.where, "mine", KEY, "now") is expected


def test_a_stamp_is_not_believed_where_the_run_is_gone(made: Checkout) -> None:
    files.write_atomically(mirror._stamp(made.where, "mine", KEY), b'{"state": "now", "experiment": null}')
    assert not mirror.is_mirrored(made.where, "mine", KEY, "now")
    fake_store(made, key="b" * 32)
    assert not mirror.is_mirrored(made.where, "mine", KEY, "now")
    made.database.write_bytes(b"no database")
    assert not mirror.is_mirrored(made.where, "mine", KEY, "now")
    os.environ["MLFLOW_TRACKING_URI"] = "http://mlflow.example"
    assert mirror.is_mirrored(made.where, "mine", KEY, "now")


def test_the_state_is_of_everything_that_is_sent(made: Checkout) -> None:
    def changed(change: Callable[[], object]) -> bool:
        before = state_of(made)
        change()
        return state_of(made) != before

    made.write()
    reports = made.root / "reports"
    assert not changed(lambda: made.write())
    assert changed(lambda: made.write(accuracy=0.5))
    assert changed(lambda: made.write(shade=9))
    assert changed(lambda: (reports / "new.csv").write_text("x"))
    assert changed(lambda: (reports / "new.csv").rename(reports / "newer.csv"))
    assert not changed(lambda: (reports / ".lock").write_text("3 4"))
    assert changed(lambda: made.set_params({"evaluate.calibration_bins": 7}))
    assert changed(lambda: made.set_params({"tracking.experiment": "other"}))
    assert changed(lambda: made.write(tracking_fixtures.record(made.params_file, weights=1)))
    assert changed(lambda: os.environ.update(MLFLOW_TRACKING_URI="http://mlflow.example"))


def mark(**changes: Any) -> dict[str, Any]:
    process = psutil.Process()
    return {
        "experiment": EXPERIMENT,
        "status": "RUNNING",
        "pid": process.pid,
        "process_started": process.create_time(),
        "host": socket.gethostname(),
        **changes,
    }


def write_mark(checkout: Checkout, text: str, key: str = KEY) -> Path:
    path = checkout.root / "mlruns" / "alive" / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({}, False),
        ({"process_started": psutil.Process().create_time() + 1}, False),  # the clock was set
        ({"process_started": psutil.Process().create_time() - 60}, True),  # the number was given again
        ({"pid": 2**22 + 1}, True),
        ({"pid": -1}, True),
        ({"pid": 2**70}, True),
        ({"host": "another", "pid": 2**22 + 1}, False),
    ],
)
def test_a_process_is_known_by_number_start_and_host(made: Checkout, changes: dict[str, Any], dead: bool) -> None:
    path = write_mark(made, json.dumps(mark(**changes)))
    assert live_run.find_dead_runs(made.where) == ([path] if dead else [])


def test_a_process_that_nobody_took_note_of_is_dead(made: Checkout) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    path = write_mark(made, json.dumps(mark(pid=process.pid, process_started=started)))
    assert live_run.find_dead_runs(made.where) == []
    process.kill()
    deadline = time.monotonic() + 10
    while live_run.find_dead_runs(made.where) != [path] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert live_run.find_dead_runs(made.where) == [path]
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_waits_until_the_store_has_answered(
    made: Checkout, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    calls: list[str] = []

    def asked_to_end(*arguments: object) -> None:
        signal.raise_signal(number)
        calls.append("answered")

    def handler(*arguments: object) -> None:
        calls.append("asked")
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "log_epochs", asked_to_end)
    tracker = live_run.LiveTracker(made.where, EXPERIMENT)
    tracker.store = store.Store(client=None, experiment="1", location=made.where)  # type: ignore[arg-type]
    tracker.system_metrics = "begun"
    before = signal.signal(number, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            tracker.epoch({})
        assert calls == ["answered", "asked"]
        assert not tracker.failed
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


def test_a_second_request_to_end_does_not_wait(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked_twice(*arguments: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("still waiting")

    monkeypatch.setattr(runs, "log_epochs", asked_twice)
    tracker = live_run.LiveTracker(made.where, EXPERIMENT)
    tracker.store = store.Store(client=None, experiment="1", location=made.where)  # type: ignore[arg-type]
    tracker.system_metrics = "begun"
    with pytest.raises(KeyboardInterrupt):
        tracker.epoch({})


@pytest.mark.parametrize("text", ["", '{"experiment": "keras-pi', "[]", "{}", "null", '{"pid": "x"}', "\udcff"])
def test_a_torn_mark_is_removed(made: Checkout, text: str) -> None:
    path = write_mark(made, "")
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert live_run.close_dead_runs(made.where) == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("[512, 256]", "512, 256"),
        ("[]", "none"),
        ('[{"layer": "Flatten"}]', '[{"layer": "Flatten"}]'),
        (0.001, "0.001"),
        (True, "True"),
        ("x" * 500, "x" * 500),
    ],
)
def test_params_are_shown_as_people_read_them(value: object, text: str) -> None:
    assert runs.shortened(value) == text


def test_a_long_param_keeps_its_beginning_and_differs_from_every_other() -> None:
    texts = [runs.shortened(f'[{{"layer": "Flatten"}}, {"x" * length}]') for length in (600, 601)]
    assert all(len(text) <= 500 and text.startswith('[{"layer": "Flatten"}') for text in texts)
    assert texts[0] != texts[1]


def test_only_a_local_database_can_be_relocated(made: Checkout) -> None:
    with pytest.raises(MachineError, match=r"mlruns/mlflow\.db is not an SQLite file on this machine"):
        store.relocate_artifacts(made.where)
    assert not made.database.exists()
    os.environ["MLFLOW_TRACKING_URI"] = "http://mlflow.example"
    with pytest.raises(MachineError, match=r"http://mlflow\.example is not an SQLite file"):
        store.relocate_artifacts(made.where)


@pytest.mark.parametrize("port", [70000, -1])
def test_no_such_port(port: int) -> None:
    with pytest.raises(MachineError, match=f"--port {port}: "):
        ui._free_port(port)


def test_another_programs_port_is_not_taken_for_mlflows() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(MachineError, match=rf"--port {port}: .*in use.*Choose another one"):
            ui._free_port(port)
    assert ui._free_port(port) == port


# What MLflow is told


@pytest.mark.slow
@pytest.mark.parametrize("left", [None, b""])
def test_four_first_processes_at_once_make_one_experiment(made: Checkout, left: bytes | None) -> None:
    if left is not None:  # of a process that was killed before it made a table
        files.write_atomically(made.database, left)
    code = """if True:
        import os, sys, time
        from pathlib import Path
        import mlflow, sqlalchemy
        from keras_pipeline.tracking import store
        children = []
        for number in range(4):
            if not (child := os.fork()):
                while not Path("go").exists():
                    pass
                where = store.store_location(store.project_root())
                print(store.connect_store(where, "keras-pipeline").experiment, flush=True)
                os._exit(0)
            children.append(child)
        Path("go").touch()
        sys.exit(max(os.waitpid(child, 0)[1] for child in children))
    """
    assert output(python(code, made.root)) == "1\n" * 4
    rows = contents(made.database)["experiments"]
    assert [row[1] for row in rows] == ["Default", EXPERIMENT]
    assert rows[1][2] == f"file://{made.root}/mlruns/artifacts"
    found = {path.name for path in made.database.parent.iterdir()}
    assert found == {"mlflow.db", ".mlflow.db-lock"} | ({"mlflow.db.aside-1"} if left is not None else set())


@pytest.mark.slow
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
    assert info.run_name.startswith("digits mlp 11-1")  # the day of STARTED, in the local time zone
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
    assert "digits → mlp with 538,122 weights, adam at 0.001, batches of 128, 3 epochs (weights of epoch 3)" in note
    assert f"`git checkout {'c' * 12}`, params.yaml" in note
    datasets = {one.dataset.name: one for one in run.inputs.dataset_inputs}
    assert [datasets[f"digits {split}"].dataset.digest for split in tracking_fixtures.SPLITS] == [
        f"{number}i0000000000" for number in range(3)
    ]
    assert json.loads(datasets["digits train"].dataset.profile) == {"num_rows": 90, "scaling": "standard"}
    assert datasets["digits test"].tags[0].value == "testing"
    assert artifacts(stored, run) == [
        "environment.txt",
        "params.yaml",
        "reports/figures/confusion_matrix.png",
        "reports/figures/reliability.png",
        "reports/metrics.json",
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
    }


@pytest.mark.slow
def test_sending_twice_changes_nothing(stored: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    stored.track()
    before, files = contents(stored.database), sorted((stored.root / "mlruns" / "artifacts").rglob("*"))
    assert len(before["metrics"]) == 3 * len(CURVES) + 4 + 4
    stored.track()
    assert capsys.readouterr().out.splitlines()[1] == "track: MLflow has 'digits mlp' as it is here"
    stored.track(again=True)
    assert contents(stored.database) == before
    assert sorted((stored.root / "mlruns" / "artifacts").rglob("*")) == files


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_carries_the_names_of_every_experiment_that_gave_it(stored: Checkout) -> None:
    for name in ("icy-boat", "old-yolk", "icy-boat"):
        os.environ["DVC_EXP_NAME"] = name
        stored.track()
    run = run_of(stored)
    assert run.info.run_name == "digits mlp icy-boat"
    assert run.data.tags["dvc.exps"] == "icy-boat,old-yolk"
    assert run.data.tags["dvc.last_exp"] == "icy-boat"


@pytest.mark.slow
def test_a_run_that_was_only_begun_is_completed(stored: Checkout) -> None:
    reached = store.connect_store(stored.where, EXPERIMENT)
    reached.client.create_run(reached.experiment, tags={runs.KEY: KEY}, run_name="begun")
    stored.track()
    run = run_of(stored)
    assert run.info.run_name == "begun"
    assert len(run.data.params) == len(tracking_fixtures.record(stored.params_file)["params"])
    assert len(run.inputs.dataset_inputs) == 3


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["models/run.json", "reports/metrics.json"])
def test_nothing_is_sent_before_a_stage_has_ended(stored: Checkout, missing: str) -> None:
    (stored.root / missing).unlink()
    with pytest.raises(DataError, match=f"{missing}: not there"):
        stored.track()
    assert contents(stored.database)["runs"] == []


@pytest.mark.slow
def test_nothing_to_do_needs_no_mlflow_and_a_deleted_database_is_made_again(stored: Checkout) -> None:
    stored.track()
    before = run_of(stored)
    code = TRACK + "print(code, 'mlflow' in sys.modules)"
    said = r"track: MLflow has 'digits mlp' as it is here\ntrack: [\d.]+ s: other [\d.]+\n0 False\n"
    assert re.fullmatch(said, output(python(code, stored.root)))
    stored.database.unlink()
    assert output(python(code, stored.root)).endswith("\n0 True\n")
    copy = Checkout(stored.root.rename(stored.root.with_name("moved")))  # here SQLAlchemy holds the deleted file open
    run = run_of(copy)
    assert (run.data.params, run.data.metrics, run.data.tags) == (
        before.data.params,
        before.data.metrics,
        before.data.tags,
    )


@pytest.mark.slow
def test_the_table_shows_what_differs(stored: Checkout) -> None:
    reached = store.connect_store(stored.where, EXPERIMENT)
    for number, (dropout, units) in enumerate([(0.3, "[512]"), (0.5, "[512]"), (0.5, "[64]")]):
        record = tracking_fixtures.record(stored.params_file, key=str(number))
        record["params"] |= {"model.dropout": dropout, "model.hidden_units": units}
        if number == 2:
            del record["params"]["seed"]
        runs.ensure_run(reached, record, None)
        store.prepare_table(reached)
        experiment = reached.client.get_experiment(reached.experiment)
        table = json.loads(experiment.tags["mlflow.sharedViewState.main"])
        always = ["attributes.`Created`", "metrics.`test/accuracy`", "metrics.`test/loss`"]
        differing = [[], ["model.dropout"], ["model.dropout", "model.hidden_units", "seed"]][number]
        assert table == {
            "selectedColumns": [*always, *(f"params.`{name}`" for name in differing)],
            "orderByKey": "metrics.`test/accuracy`",
            "orderByAsc": False,
        }


@pytest.mark.slow
def test_relocate_brings_a_moved_stores_artifacts_back(stored: Checkout) -> None:
    stored.track()
    expected = artifacts(stored, run_of(stored))
    with closing(sqlite3.connect(stored.database)) as connection, connection:
        run = connection.execute("SELECT run_uuid FROM runs").fetchone()[0]
        artifact_root = f"file://{stored.root}/mlruns/artifacts"
        connection.execute(
            "INSERT INTO logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms, "
            "last_updated_timestamp_ms, status, lifecycle_stage, source_run_id) "
            "VALUES ('m-1', 1, 'model', ?, 0, 0, 2, 'active', ?)",
            (f"{artifact_root}/models/m-1/artifacts", run),
        )
        connection.execute("UPDATE experiments SET artifact_location = '/kept/elsewhere' WHERE name = 'Default'")
    moved = Checkout(stored.root.rename(stored.root.with_name("with 100% new name")))
    assert artifacts(moved, run_of(moved)) == []
    assert store.relocate_artifacts(moved.where) == 3  # the experiment, the run and the model
    assert artifacts(moved, run_of(moved)) == expected
    assert store.relocate_artifacts(moved.where) == 0
    rows = contents(moved.database)
    assert rows["logged_models"][0][3].endswith("/with%20100%25%20new%20name/mlruns/artifacts/models/m-1/artifacts")
    assert "/kept/elsewhere" in [row[2] for row in rows["experiments"]]


@pytest.mark.slow
def test_a_deleted_experiment_is_said_and_hurts_no_training(
    stored: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = store.connect_store(stored.where, EXPERIMENT)
    reached.client.delete_experiment(reached.experiment)
    dead = write_mark(stored, json.dumps(mark(pid=2**22 + 1)), "b" * 32)
    stored.track()
    assert "the MLflow experiment 'keras-pipeline' was deleted. Restore it" in capsys.readouterr().err
    assert not dead.exists()
    tracker = live_run.LiveTracker(stored.where, EXPERIMENT)
    observe(tracker, tracking_fixtures.record(stored.params_file))
    assert capsys.readouterr().err.count("\n") == 1
    stored.set_params({"tracking.experiment": "another"})
    stored.track()
    reached = store.connect_store(stored.where, "another")
    assert [run.data.tags[runs.KEY] for run in reached.client.search_runs([reached.experiment])] == [KEY]


# While a network trains


def observe(
    tracker: live_run.LiveTracker, record: dict[str, Any], status: str = "FINISHED", at_epoch: Any = None
) -> None:
    """A training as the stage train reports it: the record grows as it goes."""
    known = {key: value for key, value in record.items() if key not in ("ended", "train_seconds", "best_epoch")}
    tracker.started(known)
    for row in record["history"]:
        if at_epoch:
            at_epoch(row["epoch"])
        tracker.epoch(row)
    if at_epoch:
        at_epoch(len(record["history"]) + 1)
    tracker.ended(status, record, None)


@pytest.mark.slow
@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_training_is_seen_while_it_goes(stored: Checkout, status: str, capsys: pytest.CaptureFixture[str]) -> None:
    record = tracking_fixtures.record(stored.params_file)
    marks = stored.root / "mlruns" / "alive"

    def look(epoch: int) -> None:
        run = run_of(stored)
        assert run.info.status == "RUNNING"
        assert run.info.run_name.startswith("digits mlp ")
        assert len(series(stored, run)["val/loss"]) == epoch - 1
        assert [path.stem for path in marks.iterdir()] == [KEY]
        assert live_run.find_dead_runs(stored.where) == []

    observe(live_run.LiveTracker(stored.where, EXPERIMENT), record, status, look)
    run = run_of(stored)
    assert run.info.status == status
    assert len(run.data.params) == len(record["params"])
    assert {name: len(rows) for name, rows in series(stored, run).items()} == dict.fromkeys(CURVES, 3)
    assert list(marks.iterdir()) == []
    assert not any(thread.name == "SystemMetricsMonitor" for thread in threading.enumerate())
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_a_training_that_goes_on_counts_its_machine_s_steps_on_and_has_the_tags_of_now(
    stored: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_run, "SYSTEM_METRICS_SECONDS", 0.1)
    first = tracking_fixtures.record(stored.params_file)
    second = {**first, "resumed": ["epoch 2 step 1"], "git": {"commit": "d" * 40, "dirty": True}}
    for record, status in ((first, "KILLED"), (second, "FINISHED")):
        before = len(machine_steps(stored))
        tracker = live_run.LiveTracker(stored.where, EXPERIMENT)
        tracker.started(record)
        tracker.epoch(record["history"][0])
        time.sleep(1)
        tracker.ended(status, record, None)
        assert len(machine_steps(stored)) > before
    assert machine_steps(stored) == list(range(len(machine_steps(stored))))
    run = run_of(stored)
    assert run.info.status == "FINISHED"
    told = [run.data.tags[name] for name in ("mlflow.source.git.commit", "git.dirty", "resumed")]
    assert told == ["d" * 40, "true", "epoch 2 step 1"]
    assert {name: len(rows) for name, rows in series(stored, run).items()} == dict.fromkeys(CURVES, 3)


def machine_steps(checkout: Checkout) -> list[int]:
    """The steps of one of the machine's own metrics, of all runs."""
    with closing(sqlite3.connect(checkout.database)) as connection:
        query = "SELECT step FROM metrics WHERE key = 'system/system_memory_usage_percentage' ORDER BY step, timestamp"
        return [step for (step,) in connection.execute(query)]


@pytest.mark.slow
def test_a_live_run_and_a_rebuilt_one_are_equal(stored: Checkout, tmp_path: Path, empty_database: Path) -> None:
    record = stored.write()
    without_model = {**record, "sha256": {key: value for key, value in record["sha256"].items() if key != "model"}}
    observe(live_run.LiveTracker(stored.where, EXPERIMENT), without_model)
    stored.track()
    fresh = tracking_fixtures.checkout(tmp_path / "fresh", empty_database)
    fresh.write()
    fresh.track()
    run, rebuilt = run_of(stored), run_of(fresh)
    assert len(contents(stored.database)["runs"]) == 1
    assert (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time) == (
        rebuilt.info.run_name,
        rebuilt.info.status,
        rebuilt.info.start_time,
        rebuilt.info.end_time,
    )
    assert run.data.params == rebuilt.data.params
    assert run.data.tags == rebuilt.data.tags
    assert run.data.metrics == rebuilt.data.metrics
    assert series(stored, run) == series(fresh, rebuilt)
    assert artifacts(stored, run) == artifacts(fresh, rebuilt)


def hang_up(server: TrackingServer) -> None:
    server.shutdown()
    server.server_close()


def respond(server: TrackingServer, answer: fault_server.Answer) -> None:
    server.answers = dict.fromkeys(server.answers, answer)


SERVER_FAULTS: dict[str, Callable[[TrackingServer], None]] = {
    "gone": hang_up,
    "silent": lambda server: respond(server, fault_server.silent),
    "reset": lambda server: respond(server, fault_server.reset),
    "500": lambda server: respond(server, fault_server.status(500)),
    "429 for an hour": lambda server: respond(server, fault_server.status(429, Retry_After="3600")),
    "401": lambda server: respond(server, fault_server.status(401)),
    "a page": lambda server: respond(server, fault_server.whole(b"<html>hotel wifi</html>", Content_Type="text/html")),
    "nothing": lambda server: respond(server, fault_server.whole(b"")),
    "redirected": lambda server: respond(server, fault_server.redirect("/elsewhere")),
}
"""By "nothing", in the midst of a run, MLflow's client is content: `track` sends everything once more."""


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0, 2, 4], ids=["at the start", "in epoch 2", "at the end"])
@pytest.mark.parametrize("fault", [name for name in SERVER_FAULTS if name != "nothing"])
def test_a_faulty_server_costs_one_line_and_little_time(
    made: Checkout, fault: str, moment: int, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tracking_fixtures.record(made.params_file)
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "1"
    with TrackingServer() as server:
        os.environ["MLFLOW_TRACKING_URI"] = server.uri
        if moment == 0:
            SERVER_FAULTS[fault](server)
        began = time.monotonic()
        observe(
            live_run.LiveTracker(made.where, EXPERIMENT),
            record,
            at_epoch=lambda epoch: SERVER_FAULTS[fault](server) if epoch == moment else None,
        )
        assert time.monotonic() - began < 8
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("tracking: MLflow at http://***@127.0.0.1:")
    assert err.endswith("). Training goes on; the stage track sends the run when the store is back.\n")
    assert SECRET not in err
    assert tracking_fixtures.leaks(made.root) == []


@pytest.mark.slow
def test_after_a_failure_the_store_is_left_alone(made: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    with TrackingServer() as server:
        os.environ |= {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.05"}
        record = tracking_fixtures.record(made.params_file)
        tracker = live_run.LiveTracker(made.where, EXPERIMENT)
        tracker.started(record)
        tracker.epoch(record["history"][0])
        wait_until(lambda: server.calls.count("log-batch") > 2)  # params, the epoch, the machine's metrics
        tracker.epoch({})  # any failure: here the server is well, and the machine's metrics could go on
        wait_until(lambda: not metrics_threads())
        calls = server.calls
        tracker.epoch(record["history"][2])
        tracker.ended("FINISHED", record, None)
        assert server.calls == calls
    assert capsys.readouterr().err.count("\n") == 1
    # Nobody could be told how it ended; the next `track` can.
    (kept,) = (made.root / "mlruns" / "alive").iterdir()
    assert json.loads(kept.read_text())["status"] == "FINISHED"


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metrics_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if "finish" in one.name or one.name == "SystemMetricsMonitor"]


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "nobody.invalid"])
def test_an_unreachable_server_stops_neither_training_nor_track(
    made: Checkout, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    made.write()
    os.environ["MLFLOW_TRACKING_URI"] = f"http://somebody:{SECRET}@{host}:{port}"
    began = time.monotonic()
    observe(live_run.LiveTracker(made.where, EXPERIMENT), tracking_fixtures.record(made.params_file))
    made.track()
    assert time.monotonic() - began < 15
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(" is not available (")[0] for line in err.splitlines()] == [
        f"tracking: MLflow at http://***@{host}:{port}",
        f"track: MLflow at http://***@{host}:{port}",
    ]
    assert "Nothing is lost: run `keras-pipeline track`, or the next `dvc repro`, when the store is back.\n" in err
    assert SECRET not in err
    assert tracking_fixtures.leaks(made.root) == []
    del os.environ["MLFLOW_TRACKING_URI"]
    made.track()  # the store is back
    assert run_of(made).info.status == "FINISHED"


@pytest.fixture(scope="module")
def track_of_a_locked_database(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator["subprocess.Popen[str]"]:
    """`keras-pipeline track` where another program keeps the database to itself; it waits for 20 s."""
    checkout = tracking_fixtures.checkout(tmp_path_factory.mktemp("locked") / "checkout", empty_database)
    checkout.write()
    code = "import time; began = time.monotonic(); " + TRACK + "print(code, time.monotonic() - began < 40)"
    with closing(sqlite3.connect(checkout.database)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        environment = {"DVC_ROOT": "", "MLFLOW_TRACKING_URI": "", "DVC_EXP_NAME": ""}
        process = python(code, checkout.root, **environment)
        yield process
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.usefixtures("track_of_a_locked_database")  # begun here, looked at by the next test
def test_a_server_that_accepts_and_never_answers_costs_ten_seconds(
    made: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in store.ENVIRONMENT:
        os.environ.pop(name, None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        observe(live_run.LiveTracker(made.where, EXPERIMENT), tracking_fixtures.record(made.params_file))
        assert 9 < time.monotonic() - began < 15
    assert "timed out" in capsys.readouterr().err


@pytest.mark.slow
def test_a_locked_database_is_waited_for_and_then_said(track_of_a_locked_database: "subprocess.Popen[str]") -> None:
    out, err = track_of_a_locked_database.communicate(timeout=90)
    assert re.fullmatch(r"track: [\d.]+ s: import [\d.]+, other [\d.]+\n0 True\n", out)
    assert err.count("\n") == 1
    assert "database is locked" in err


@pytest.mark.slow
def test_a_killed_training_is_closed_by_the_next_track(stored: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    code = """if True:
        import time
        import tracking_fixtures
        from pathlib import Path
        from keras_pipeline.tracking import live_run
        checkout = tracking_fixtures.Checkout(Path.cwd())
        tracker = live_run.LiveTracker(checkout.where, "keras-pipeline")
        record = tracking_fixtures.record(checkout.params_file, key="b" * 32)
        tracker.started(record)
        tracker.epoch(record["history"][0])
        print("training", flush=True)
        time.sleep(600)
    """
    training = python(code, stored.root, PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    assert training.stdout
    assert training.stdout.readline() == "training\n"
    stored.track()
    assert run_of(stored, "b" * 32).info.status == "RUNNING"
    training.kill()
    training.communicate()
    stored.track()
    run = run_of(stored, "b" * 32)
    assert run.info.status == "KILLED"
    assert len(series(stored, run)["val/loss"]) == 1
    assert not list((stored.root / "mlruns" / "alive").iterdir())
    assert capsys.readouterr().out.splitlines()[1:] == [
        "track: 1 unfinished run(s) of ended processes closed",
        "track: MLflow has 'digits mlp' as it is here",
    ]


@pytest.mark.slow
def test_a_dead_process_may_have_said_how_it_ended(stored: Checkout) -> None:
    reached = store.connect_store(stored.where, EXPERIMENT)
    for key, status, said in (("b", "RUNNING", "FAILED"), ("c", "FINISHED", "RUNNING"), ("d", "RUNNING", "RUNNING")):
        run_id = reached.client.create_run(reached.experiment, tags={runs.KEY: key}).info.run_id
        reached.client.set_terminated(run_id, status)
        write_mark(stored, json.dumps(mark(pid=2**22 + 1, status=said)), key)
    write_mark(stored, json.dumps(mark(pid=2**22 + 1)), "gone")
    write_mark(stored, "{", "torn")
    other = write_mark(stored, json.dumps(mark(pid=2**22 + 1, host="another")), "e")
    assert live_run.close_dead_runs(stored.where) == 2
    assert [run_of(stored, key).info.status for key in "bcd"] == ["FAILED", "FINISHED", "KILLED"]
    assert list(other.parent.iterdir()) == [other]
    assert live_run.close_dead_runs(stored.where) == 0


# The network


@pytest.mark.slow
def test_a_network_is_kept_as_it_is_served_and_comes_back_with_a_new_store(made: Checkout, tmp_path: Path) -> None:
    made.set_params({"model.hidden_units": [8]})
    record = tracking_fixtures.record(made.params_file)
    network, outputs = train_and_save(made, record)
    tracker = live_run.LiveTracker(made.where, EXPERIMENT)
    tracker.started(record)
    for row in record["history"]:
        tracker.epoch(row)
    tracker.ended("FINISHED", record, network)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it for the processes that it starts
    assert not tracker.failed
    made.write(record)
    made.track()
    clone = Checkout(Path(shutil.copytree(made.root, tmp_path / "clone", ignore=shutil.ignore_patterns("mlruns"))))
    clone.track()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    run, rebuilt = run_of(made), run_of(clone)
    assert rebuilt.data.params == run.data.params
    assert {**rebuilt.data.tags, "mlflow.loggedImages": "True"} == run.data.tags
    for checkout in (made, clone):
        kept = run_of(checkout)
        assert (kept.info.status, kept.info.end_time) == ("FINISHED", 1_700_000_031_250)
        assert_served(checkout, kept, outputs)
    before = contents(clone.database)
    clone.track(again=True)
    assert contents(clone.database) == before


def train_and_save(checkout: Checkout, record: dict[str, Any]) -> tuple[Any, Callable[[Any], Any]]:
    """A network of the params with random weights everywhere, also in BatchNormalization, and its file."""
    from keras_pipeline.core import files
    from keras_pipeline.models import architectures, frameworks

    frameworks.start_framework()
    from keras_pipeline.data.scaling import Scaling
    from keras_pipeline.models import model_file

    random = np.random.default_rng(0)
    network = architectures.build_network(load_params(checkout.params_file).model, IMAGE_SHAPE, 10)
    weights = [
        random.uniform(*((0.1, 1) if one.ndim == 1 else (-0.1, 0.1)), one.shape) for one in network.get_weights()
    ]
    network.set_weights(weights)
    file = checkout.root / "models" / "model.keras"
    model_file.save_network(network, file)
    record["sha256"]["model"] = files.file_sha256(file)
    scaling = Scaling(**record["dataset"]["scaling"])
    # The formula of Scaling, written out.
    return network, lambda pixels: network(
        ((pixels.astype(np.float64) - scaling.offset) / scaling.divisor).astype(np.float32)[..., None]
    ).numpy()


def assert_served(checkout: Checkout, run: Any, outputs: Callable[[Any], Any]) -> None:
    import mlflow

    reached = store.connect_store(checkout.where, EXPERIMENT)
    (kept,) = run.outputs.model_outputs
    model = reached.client.get_logged_model(kept.model_id)
    assert model.status == "READY"
    assert Path(model.artifact_location.removeprefix("file://")).is_relative_to(checkout.root / "mlruns" / "artifacts")
    served = mlflow.pyfunc.load_model(model.artifact_location)
    assert served.metadata.metadata == {"input": "raw pixels, whole numbers 0 … 255 of any type, shape (n, 28, 28)"}
    images = np.random.default_rng(1).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    answers = served.predict(images)
    assert answers.shape == (5, 10)
    np.testing.assert_allclose(answers, outputs(images), rtol=0, atol=1e-6)
    assert np.ptp(answers, axis=0).max() > 0.01  # the images are told apart
    np.testing.assert_array_equal(served.predict(images.astype(np.float32)), answers)
    for refused in (images / 255, images[..., None]):
        with pytest.raises(mlflow.MlflowException):
            served.predict(refused)


# The page


@pytest.fixture(scope="module")
def page(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator[tuple["subprocess.Popen[str]", str, Checkout]]:
    """`keras-pipeline ui` as a user starts it, its prepared table's address, and the checkout: two runs, of which
    the first is the better."""
    checkout = tracking_fixtures.checkout(tmp_path_factory.mktemp("page") / "checkout", empty_database)
    for key, dropout, accuracy in (("a", 0.25, 0.9750), ("b", 0.5, 0.9125)):
        checkout.set_params({"model.dropout": dropout})
        record = tracking_fixtures.record(checkout.params_file, key * 32, started=STARTED - 99 + ord(key))
        checkout.write(record, accuracy)
        checkout.track()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [Path(sys.executable).parent / "keras-pipeline", "ui", "--no-browser", "--port", str(port)],
        cwd=checkout.root,
        env={name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"},  # MLflow set it
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout
    try:
        lines = iter(server.stdout.readline, "")
        address = next(line.split()[3] for line in lines if line.startswith("MLflow is at "))
        assert address.startswith(f"http://127.0.0.1:{port}/#/experiments/1/runs?")
        assert next(lines) == "Ctrl-C ends it.\n"
        yield server, address, checkout
    finally:
        server.terminate()
        server.communicate(timeout=30)


@pytest.mark.slow
def test_the_page_is_for_this_machine_and_its_own_origin_only(
    page: tuple["subprocess.Popen[str]", str, Checkout],
) -> None:
    process, address, _ = page
    root = address.partition("/#")[0]
    runs_search = f"{root}/ajax-api/2.0/mlflow/runs/search"
    asked = {"experiment_ids": ["1"]}
    assert requests.get(f"{root}/health", timeout=10).text == "OK"
    answered = requests.post(runs_search, json=asked, headers={"Origin": root}, timeout=10)
    assert len(answered.json()["runs"]) >= 2
    foreign = requests.post(runs_search, json=asked, headers={"Host": "evil.example"}, timeout=10)
    assert foreign.status_code == 403
    crossing = requests.post(runs_search, json=asked, headers={"Origin": "http://evil.example"}, timeout=10)
    assert crossing.status_code == 403
    listening = [
        connection.laddr
        for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True))
        for connection in one.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {place.ip for place in listening} == {"127.0.0.1"}


@pytest.mark.slow
def test_a_server_is_told_as_a_file_is_and_no_password_is_kept(
    page: tuple["subprocess.Popen[str]", str, Checkout], made: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    _, address, served = page
    root = address.partition("/#")[0]
    os.environ["MLFLOW_TRACKING_URI"] = root.replace("://", f"://somebody:{SECRET}@")
    record = made.write(tracking_fixtures.record(made.params_file, "c" * 32, started=STARTED - 99), accuracy=0.5)
    observe(live_run.LiveTracker(made.where, EXPERIMENT), record)
    made.track()
    run = run_of(made, "c" * 32)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"] == 0.5
    assert len(series(made, run)["val/loss"]) == 3
    assert "run.json" in artifacts(made, run)
    made.track()
    ui.serve_ui(EXPERIMENT, 0, browser=False)
    masked = root.replace("://", "://***@")
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"track: 'digits mlp' is in MLflow ({masked}). Look at it: keras-pipeline ui",
        "track: MLflow has 'digits mlp' as it is here",
        address.replace(root, masked),
    ]
    assert err == ""
    assert tracking_fixtures.leaks(made.root) == []
    assert tracking_fixtures.leaks(served.root) == []


@pytest.mark.slow
@pytest.mark.needs_browser
def test_the_prepared_table_in_a_browser(page: tuple["subprocess.Popen[str]", str, Checkout], chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    quiet = ("background-networking", "component-update", "sync", "gpu")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
        )
        shown = browser.new_page(viewport={"width": 1600, "height": 900})
        shown.goto(page[1], wait_until="domcontentloaded")
        # Where a person sees them: the page's text does not keep the order of the columns.
        words = ("test/accuracy", "model.dropout", "0.975", "0.9125")
        found = {word: shown.get_by_text(word, exact=True).first for word in words}
        for place in found.values():
            place.wait_for(timeout=60_000)
        boxes = {word: place.bounding_box() for word, place in found.items()}
        browser.close()
    x, y = ({word: box[axis] for word, box in boxes.items() if box} for axis in ("x", "y"))
    assert abs(y["test/accuracy"] - y["model.dropout"]) < 5  # headers of one table
    assert y["test/accuracy"] < y["0.975"] < y["0.9125"]  # the better run first
    assert abs(x["test/accuracy"] - x["0.975"]) < 40


@pytest.mark.slow
def test_sigterm_ends_the_page_and_all_its_processes(page: tuple["subprocess.Popen[str]", str, Checkout]) -> None:
    process, address, _ = page
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert not [one for one in children if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=30)
