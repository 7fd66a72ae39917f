"""Runs are found wherever they are: a folder, a git revision, a DVC experiment."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compared_runs import LABELS, commit, experiment, git, nowhere, outputs, record, write
from keras_pipeline.comparison import find_run
from keras_pipeline.comparison.find_run import PREDICTIONS, RECORD, SCORES
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, MachineError, ParamsError


def test_answers_of_another_network_are_refused() -> None:
    write(Path("one"), record(), outputs(1))
    Path("one/models/model.keras").write_bytes(b"the network")
    locks = {name: hashlib.md5(name.encode()).hexdigest() for name in ("the network", "one before")}

    def lock(evaluated: str) -> dict[str, Any]:
        deps = [{"path": "models/model.keras", "md5": locks[evaluated]}]
        return {"schema": "2.0", "stages": {"evaluate": {"cmd": "x", "deps": deps}}}

    files.write_json(Path("one/dvc.lock"), lock("the network"))
    assert find_run.find_run("one", nowhere).scores
    files.write_json(Path("one/dvc.lock"), lock("one before"))
    with pytest.raises(DataError, match=r"folder one: reports/ tells of another network than models/model\.keras"):
        find_run.find_run("one", nowhere)


def test_a_run_is_found_in_a_folder() -> None:
    write(Path("studies/runs/one"), record(), outputs(1))
    run = find_run.find_run("studies/runs/one", nowhere)
    assert (run.requested_name, run.location, run.folder) == (
        "studies/runs/one",
        "folder studies/runs/one",
        Path("studies/runs/one"),
    )
    assert run.record == record()
    np.testing.assert_array_equal(run.outputs, outputs(1))
    np.testing.assert_array_equal(run.labels, LABELS)
    assert run.scores["test/accuracy"] == (outputs(1).argmax(axis=1) == LABELS).mean()


@pytest.mark.usefixtures("_asked")
def test_a_run_is_found_in_a_git_revision_whatever_the_checkout_holds_now() -> None:
    first = commit("1" * 32, 1)
    commit("2" * 32, 2)
    git("tag", "kept", first)
    for asked, key, seed in (("HEAD", "2" * 32, 2), ("HEAD~1", "1" * 32, 1), ("kept", "1" * 32, 1)):
        run = find_run.find_run(asked, nowhere)
        assert run.record["key"] == key
        np.testing.assert_array_equal(run.outputs, outputs(seed))
        assert run.location.startswith(f"git revision {asked}, commit ")
        assert run.folder is None
    assert not Path("models").exists()


@pytest.mark.usefixtures("_asked")
def test_a_run_is_found_as_a_dvc_experiment() -> None:
    commit("1" * 32, 1)
    full = experiment("eager-lynx", "2" * 32, 2)
    git("update-ref", "refs/exps/exec/EXEC_HEAD", "HEAD")
    for asked in ("eager-lynx", full):
        run = find_run.find_run(asked, nowhere)
        assert run.record["key"] == "2" * 32
        assert run.location.startswith(f"DVC experiment {asked}, commit ")
    with pytest.raises(ParamsError, match="the store has no run 'EXEC_HEAD'"):
        find_run.find_run("EXEC_HEAD", nowhere)


@pytest.mark.usefixtures("_asked")
def test_an_experiment_whose_name_is_given_twice_is_not_chosen_by_chance() -> None:
    commit("1" * 32, 1)
    first = experiment("twice", "2" * 32, 2)
    commit("3" * 32, 3)
    second = experiment("twice", "4" * 32, 4)
    with pytest.raises(ParamsError) as raised:
        find_run.find_run("twice", nowhere)
    head, *lines = str(raised.value).splitlines()
    assert head == "2 commits are called 'twice'. Name one in full:"
    assert {line.split()[0] for line in lines} == {first, second}
    assert find_run.find_run(second, nowhere).record["key"] == "4" * 32
    git("branch", "twice")
    with pytest.raises(ParamsError, match="3 commits are called 'twice'"):
        find_run.find_run("twice", nowhere)


@pytest.mark.usefixtures("_asked")
def test_a_folder_comes_before_a_revision_and_that_before_the_store() -> None:
    def stored(asked: str, artifacts: tuple[str, ...], folder: Path) -> tuple[str, dict[str, Any]]:
        assert artifacts == ("reports/metrics.json", "reports/predictions.npz")
        write(folder, record("3" * 32), outputs(3))
        return "digits mlp", record("3" * 32)

    run = find_run.find_run("same", stored)
    assert (run.record["key"], run.location) == ("3" * 32, "MLflow's run digits mlp")
    np.testing.assert_array_equal(run.outputs, outputs(3))
    commit("1" * 32, 1)
    git("branch", "same")
    Path("same/models").mkdir(parents=True)  # a folder, but not a run's
    assert find_run.find_run("same", stored).record["key"] == "1" * 32
    write(Path("same"), record("2" * 32), outputs(2))
    assert find_run.find_run("same", stored).record["key"] == "2" * 32


@pytest.mark.parametrize("kind", [ParamsError, MachineError])
def test_what_is_found_nowhere_is_told_with_every_place(kind: type[ParamsError | MachineError]) -> None:
    def stored(asked: str, artifacts: tuple[str, ...], folder: Path) -> tuple[str, dict[str, Any]]:
        raise kind("the store says why")

    for in_git in (
        "and git could not be asked for a revision or DVC experiment: "
        "fatal: not a git repository (or any of the parent directories): .git",
        "no revision of this folder's git repository and no DVC experiment in it",
    ):
        with pytest.raises(kind) as raised:
            find_run.find_run("nothing", stored)
        assert str(raised.value).splitlines() == [
            f"'nothing': no folder with models/ and reports/ in it, {in_git}.",
            "the store says why",
        ]
        git("init", "--quiet")


@pytest.fixture
def _asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC's answer at once, for tests that are not about it."""
    monkeypatch.setattr(find_run, "cache_folder", lambda folder: folder / ".dvc" / "cache")


