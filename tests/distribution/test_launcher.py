"""The launcher: what it leaves where a program does not start, and what it passes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

from keras_pipeline.distribution import cluster, launcher
from worker_processes import NAMES


@pytest.mark.parametrize("strategy", NAMES)
def test_launch_tells_every_worker_its_place(strategy: str, capfd: pytest.CaptureFixture[str]) -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    assert launcher.launch_workers([sys.executable, "-I", "-c", code], 2, strategy, {"KEPT": "yes", "RANK": "9"}) == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    assert lines[0].startswith("[worker 1] {")
    chief, other = json.loads(lines[1]), json.loads(lines[0].removeprefix("[worker 1] "))
    for rank, environ in enumerate([chief, other]):
        assert (environ["KEPT"], environ["LOCAL_RANK"]) == ("yes", str(rank))
        assert environ["KERAS_PIPELINE_PARENT"] == str(os.getpid())
        place = cluster.cluster_from_environment(strategy, environ)
        assert place is not None
        assert (place.rank, place.count, len(place.addresses)) == (rank, 2, 1 if strategy == "ddp" else 2)
        assert len({*place.addresses, place.roll_call}) == len(place.addresses) + 1
        assert place.roll_call == chief["KERAS_PIPELINE_ROLL_CALL"]


def test_launch_without_a_program_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        launcher.launch_workers(["no-such-program"], 2, "ddp", {})
    begun = []

    def start(command: object, rank: int, environ: Mapping[str, str]) -> subprocess.Popen[str]:
        if rank:
            raise OSError("no more processes")
        begun.append(subprocess.Popen(["sleep", "60"], text=True, start_new_session=True))
        return begun[0]

    monkeypatch.setattr(launcher, "_start", start)
    with pytest.raises(OSError, match="no more processes"):
        launcher.launch_workers(["anything"], 2, "ddp", {})
    assert begun[0].returncode == -signal.SIGKILL


def test_broken_text_and_endless_lines_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    code = r"import os; os.environ['RANK'] == '1' and os.write(1, b'\xff\n' + b'x' * 200_000 + b'\nlast')"
    assert launcher.launch_workers([sys.executable, "-I", "-c", code], 2, "ddp", {}) == 0
    lines = capfd.readouterr().out.splitlines()
    assert all(line.startswith("[worker 1] ") for line in lines)
    assert (lines[0], lines[-1]) == ("[worker 1] \ufffd", "[worker 1] last")
    assert sum(line.count("x") for line in lines) == 200_000
