"""`make run` beside another one, and beside DVC."""

import fcntl
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from places import ROOT

DVC = "#!/bin/sh\necho dvc $*\nexec sleep $SECONDS_OF_DVC\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An empty one, and a program called dvc."""
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    program = tmp_path / "bin" / "dvc"
    program.parent.mkdir()
    program.write_text(DVC)
    program.chmod(0o755)
    return tmp_path


def start(checkout: Path, seconds: float = 0, *arguments: str) -> "subprocess.Popen[str]":
    environ = {"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}", "SECONDS_OF_DVC": str(seconds)}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "run_dvc.py"), *arguments],
        cwd=checkout, env=os.environ | environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


REPRO = ("repro", "-q")


def ended(checkout: Path, *arguments: str) -> tuple[int, str, str]:
    with start(checkout, 0, *(arguments or REPRO)) as process:
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def test_it_becomes_dvc_whose_exit_code_and_output_are_its_own(checkout: Path) -> None:
    assert ended(checkout) == (0, "dvc repro -q\n", "")


def test_two_at_once(checkout: Path) -> None:
    with start(checkout, 60, *REPRO) as first:
        assert first.stdout
        assert first.stdout.readline() == "dvc repro -q\n"
        code, out, err = ended(checkout)
        assert (code, out) == (75, "")
        assert err.startswith(f"This checkout is in use: process {first.pid}, `sleep 60`, for ")
        assert f"or end it with `kill {first.pid}`, then run the same command again.\n" in err
        assert err.endswith("make run: exit 75 (stopped or busy: run the same command again)\n")
        first.kill()
    assert ended(checkout)[0] == 0


@pytest.mark.parametrize("kind", ["write", "read"])
def test_beside_dvc_that_runs_a_stage(checkout: Path, kind: str) -> None:
    def note(pid: int) -> None:
        one = {"pid": pid, "cmd": "dvc repro"}
        whole = {"read": {}, "write": {}, kind: {"/data": one if kind == "write" else [one]}}
        (checkout / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(whole))

    note(os.getpid())
    code, out, err = ended(checkout)
    assert (code, out) == (75, "")
    assert f"process {os.getpid()}, `" in err
    with subprocess.Popen(["true"]) as gone:
        pass
    note(gone.pid)
    assert ended(checkout)[0] == 0


def test_a_lock_of_dvc_is_waited_for(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (checkout / ".dvc" / "tmp" / "lock").open("w+") as file:
        file.write(f" {os.getpid()}\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        monkeypatch.chdir(checkout)
        spec = importlib.util.spec_from_file_location("run_dvc", ROOT / "tools" / "run_dvc.py")
        assert spec
        assert spec.loader
        run_dvc = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(run_dvc)
        monkeypatch.setattr(run_dvc, "PATIENCE_SECONDS", 0.3)
        assert run_dvc.main(["repro"]) == 75
        assert f"process {os.getpid()}, `" in capsys.readouterr().err
        (checkout / ".dvc" / "tmp" / "make-run.lock").unlink()  # which this process would hold to its end
        with start(checkout, 0, *REPRO) as process:
            time.sleep(0.5)
            assert process.poll() is None
            fcntl.flock(file, fcntl.LOCK_UN)
            assert process.wait(60) == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"write": {"/a": 1}, "read": {}}'])
def test_a_torn_list_is_left_to_dvc(checkout: Path, content: str) -> None:
    (checkout / ".dvc" / "tmp" / "rwlock").write_text(content)
    assert ended(checkout)[0] == 0


def test_what_dvc_left_empty_is_removed_unless_somebody_is_at_work(checkout: Path) -> None:
    torn = [checkout / "dvc.lock", checkout / ".dvc" / "tmp" / "rwlock"]
    for path in torn:
        path.touch()
    with start(checkout, 60, *REPRO) as first:
        assert first.stdout
        assert first.stdout.readline() == "dvc repro -q\n"
        with start(checkout) as second:
            assert second.wait(60) == 75
        assert all(path.exists() for path in torn)
        first.kill()
    with start(checkout) as process:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    assert [line.split(" was empty: DVC was killed")[0] for line in out.splitlines()] == ["dvc.lock", ".dvc/tmp/rwlock"]
    assert not any(path.exists() for path in torn)


def test_what_is_not_empty_stays(checkout: Path) -> None:
    (checkout / "dvc.lock").write_text("schema: '2.0'\n")
    (checkout / ".dvc" / "tmp" / "rwlock").write_text("{}")
    with start(checkout) as process:
        assert process.communicate(timeout=60) == ("", "")
    assert (checkout / "dvc.lock").read_text() == "schema: '2.0'\n"
    assert (checkout / ".dvc" / "tmp" / "rwlock").exists()