@pytest.mark.usefixtures("_asked")
def test_files_of_dvc_2_are_found_by_the_digest_of_their_text() -> None:
    commit("1" * 32, 1)
    lock = json.loads(Path("dvc.lock").read_bytes())
    for out in lock["stages"]["all"]["outs"]:
        del out["hash"]
        new = Path(".dvc/cache/files/md5", out["md5"][:2], out["md5"][2:])
        content = new.read_bytes()
        if out["path"] == RECORD:
            content = content.replace(b"\n", b"\r\n")  # its digest is that of the text with line feeds
        files.write_atomically(Path(".dvc/cache", out["md5"][:2], out["md5"][2:]), content)
        new.unlink()
    amend("dvc.lock", json.dumps(lock))
    assert find_run.find_run("HEAD", nowhere).record["key"] == "1" * 32


@pytest.mark.usefixtures("_asked")
def test_a_cache_that_cannot_be_read_is_the_machine_s_fault() -> None:
    commit("1" * 32, 1)
    for path in Path(".dvc/cache/files/md5").glob("*/*"):
        path.unlink()
        path.mkdir()
    with pytest.raises(MachineError, match=r"\S*: Is a directory\. It should be models/run\.json, in DVC's cache"):
        find_run.find_run("HEAD", nowhere)


def test_a_git_that_refuses_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    commit("1" * 32, 1)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(MachineError) as raised:
        find_run.find_run("HEAD", nowhere)
    assert "and git could not be asked for a revision or DVC experiment: fatal: detected dubious ownership in" in str(
        raised.value
    )
    assert f"its remedy: git config --global --add safe.directory {Path.cwd()})" in str(raised.value)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MachineError, match="git is not installed"):
        find_run.find_run("HEAD", nowhere)


def test_conflict_markers_are_named_with_their_place_and_the_way_out() -> None:
    write(Path(), record(), outputs(1))
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n<<<<<<< HEAD\n")
    with pytest.raises(DataError, match=r"^folder \.: dvc\.lock:3: a git conflict marker.*checkout --theirs dvc\.lock"):
        find_run.find_run(".", nowhere)


