"""Runs are found wherever they are: a folder, a git revision, a DVC experiment."""

import hashlib
import json
import shutil
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
        return {"stages": {"evaluate": {"cmd": "x", "deps": deps}}}

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

    for _ in range(2):
        with pytest.raises(kind) as raised:
            find_run.find_run("nothing", stored)
        assert str(raised.value).splitlines() == [
            "'nothing': no folder with models/ and reports/ in it, no revision of this folder's git repository and no "
            "DVC experiment in it.",
            "the store says why",
        ]
        git("init", "--quiet")  # the same with a repository


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("config", "[core]\n    analytics = false\n[cache]\n    dir = ../elsewhere\n    type = copy\n", "elsewhere"),
        ("config.local", "['remote \"one\"']\n    url = s3://x\n[cache]\n    dir = {here}/far\n", "far"),
        ("config", "not a setting", ".dvc/cache"),
    ],
)
def test_the_cache_is_where_the_settings_of_dvc_say(name: str, text: str, place: str, tmp_path: Path) -> None:
    commit("1" * 32, 1, place)
    files.write_atomically(Path(".dvc", name), text.replace("{here}", str(tmp_path)).encode())
    assert find_run.find_run("HEAD", nowhere).record["key"] == "1" * 32
    shutil.rmtree(Path(place, "files"))
    with pytest.raises(
        DataError,
        match=rf"^git revision HEAD, commit \w+: models/run.json \(MD5 \w+\) is not in DVC's cache \S*{place}",
    ):
        find_run.find_run("HEAD", nowhere)


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


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (damage_the_cache, r"damaged, it should be models/run\.json"),
        (lambda: amend("dvc.lock", None), r"there is no dvc\.lock in it"),
        (lambda: amend("dvc.lock", "stages: ["), r"its dvc\.lock cannot be read"),
        (lambda: amend("dvc.lock", "stages: {a: 1}"), r"its dvc\.lock cannot be read"),
        (lambda: amend("dvc.lock", "stages: {}"), r"dvc\.lock names no models/run\.json"),
        (lambda: amend(SCORES, None), r"there is no reports/metrics\.json in it"),
        (lambda: amend(SCORES, "{"), r"not the JSON that it should be"),
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
        (lambda: edit_json(RECORD, versions=3), r"lacks what is needed of versions"),
        (
            lambda: edit_json(RECORD, diverged="in epoch 2"),
            r"the training diverged \(in epoch 2\), so there is no test",
        ),
        (Path(SCORES).unlink, r"reports/metrics\.json: not there\. The stage 'evaluate' writes it"),
        (lambda: edit_json(SCORES, **{"test/accuracy": 0.5}), r"says test/accuracy 0\.5, .* gives 0\.\d+: they are of"),
        (lambda: edit_json(SCORES, **{"test/loss": "0.5"}), r"holds what is no number"),
        (Path(PREDICTIONS).unlink, r"there is no reports/predictions\.npz"),
        (lambda: Path(PREDICTIONS).write_bytes(b"PK\x03\x04 damaged"), r"predictions\.npz cannot be read"),
        (lambda: np.savez(PREDICTIONS, outputs=outputs(1)), r"predictions\.npz cannot be read"),
        (lambda: np.savez(PREDICTIONS, outputs=np.array([{}]), labels=LABELS), r"predictions\.npz cannot be read"),
        (
            lambda: np.savez(PREDICTIONS, outputs=outputs(1)[:-1], labels=LABELS[:-1]),
            r"answers of shape \(399, 10\); expected \(400, 10\) by its record",
        ),
    ],
)
def test_files_that_are_damaged_or_do_not_belong_together_are_refused(change: Callable[[], Any], text: str) -> None:
    write(Path(), record(), outputs(1))
    change()
    with pytest.raises(DataError, match=rf"^folder \.: .*{text}"):
        find_run.find_run(".", nowhere)
