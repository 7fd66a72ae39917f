"""A commit checked out elsewhere, and a stage run by its code."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import small
from keras_pipeline.audit import differences
from keras_pipeline.audit.checkout import checkout_commit, project_code_digest, run_stage, set_params
from keras_pipeline.checks.params import load_params
from keras_pipeline.core.errors import MachineError, ParamsError
from keras_pipeline.records import provenance, record
from keras_pipeline.records.provenance import TRAINING
from real_workspace import wait_until
from recorded_run import git, told


def test_a_commit_is_checked_out_elsewhere_and_removed(repository: Path, tmp_path: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    (repository / "params.yaml").write_text("later")
    git(repository, "commit", "--quiet", "-am", "second")
    hook = repository.parent / "project" / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\ntouch hooked\n")
    hook.chmod(0o755)
    (repository / "params.yaml").write_text("changed")
    before = (git(repository, "status"), git(repository, "for-each-ref"), sorted(repository.rglob("*")))
    with checkout_commit(first) as project:
        assert tmp_path / "temporary" in project.parents
        assert json.loads((project / "params.yaml").read_text())["fetch"] == {"dataset": "digits"}
        assert git(project, "rev-parse", "HEAD") == first
        assert not list(project.rglob("hooked"))
    assert list((tmp_path / "temporary").iterdir()) == []
    assert before == (git(repository, "status"), git(repository, "for-each-ref"), sorted(repository.rglob("*")))


def test_a_project_in_a_folder_of_its_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository / "src")
    with checkout_commit(git(repository, "rev-parse", "HEAD")) as project:
        assert [path.name for path in project.iterdir()] == ["keras_pipeline"]


def test_git_variables_of_a_hook_do_not_matter(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    with checkout_commit(commit) as project:
        assert (project / "params.yaml").is_file()


def test_a_checkout_is_removed_whatever_happens(repository: Path, tmp_path: Path) -> None:
    def interrupted() -> None:
        with checkout_commit(git(repository, "rev-parse", "HEAD")):
            assert list((tmp_path / "temporary").iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("commit", ["0" * 40, "HEAD", "--upload-pack=touch", ""])
def test_a_commit_that_is_not_here(commit: str, repository: Path, tmp_path: Path) -> None:
    expected = r"is not in this repository\. Get it with `git fetch --all`"
    with pytest.raises(MachineError, match=expected), checkout_commit(commit):
        pass
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_folder_without_git(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MachineError, match=r"^git failed: fatal: not a git repository"), checkout_commit("0" * 40):
        pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"^git is not installed"), checkout_commit("0" * 40):
        pass


def test_the_recorded_params_are_those_of_the_checkout(repository: Path) -> None:
    changes = {
        "seed": 7,
        "model.layers": [{"layer": "Flatten"}, {"layer": "Dense", "units": 3}],
        "train.optimizer": {"name": "sgd", "learning_rate": 1e-5, "momentum": 0.5},
    }
    asked = small.params(changes)
    values = provenance.flat_params({name: getattr(asked, name) for name in record.BLOCKS})
    (repository / "params.yaml").write_bytes(small.params_text({"evaluate.worst_mistakes": 4, "model.l2": 0.5}))
    set_params(repository, values)
    given = load_params(repository / "params.yaml")
    assert provenance.flat_params({name: getattr(given, name) for name in record.BLOCKS}) == values
    assert given.evaluate.worst_mistakes == 4
    set_params(repository, {**values, "model.hidden_units": "[3", "seed": "[]"})
    with pytest.raises(ParamsError, match=r"seed: (.|\n)*model\.hidden_units: '\[3'"):
        load_params(repository / "params.yaml")


@pytest.mark.parametrize("content", [None, b"a: [", b"- 1", b"\xff"])
def test_a_commit_without_params(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(MachineError, match=r"params\.yaml of the run's commit cannot be read"):
        set_params(tmp_path, {})


def test_the_code_of_the_commit_is_asked_and_compared(run: dict[str, Any], repository: Path) -> None:
    assert project_code_digest(repository, TRAINING) == f"digest of {TRAINING}"
    run["sha256"]["code"] = f"digest of {TRAINING}"
    assert told(differences.compare_commit(run, repository)) == []
    run["git"]["dirty"] = True
    [(kind, text)] = told(differences.compare_commit(run, repository))
    assert (kind, text[:39]) == ("aside", "commit: cccccccccccc and uncommitted ch")
    run["sha256"]["code"] = "0" * 64
    [(kind, text)] = told(differences.compare_commit(run, repository))
    assert (kind, text[:36]) == ("cause", "code: trained with uncommitted chang")
    run["git"]["dirty"] = False
    [(kind, text)] = told(differences.compare_commit(run, repository))
    assert (kind, text[:71]) == ("cause", "code: 000000000000 there, digest of ke in commit cccccccccccc, although")
    (repository / "src/keras_pipeline/provenance.py").write_text("another version\n")
    [(kind, text)] = told(differences.compare_commit(run, repository))
    assert "000000000000 there, not to be run in commit" in text


def test_a_stage_runs_by_the_code_of_the_checkout_with_the_recorded_settings(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "DVC_ROOT": "r", "DVC_EXP_NAME": "e", "MLFLOW_TRACKING_URI": "http://server", "MLFLOW_RUN_ID": "1",
        "OMP_NUM_THREADS": "3", "TF_ENABLE_ONEDNN_OPTS": "1", "PYTHONPATH": "/elsewhere",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    seen = tmp_path / "seen.json"

    def stage(machine: dict[str, str], folder: Path | None = None, code: int = 0) -> dict[str, Any]:
        arguments = ["train", str(seen), "0", str(code)]
        assert run_stage(repository, arguments, machine, folder) == code
        found: dict[str, Any] = json.loads(seen.read_text())
        assert found["arguments"] == arguments
        return found

    here = stage({"threads": "default", "onednn": "0"}, code=5)
    assert here["folder"] == str(repository)
    assert here["PYTHONPATH"] == f"{repository / 'src'}{os.pathsep}/elsewhere"
    assert here["MLFLOW_TRACKING_URI"] == f"sqlite:///{repository}/mlruns/mlflow.db"
    assert not {"DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_RUN_ID", "OMP_NUM_THREADS"} & set(here)
    assert here["TF_ENABLE_ONEDNN_OPTS"] == "0"
    there = stage({}, tmp_path)
    assert (there["folder"], there["OMP_NUM_THREADS"]) == (str(tmp_path), "3")


def test_an_interruption_ends_the_stage(repository: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"

    def interrupt() -> None:
        wait_until(lambda: seen.exists() and seen.read_text().endswith("}"), 60, "the stage begins")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_stage(repository, ["train", str(seen), "600", "0"], {})
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(json.loads(seen.read_text())["pid"], 0)