def damage_the_cache() -> None:
    for path in Path(".dvc/cache/files/md5").glob("*/*"):
        path.write_bytes(b"{}")


def amend(path: str, text: str | None) -> None:
    if text is None:
        git("rm", "--quiet", "--cached", path)
    else:
        files.write_atomically(Path(path), text.encode())
        git("add", path)
    git("commit", "--quiet", "--allow-empty", "--amend", "--message", "other")


@pytest.mark.usefixtures("_asked")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (damage_the_cache, r"damaged, it should be models/run\.json"),
        (lambda: amend("dvc.lock", None), r"there is no dvc\.lock in it"),
        (
            lambda: amend("dvc.lock", "a:\n=======\n"),
            r"dvc\.lock:2: a git conflict marker, '======='\. Name another commit",
        ),
        (lambda: amend("dvc.lock", "stages: ["), r"dvc\.lock:1:10: a value is missing here"),
        (lambda: amend("dvc.lock", "schema: '2.0'\nstages: {a: 1}"), r"dvc\.lock: stages: not what `dvc repro` writes"),
        (lambda: amend("dvc.lock", "schema: '2.0'\nstages: {}"), r"dvc\.lock names no models/run\.json"),
        (lambda: amend(SCORES, None), r"there is no reports/metrics\.json in it"),
        (lambda: amend(SCORES, "{"), r"reports/metrics\.json: line 1 column 2: .*\. Expected: JSON\."),
    ],
)
def test_a_revision_whose_files_are_lacking_is_refused(change: Callable[[], None], text: str) -> None:
    commit("1" * 32, 1)
    change()
    with pytest.raises(DataError, match=rf"(?s)^git revision HEAD, commit \w{{12}}: .*{text}"):
        find_run.find_run("HEAD", nowhere)


def edit_json(path: str, **values: Any) -> None:
    files.write_json(Path(path), {**json.loads(Path(path).read_bytes()), **values})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Path(RECORD).unlink, r"models/run\.json: not there\. The stage 'train' writes it"),
        (lambda: edit_json(RECORD, versions=3), r"models/run\.json: versions: got 3\. Expected: a valid dictionary"),
        (
            lambda: edit_json(RECORD, diverged="in epoch 2", best_epoch=None),
            r"the training diverged \(in epoch 2\), so there is no test",
        ),
        (Path(SCORES).unlink, r"reports/metrics\.json: not there\. The stage 'evaluate' writes it"),
        (lambda: edit_json(SCORES, **{"test/accuracy": 0.5}), r"says test/accuracy 0\.5, .* gives 0\.\d+: they are of"),
        (lambda: edit_json(SCORES, **{"test/loss": "0.5"}), r"test/loss: got \"0\.5\"\. Expected: a valid number"),
        (Path(PREDICTIONS).unlink, r"reports/predictions\.npz: not there"),
        (lambda: Path(PREDICTIONS).write_bytes(b"PK\x03\x04 damaged"), r"predictions\.npz: got damaged data"),
        (lambda: np.savez(PREDICTIONS, outputs=outputs(1)), r"predictions\.npz: got 'outputs\.npy'\. Expected: "),
        (
            lambda: np.savez(PREDICTIONS, outputs=np.array([{}]), labels=LABELS, penalty=0.0),
            r"outputs: got \|O of the shape \(1,\)\. Expected: <f4",
        ),
        (
            lambda: np.savez(PREDICTIONS, outputs=outputs(1)[:-1], labels=LABELS[:-1], penalty=0.0),
            r"outputs: got <f4 of the shape \(399, 10\)\. Expected: <f4 of the shape \(400, 10\)",
        ),
    ],
)
def test_files_that_are_damaged_or_do_not_belong_together_are_refused(change: Callable[[], Any], text: str) -> None:
    write(Path(), record(), outputs(1))
    change()
    with pytest.raises(DataError, match=rf"^folder \.: .*{text}"):
        find_run.find_run(".", nowhere)
