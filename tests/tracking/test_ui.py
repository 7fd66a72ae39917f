"""The port of MLflow's page."""

import os
import pty
import socket
import sys
from pathlib import Path

import pytest

from keras_pipeline.core.errors import MachineError
from keras_pipeline.tracking import ui
from keras_pipeline.tracking.stores import address
from tracking_fixtures import MLFLOW_WARNINGS, SECRET, Checkout

pytestmark = MLFLOW_WARNINGS


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


def test_a_checkout_has_its_page_at_one_address_if_it_can(made: Checkout, tmp_path: Path) -> None:
    usual = ui._usual_port(made.where)
    assert usual in ui.PORTS
    assert usual == ui._usual_port(made.where) != ui._usual_port(address.store_location(tmp_path))
    with socket.create_server(("127.0.0.1", usual)):
        assert ui._usual_port(made.where) != usual


def test_the_server_s_command_line_names_no_store(made: Checkout) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = f"postgresql://me:{SECRET}@h/runs?sslpassword={SECRET}"
    where = address.store_location(made.root)
    assert ui._environment(where)["MLFLOW_BACKEND_STORE_URI"] == where.uri
    assert not [word for word in ui._command(5000) if SECRET in word or "postgresql" in word]


def test_a_server_is_waited_for_as_long_as_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ui, "NEWS_SECONDS", (0.5, 1.0))
    (tmp_path / "health").write_text("OK")
    port = ui._free_port(0)
    program = (
        "import sys, time, http.server as h; time.sleep(2.2)\n"
        "handler = lambda *a: h.SimpleHTTPRequestHandler(*a, directory=sys.argv[2])\n"
        "h.HTTPServer(('127.0.0.1', int(sys.argv[1])), handler).serve_forever()"
    )
    command = [sys.executable, "-c", program, str(port), str(tmp_path)]
    with ui._Server(command, dict(os.environ)) as server:
        server.wait_for(f"http://127.0.0.1:{port}")
    assert server.process.returncode < 0
    first, *news = capsys.readouterr().out.splitlines()
    assert first.startswith(f"MLflow's server is starting, process {server.process.pid}")
    assert len(news) >= 2
    assert news[0].startswith(f"Waiting for MLflow's server at http://127.0.0.1:{port} for 1 s") or "for 0 s" in news[0]


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("sys.exit(3)", "ended with exit code 3. Its last lines:\n  line 8"),
        ("os.kill(os.getpid(), 9)", "ended by signal 9 (Killed). Its last lines:\n  line 8"),
    ],
)
def test_a_server_that_ends_is_told_with_its_last_words(
    end: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = f"import os, sys\nfor n in range(20): print('line', n, flush=True)\n{end}"
    command = [sys.executable, "-c", program]
    with pytest.raises(MachineError) as ended, ui._Server(command, dict(os.environ)) as server:
        server.wait_for("http://127.0.0.1:9")
    assert told in str(ended.value)
    assert str(ended.value).endswith("line 19")
    assert capsys.readouterr().err.splitlines() == [f"line {number}" for number in range(20)]


def test_a_server_without_last_words() -> None:
    silent = pytest.raises(MachineError, match=r"ended with exit code 0\. It said nothing\.$")
    with silent, ui._Server([sys.executable, "-c", ""], dict(os.environ)) as server:
        server.wait_for("http://127.0.0.1:9")


def test_a_browser_opens_for_a_person_with_a_display_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    leader, follower = pty.openpty()
    with os.fdopen(leader), os.fdopen(follower, "w") as terminal, Path(os.devnull).open("w") as nowhere:
        for output, display, opened in ((terminal, ":0", True), (terminal, "", False), (nowhere, ":0", False)):
            monkeypatch.setenv("DISPLAY", display)
            monkeypatch.setattr(sys, "stdout", output)
            assert ui._has_browser() is opened
