"""From where a command is given: a subfolder, outside of any project, and what paths mean there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from keras_pipeline.cli import main, place
from keras_pipeline.distribution import launcher
from places import PROGRAM, SHIPPED


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A project with a folder below it, as far as `params check` reads one."""
    root = tmp_path / "what? ü" / "project"
    (root / "a" / "b").mkdir(parents=True)
    shutil.copy(SHIPPED, root / "params.yaml")
    shutil.copy(SHIPPED.with_name("dvc.yaml"), root / "dvc.yaml")
    return root


def test_the_project_is_found_upwards_and_the_folder_left_as_it_was(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (made, made / "a", made / "a" / "b"):
        monkeypatch.chdir(folder)
        assert main.main(["params", "check"]) == 0
        assert Path.cwd() == folder
        assert capsys.readouterr().out == "params.yaml: good\n"


def test_paths_of_the_user_are_from_where_the_user_is(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "a" / "own.yaml").write_text(SHIPPED.read_text().replace("seed: 1", "seed: -1"))
    monkeypatch.chdir(made / "a" / "b")
    for named in ("../own.yaml", str(made / "a" / "own.yaml")):
        assert main.main(["params", "check", "--params", named]) == 2
        assert capsys.readouterr().err.startswith("a/own.yaml:")


def test_a_named_folder_of_a_run_is_from_there_and_any_other_name_as_it_is(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("models", "reports"):
        (made / "a" / "run" / name).mkdir(parents=True)
        (made / name).mkdir()
    monkeypatch.chdir(made / "a")
    with place.project():
        assert place.user_run("run") == "a/run"
        assert place.user_run("HEAD~3") == "HEAD~3"
        assert place.user_run(".") == "."  # the project: there is no run in a/
        assert place.user_path("run") == Path("a/run")
    assert place.user_path("run") == Path("run")


@pytest.mark.parametrize("name", ["DVC_STAGE", launcher.PARENT])
def test_what_dvc_or_we_have_started_stays_where_it_is(made: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.chdir(made / "a")
    with place.project():
        assert Path.cwd() == made / "a"


def test_outside_of_any_project_it_is_said_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["status"], ["params", "check"], ["study", "list"], ["ui"], ["relocate"], ["train"]):
        assert main.main(command) == 2
        out, err = capsys.readouterr()
        assert err.startswith(f"No project here: dvc.yaml and params.yaml are not in {tmp_path}, and no folder above")
        assert (out, len(err.splitlines())) == ("", 2)
    assert list(tmp_path.iterdir()) == []
    assert main.main(["params", "check", "--params", str(SHIPPED)]) == 0
    assert main.main(["schema", "study"]) == 0


def test_a_folder_that_was_removed_is_no_bug(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["bash", "-c", f'rmdir "$PWD" && exec "{PROGRAM}" params check'],
        cwd=gone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "No project here" in done.stderr


def test_the_package_is_the_program(made: Path) -> None:
    command = [sys.executable, "-m", "keras_pipeline", "params", "check"]
    done = subprocess.run(command, cwd=made / "a", capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stdout, done.stderr) == (0, "params.yaml: good\n", "")
