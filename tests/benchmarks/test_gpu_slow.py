"""benchmarks/gpu.py on a CPU: every section has its table, what fails is said, what ends it leaves whole files."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from places import ROOT

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "benchmarks" / "gpu.py"
NETWORK = "784-128-10; 32"
SMALL = ["--small", "--network", NETWORK]


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *SMALL, "--output", str(folder / "gpu.md"), *options]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], str]:
    """The table, the JSON and the output of all sections, where JAX works and PyTorch fails at its import."""
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "torch.py").write_text("raise OSError('libcuda.so:\\ncannot open shared object')\n")
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command(folder), env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "gpu.md").read_text(), json.loads((folder / "gpu.json").read_text()), done.stdout


def of(content: dict[str, Any], section: str, **key: Any) -> list[dict[str, Any]]:
    rows = [row for row in content["rows"] if row["section"] == section]
    return [row for row in rows if all(row.get(name) == value for name, value in key.items())]


def part(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.needs_jax
def test_every_section_has_its_table(ran: tuple[str, dict[str, Any], str]) -> None:
    text, content, output = ran
    assert content["conditions"]["complete"]
    assert "not complete" not in text
    for row in content["rows"]:
        program = row.get("backend") or row.get("program", "")
        expected = "failed" if "orch" in program else "done"
        assert row["state"] == expected, row
    assert len(output.splitlines()) >= len(content["rows"])
    (fused,) = of(content, "speed", program="Keras on JAX, fused", precision="float32")
    assert len(fused["seconds"]) == 2
    assert fused["operations"] == 2 * (3 * (784 * 8 + 8 * 10) - 784 * 8)  # `--small` has 8 hidden units
    assert f"| {NETWORK} | float32 | " in part(text, "Speed")
    assert "| JAX | " in part(text, "Peak")
    assert "| jax | plain | 1e-5, 1e-4 | 0.0e+00 | 0.0e+00 | 100.00 % | equal" in part(text, "CPU against GPU")
    assert "| jax | regularized |" + " the same bytes |" * 2 in part(text, "Two trainings, the same bytes?")
    assert f"| {NETWORK} | " in part(text, "Many seeds as one program")


@pytest.mark.needs_jax
def test_a_killed_training_goes_on_to_the_same_bytes(ran: tuple[str, dict[str, Any], str]) -> None:
    text, content, _ = ran
    alone, killed, resumed = of(content, "resume", backend="jax")
    assert killed["killed"] == "some steps after the checkpoint at epoch 2 step 1"
    assert resumed["resumed"] == "epoch 2 step 1"
    assert not alone["resumed"]
    assert alone["digest"] == resumed["digest"]
    assert "| epoch 2 step 1 | the same bytes |" in part(text, "Killed and resumed")


@pytest.mark.needs_jax
def test_a_program_that_fails_is_told_with_the_last_line_of_its_error(ran: tuple[str, dict[str, Any], str]) -> None:
    text, content, output = ran
    loop = of(content, "speed", program="PyTorch, the usual loop")
    assert {row["error"] for row in loop} == {"OSError: cannot open shared object"}
    assert "speed, PyTorch, the usual loop: FAILED: OSError: cannot open shared object (" in part(
        text, "What has no result"
    )
    assert f"{NETWORK}, float32, PyTorch, the usual loop: FAILED: OSError: cannot open shared object" in output
    assert "| failed |" in part(text, "Speed")


@pytest.mark.needs_jax
def test_what_no_time_is_left_for_is_told(tmp_path: Path) -> None:
    subprocess.run(command(tmp_path, "--seconds", "1", "--section", "speed"), check=True, stdout=subprocess.DEVNULL)
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["state"] for row in of(content, "speed", program="JAX by hand")} == {"no time was left"}
    assert "no time was left" in part((tmp_path / "gpu.md").read_text(), "Speed")


@pytest.mark.needs_jax
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_files_are_whole_whatever_ends_it(tmp_path: Path, how: signal.Signals) -> None:
    options = ["--section", "peak", "--section", "together"]
    with subprocess.Popen(command(tmp_path, *options), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        for line in running.stdout:
            if "bfloat16, JAX by hand: " in line:
                break
        running.send_signal(how)
        running.wait()
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert not content["conditions"]["complete"]
    assert [row["state"] for row in of(content, "peak", program="JAX by hand")] == ["done"] * 3
    assert [row["state"] for row in of(content, "together")] == ["not reached"]
    text = (tmp_path / "gpu.md").read_text()
    assert "**not complete**" in text
    assert "| not reached |" in part(text, "Many seeds as one program")
    assert {path.name for path in tmp_path.iterdir()} == {"gpu.md", "gpu.json"}


@pytest.mark.parametrize(
    ("backend", "torch", "state"),
    [
        ("no_such_package", "", "not installed"),
        ("torch", "import os; print('no card', flush=True); os._exit(3)", "FAILED: exit code 3: no card"),
        ("torch", "import time; time.sleep(60)", "FAILED: no result within 3 s"),
    ],
)
def test_a_process_that_does_not_answer_is_told(
    backend: str, torch: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text(torch)
    monkeypatch.setenv("HIDDEN_PACKAGES", "")  # it is this file that is to be found
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu

    monkeypatch.setattr(gpu, "CELL_SECONDS", 3)
    chosen = argparse.Namespace(seconds=60, section=None, output=tmp_path / "gpu.md", images="none", small=True)
    bench = gpu.Bench(chosen, tmp_path, time.monotonic())
    row = bench.add("peak", program="PyTorch, the usual loop", precision="float32", cell={"size": 1})
    bench.run(bench.job([row], program="torch_loop", backend=backend), bench.ends)
    assert gpu.shown(row) == state
    assert f"- peak, PyTorch, the usual loop: {state} (" in (tmp_path / "gpu.md").read_text()
