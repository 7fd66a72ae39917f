"""The registry of a real server of MLflow's, which keeps the files itself, and of two machines that use it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

import registered_runs
from keras_pipeline.cli import main
from keras_pipeline.registry import journal, versions
from keras_pipeline.tracking import store
from keras_pipeline.tracking.stores import address
from registered_runs import NAME
from tracking_fixtures import EXPERIMENT, MLFLOW_WARNINGS, Checkout

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


@pytest.fixture
def server(project: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its address, which is that of the project's store."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = {"host": "127.0.0.1", "port": str(port), "workers": "1", "artifacts-destination": str(tmp_path / "kept")}
    options["backend-store-uri"] = address.sqlite_address(project.database)
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *(f"--{name}={value}" for name, value in options.items())],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    uri, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            with suppress(requests.ConnectionError):
                if requests.get(f"{uri}/health", timeout=2).ok:
                    break
            time.sleep(0.1)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri
    finally:
        process.terminate()
        process.wait(30)


def test_a_server_keeps_versions_cards_and_the_journal(
    server: str, project: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, share in ((1, 0.9), (2, 0.9)):
        folder = project.root / f"run{number}"
        registered_runs.write_run(folder, number, share)
        registered_runs.send_run(project.where, folder, exports=("onnx",) if number == 2 else ())
        assert main.main(["model", "register", folder.name]) == 0
    assert main.main(["model", "promote", "1"]) == 0
    # Another machine: another checkout, whose lock is another file.
    other = project.root.parent / "other"
    other.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        (other / name).write_bytes((project.root / name).read_bytes())
    monkeypatch.chdir(other)
    assert main.main(["model", "promote"]) == 0
    said = capsys.readouterr().out
    assert f"models:/{NAME}@champion" in said
    client = store.connect_store(project.where, EXPERIMENT).client
    model = versions.require_model(client, NAME)
    assert model.aliases == {"champion": 2}
    assert [(one["action"], one["from"], one["to"]) for one in model.journal] == [
        ("register", None, 1), ("register", 1, 2), ("promote", None, 1), ("promote", 1, 2)
    ]  # fmt: skip
    found = model.versions[2]
    assert found.tags["exports"] == "onnx"
    assert found.run_id
    assert "model_card.md" in [one.path for one in client.list_artifacts(found.run_id)]
    assert main.main(["model", "card", f"models:/{NAME}@champion"]) == 0
    assert "| `onnx` | 2,048 |" in capsys.readouterr().out
    journal._write(client, NAME, 9, journal.new_entry("promote", "champion", 2, 1))  # a machine that is at it
    assert main.main(["model", "promote", "1"]) == 75
    assert "The alias champion of 'digits' is being moved by somebody else" in capsys.readouterr().err
    assert versions.require_model(client, NAME).aliases == {"champion": 2}
