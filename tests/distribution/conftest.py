"""Workers, alone and under a launcher, that are gone after each test."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worker_processes import LAUNCHER, LIMIT, WORKER, Launch, Start, Started, free_port, place, runs, until


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start workers by hand, as on several machines: `start(count, ranks, **settings)`, in the order of `ranks`."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    all_started: list[Started] = []

    def run(count: int, ranks: list[int] | None = None, meeting: str = "", **settings: Any) -> list[Started]:
        meeting = meeting or f"127.0.0.1:{free_port()}"
        settings.setdefault("digests", [{"params": "a"}] * count)
        found = {}
        for rank in range(count) if ranks is None else ranks:
            command = [sys.executable, str(script), json.dumps(settings)]
            output = tmp_path / f"output-{len(all_started)}"
            found[rank] = Started(command, place(rank, count, meeting), output)
            all_started.append(found[rank])
        return [found[rank] for rank in sorted(found)]

    yield run
    for started in all_started:
        started.process.kill()
        started.process.wait(LIMIT)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start a launcher: `launch(count, **settings)`; afterwards it must have left no process."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    all_started: list[Started] = []

    def run(count: int, **settings: Any) -> Started:
        settings.setdefault("digests", [{"params": "a"}] * count)
        command = [sys.executable, "-c", LAUNCHER, str(script), json.dumps([count, settings])]
        all_started.append(Started(command, {}, tmp_path / f"output-{len(all_started)}"))
        return all_started[-1]

    yield run
    for started in all_started:
        started.process.kill()
        started.process.wait(LIMIT)
        pids = map(int, re.findall(r"pid (\d+)", started.text()))
        until(lambda pids=list(pids): not any(map(runs, pids)), lambda: "a worker was left behind")
