"""MLflow's page: who may ask it, what it shows, and that it ends."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

import tracking_fixtures
from keras_pipeline.tracking import live_run, store, ui
from places import PROGRAM
from relay import Relay
from tracked_runs import artifacts, observe, run_of, series
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, SECRET, STARTED, Checkout

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


@pytest.fixture(scope="module")
def page(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator[tuple["subprocess.Popen[str]", str, Checkout]]:
    """`keras-pipeline ui` as a user starts it, its prepared table's address, and the checkout: two runs, of which
    the first is the better."""
    folder = tmp_path_factory.mktemp("page") / "-what? #50%20 checkout"
    checkout = tracking_fixtures.checkout(folder, empty_database)
    for key, dropout, accuracy in (("a", 0.25, 0.95), ("b", 0.5, 0.85)):
        checkout.set_params({"model.dropout": dropout})
        record = tracking_fixtures.record(checkout.params_file, key * 32, started=STARTED - 99 + ord(key))
        checkout.write(record, accuracy)
        checkout.track()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [PROGRAM, "ui", "--no-browser", "--port", str(port)],
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


def test_the_page_is_of_the_very_store_and_its_address_in_no_command_line(
    page: tuple["subprocess.Popen[str]", str, Checkout],
) -> None:
    process, address, served = page
    root = address.partition("/#")[0]
    found = requests.post(f"{root}/ajax-api/2.0/mlflow/runs/search", json={"experiment_ids": ["1"]}, timeout=10).json()
    run_id = found["runs"][0]["info"]["run_id"]
    listed = requests.get(f"{root}/ajax-api/2.0/mlflow/artifacts/list?run_id={run_id}", timeout=10).json()
    assert {"run.json", "params.yaml"} <= {one["path"] for one in listed["files"]}
    got = requests.get(f"{root}/get-artifact?path=run.json&run_uuid={run_id}", timeout=10)
    assert got.json()["name"] == "digits mlp"
    processes = psutil.Process(process.pid).children(recursive=True)
    assert [one.pid for one in processes if "mlflow" in " ".join(one.cmdline())]
    assert not [word for one in processes for word in one.cmdline() if "sqlite" in word or served.root.name in word]
    assert [path.name for path in served.root.parent.iterdir()] == [served.root.name]


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


def test_what_waited_arrives_when_the_server_is_back(
    page: tuple["subprocess.Popen[str]", str, Checkout],
    made: Checkout,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two checkouts, whose server is away: finished runs of other params, and a training that lost it on the way."""
    relay = Relay(int(page[1].partition("/#")[0].rpartition(":")[2]))
    os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{relay.port}"
    monkeypatch.setattr(live_run, "SYSTEM_METRICS_SECONDS", 60)
    other = tracking_fixtures.checkout(tmp_path / "other")

    def trained(checkout: Checkout, letter: str, **changes: Any) -> dict[str, Any]:
        checkout.set_params({"model.dropout": ord(letter) / 1000})
        return checkout.write(
            tracking_fixtures.record(checkout.params_file, letter * 32, started=STARTED + ord(letter), **changes)
        )

    relay.open()
    lost = trained(made, "d", diverged="weights")
    observe(live_run.LiveTracker(made.where, EXPERIMENT), lost, "FAILED", lambda epoch: epoch == 3 and relay.close())
    trained(made, "e")  # deleted in the page while its reports wait
    relay.open()
    made.track()
    deleted = run_of(made, "e" * 32).info.run_id
    relay.close()
    for letter in "e12":
        os.environ["DVC_EXP_NAME"] = f"experiment-{letter}"
        trained(made, letter, train_seconds=40.0)
        made.track()
    trained(other, "3")
    other.track()
    del os.environ["DVC_EXP_NAME"]
    relay.open()
    capsys.readouterr()
    client = store.connect_store(made.where, EXPERIMENT).client
    client.delete_run(deleted)
    trained(made, "4")
    made.track()
    assert capsys.readouterr().out.splitlines()[1:] == [
        "track: 2 runs that waited are in MLflow now",
        "track: 1 run that waited, and deleted in MLflow meanwhile: not sent",
    ]
    assert run_of(made, "d" * 32).info.status == "FAILED"
    assert [step for step, *_ in series(made, run_of(made, "d" * 32))["val/loss"]] == [1, 2, 3]
    for letter in "12":
        run = run_of(made, letter * 32)
        assert (run.info.status, run.data.metrics["test/accuracy"]) == ("FINISHED", 0.95)
        assert run.data.params["model.dropout"] == str(ord(letter) / 1000)
        assert run.data.tags["dvc.exps"] == f"experiment-{letter}"
        assert "reports/metrics.json" in artifacts(made, run)
    with pytest.raises(AssertionError):
        run_of(made, "e" * 32)
    with pytest.raises(AssertionError):
        run_of(made, "3" * 32)
    other.track()  # of its own accord
    assert run_of(made, "3" * 32).info.status == "FINISHED"
    made.track()
    assert "waited" not in capsys.readouterr().out
    relay.close()


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
        words = ("test/accuracy", "model.dropout", "0.95", "0.85")
        found = {word: shown.get_by_text(word, exact=True).first for word in words}
        for place in found.values():
            place.wait_for(timeout=60_000)
        boxes = {word: place.bounding_box() for word, place in found.items()}
        browser.close()
    x, y = ({word: box[axis] for word, box in boxes.items() if box} for axis in ("x", "y"))
    assert abs(y["test/accuracy"] - y["model.dropout"]) < 5  # headers of one table
    assert y["test/accuracy"] < y["0.95"] < y["0.85"]  # the better run first
    assert abs(x["test/accuracy"] - x["0.95"]) < 40


def test_sigterm_ends_the_page_and_all_its_processes(page: tuple["subprocess.Popen[str]", str, Checkout]) -> None:
    process, address, _ = page
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert not [one for one in children if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=30)
