import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import small
import tracking_fixtures
from keras_pipeline.audit import certify, differences
from keras_pipeline.audit import checkout as repetition
from keras_pipeline.audit.checkout import checkout_commit, project_code_digest, run_stage, set_params
from keras_pipeline.audit.differences import Difference
from keras_pipeline.checks.params import load_params
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, MachineError, ParamsError
from keras_pipeline.records import provenance, record
from keras_pipeline.records.provenance import TRAINING
from real_workspace import Workspace, origin, wait_until

STATISTICS = {
    "dataset": "digits",
    "task": "classes",
    "shape": [28, 28, 1],
    "target": None,
    "class_names": ["0", "1"],
    "scaling": {"name": "unit", "offset": 0.0, "divisor": 255.0},
    "images": {"train": 2},
    "sha256": {"train_images.npy": "1" * 64, "train_labels.npy": "2" * 64},
}
Edit = Callable[[dict[str, Any]], object]


def recorded(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The record of a run of the quick params that this machine has just trained."""
    run = record.begin_record(small.params(changes), Path(), STATISTICS, TRAINING)
    run["git"] = {"commit": "c" * 40, "dirty": False}
    run["sha256"]["model"] = "4" * 64
    run["strategy"] = {
        "name": run["params"]["train.strategy"],
        "asked": run["params"]["train.strategy"],
        "backend": run["params"]["train.backend"],
        "devices": [f"/cpu:{number}" for number in range(run["params"]["train.devices"])],
        "workers": run["params"]["train.workers"],
        "replicas": run["params"]["train.devices"] * run["params"]["train.workers"],
    }
    run |= {"weights": 7, "ended": 1.0, "train_seconds": 1.0, "best_epoch": 2, "history": rows(1.5, 0.75)}
    return run


def rows(*losses: float) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "train/loss": loss, "val/loss": loss + 1, "val/accuracy": 0.5, "time": 1e9 + epoch}
        for epoch, loss in enumerate(losses, 1)
    ]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("template")
    files.write_json(folder / "statistics.json", STATISTICS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return recorded()


@pytest.fixture
def run(template: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(template))
    return made


def told(found: Iterator[Difference]) -> list[tuple[str, str]]:
    return [(difference.kind, difference.text) for difference in found]


# The record alone.


def test_nothing_differs_where_a_run_was_just_trained(run: dict[str, Any]) -> None:
    record.check_record(run)
    assert told(differences.compare_record(run)) == []
    assert told(differences.compare_machine(run)) == []
    assert told(differences.compare_history(run, run["history"], "MLflow")) == []
    assert told(differences.compare_strategy(run, run)) == []


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        (lambda run: run.pop("machine"), "machine"),
        (lambda run: run["machine"].pop("threads"), "machine"),
        (lambda run: run.update(git="main", strategy=[]), "git, strategy"),
        (lambda run: run["history"].clear(), "history"),
        (lambda run: run["history"][1].pop("val/loss"), "history"),
        (lambda run: run["history"][1].update({"val/loss": math.nan}), "history"),
        (lambda run: run["history"][1].update({"val/loss": "0.5"}), "history"),
        (lambda run: run.update(history=3), "history"),
        (lambda run: run["sha256"].update(code=None), "sha256"),
        (lambda run: run["git"].update(commit=7), "git"),
        (lambda run: run["strategy"].update(devices=2), "strategy"),
        (lambda run: run["machine"].update(threads=1), "machine"),
        (lambda run: run["params"].update(seed=[1]), "params"),
    ],
)
def test_a_record_that_lacks_something_is_refused(edit: Edit, names: str, run: dict[str, Any]) -> None:
    edit(run)
    with pytest.raises(DataError, match=rf"lacks what is needed of {names}: an older version wrote it"):
        record.check_record(run)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda run: run["params"].update({"train.epochs": 3}), r"params: their digest is \w{12}, recorded is \w{12}"),
        (lambda run: run["params"].pop("seed"), "params: their digest"),
        (lambda run: run["sha256"].update(params="0" * 64), "params: their digest is .* recorded is 000000000000"),
        (lambda run: run["strategy"].update(name="mirrored"), "strategy: mirrored in the record, none by its own"),
        (lambda run: run["strategy"].update(backend="jax"), "backend: jax in the record, tensorflow by its own"),
        (lambda run: run["strategy"].update(replicas=4), "replicas: 4 in the record, 1 by its own params"),
        (lambda run: run["strategy"].update(workers=2, replicas=2), "workers: 2 in the record, 1 by its own params"),
        (lambda run: run["strategy"].update(devices=["/cpu:0"] * 3, replicas=3), "devices: 3 in the record, 1 by"),
        (lambda run: run.update(reproducibility="fast"), "reproducibility: fast in the record, seeded by its own"),
    ],
)
def test_a_record_that_contradicts_itself_was_edited(edit: Edit, text: str, run: dict[str, Any]) -> None:
    edit(run)
    [(kind, found)] = told(differences.compare_record(run))
    assert kind == "fault"
    assert re.match(text, found)
    assert found.endswith("run.json was edited")


def test_one_device_that_stands_in_for_missing_ones_is_no_contradiction(run: dict[str, Any]) -> None:
    run["params"] |= {"train.strategy": "mirrored", "train.devices": 2}
    run["sha256"]["params"] = provenance.params_digest(run["params"])
    run["strategy"]["asked"] = "mirrored on 2 GPU(s)"
    assert told(differences.compare_record(run)) == []


def test_what_numpy_computed_is_no_contradiction(run: dict[str, Any]) -> None:
    run["params"]["train.engine"] = run["strategy"]["backend"] = "numpy"
    run["sha256"]["params"] = provenance.params_digest(run["params"])
    assert told(differences.compare_record(run)) == []
    run["strategy"]["backend"] = "tensorflow"
    assert told(differences.compare_record(run)) == [
        ("fault", "backend: tensorflow in the record, numpy by its own params: run.json was edited")
    ]


# The files beside it.


def test_the_history_is_the_recorded_one_but_for_the_times(run: dict[str, Any]) -> None:
    logged = [{name: value for name, value in row.items() if name != "time"} for row in run["history"]]
    assert told(differences.compare_history(run, logged, "MLflow")) == []
    logged[1]["val/loss"] += 1e-12
    assert told(differences.compare_history(run, logged, "MLflow")) == [
        (
            "fault",
            "history: epoch 2 val/loss is 1.75 in run.json, 1.750000000001 in MLflow: one of them was edited",
        )
    ]
    del logged[1]
    assert told(differences.compare_history(run, logged, "MLflow")) == [
        ("fault", "history: 2 epochs in run.json, 1 in MLflow")
    ]


@pytest.fixture
def checkout(run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """The files that the run left in the current folder; gives what of them differs."""
    monkeypatch.chdir(tmp_path)
    files.write_atomically(Path("models/model.keras"), b"network")
    lines = ["epoch,train/loss,val/loss,val/accuracy", "1,1.5,2.5,0.5", "2,0.75,1.75,0.5", ""]
    files.write_atomically(Path("models/history.csv"), "\n".join(lines).encode())
    files.write_atomically(Path("data/raw/train-labels"), b"raw")
    files.write_json(
        Path("data/raw/dataset.json"),
        {"files": {"train-labels": {"sha256": files.file_sha256(Path("data/raw/train-labels"))}}},
    )
    files.write_atomically(Path("data/normalized/train_images.npy"), b"normalized")
    run["dataset"]["sha256"] = {"train_images.npy": files.file_sha256(Path("data/normalized/train_images.npy"))}
    files.write_json(Path("data/normalized/statistics.json"), {"sha256": run["dataset"]["sha256"]})
    run["sha256"]["data"] = files.file_sha256(Path("data/normalized/statistics.json"))
    run["sha256"]["model"] = files.file_sha256(Path("models/model.keras"))
    return lambda: told(differences.compare_files(run, Path("models"), Path("data/raw"), Path("data/normalized")))


def test_the_files_of_a_run_are_known_by_their_digests(checkout: Callable[[], list[Any]]) -> None:
    assert checkout() == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("models/model.keras", "model: models/model.keras is not the network that this run wrote"),
        ("data/raw/train-labels", "data: data/raw/train-labels is not the file that was recorded for it"),
        ("data/normalized/train_images.npy", "data: data/normalized/train_images.npy is not the file that was"),
    ],
)
def test_an_altered_file_is_named(path: str, text: str, checkout: Callable[[], list[Any]]) -> None:
    Path(path).write_bytes(b"other")
    [(kind, found)] = checkout()
    assert (kind, found[: len(text)]) == ("fault", text)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("2.5", "2.25", "history: epoch 1 val/loss is 2.5 in run.json, 2.25 in models/history.csv"),
        ("0.75", "", "history: 2 epochs in run.json, 0 in models/history.csv"),
        ("train/loss", "loss", "history: epoch 1 train/loss is 1.5 in run.json, None in models/history.csv"),
    ],
)
def test_an_edited_history_is_named(old: str, new: str, text: str, checkout: Callable[[], list[Any]]) -> None:
    path = Path("models/history.csv")
    path.write_text(path.read_text().replace(old, new, 1))
    kind, found = checkout()[0]
    assert (kind, found[: len(text)]) == ("fault", text)


def test_files_that_are_not_here_are_no_fault_but_the_history(checkout: Callable[[], list[Any]]) -> None:
    shutil.rmtree("data")
    Path("models/model.keras").unlink()
    assert checkout() == [("aside", "model: models/model.keras is not here, so its weights cannot be compared")]
    Path("models/history.csv").unlink()
    assert checkout()[0] == ("fault", "history: 2 epochs in run.json, 0 in models/history.csv")


def test_data_that_were_made_anew_since_are_said(checkout: Callable[[], list[Any]]) -> None:
    files.write_json(Path("data/normalized/statistics.json"), {})
    Path("data/raw/dataset.json").write_text("[]")
    assert checkout() == [
        ("aside", "data: data/normalized here is not what the network was trained on (`dvc repro`)"),
    ]


# The machine and what is installed.


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            lambda run: run["machine"].update(processor="Z80"),
            [("cause", r"processor: Z80 there, .* here; the last bits may differ")],
        ),
        (lambda run: run["machine"].update(cores="640"), [("cause", r"cores: 640 there, \d+ here; the last bits")]),
        (
            lambda run: run["machine"].update(threads="7"),
            [("cause", r"threads \(OMP_NUM_THREADS\): 7 there, default here; it is trained again as there; the last")],
        ),
        (
            lambda run: run["machine"].pop("blas_threads"),  # an older version did not record it
            [],
        ),
        (
            lambda run: run["machine"].update(blas_threads="2"),
            [("cause", r"threads \(OPENBLAS_NUM_THREADS\): 2 there, default here; it is trained again as there; the")],
        ),
        (
            lambda run: run["machine"].update(onednn="0"),
            [("cause", r"oneDNN \(TF_ENABLE_ONEDNN_OPTS\): 0 there, default here; it is trained again as there")],
        ),
        (lambda run: run["strategy"].update(devices=["/gpu:0"]), [("cause", "devices: /gpu:0 there, no GPU here$")]),
        (lambda run: run["versions"].update(python="3.9.1"), [("cause", r"python: 3\.9\.1 there, 3\.\d+\.\d+ here$")]),
        (lambda run: run["versions"].update(system="Linux s390x"), [("cause", "system: Linux s390x there, .* here$")]),
        (
            lambda run: run["versions"].update(keras="3.14.0", numpy="2.0.1"),
            [
                ("cause", r"keras: 3\.14\.0 there, \d.* here$"),
                ("cause", r"numpy: 2\.0\.1 there, \d.* here$"),
                ("aside", r"versions: pip install keras==3\.14\.0 numpy==2\.0\.1 brings them back$"),
            ],
        ),
        (
            lambda run: run["versions"].update(mlflow="1.0"),
            [
                ("aside", r"mlflow: 1\.0 there, \d.* here; the training does not use it$"),
                ("aside", r"versions: pip install mlflow==1\.0 brings them back$"),
            ],
        ),
        (
            lambda run: run["versions"].update(jax="0.1"),
            [("aside", r"jax: 0\.1 there, .* here; the training does not use it$"), ("aside", "versions: pip install")],
        ),
        (
            lambda run: (run["versions"].update(jax="0.1"), run["strategy"].update(backend="jax")),
            [("cause", r"jax: 0\.1 there, .* here$"), ("aside", r"versions: pip install jax==0\.1 ")],
        ),
        (lambda run: run["versions"].pop("numpy"), [("cause", r"numpy: not installed there, \d.* here$")]),
        (
            lambda run: run["environment"].extend(["jaxlib==0.0.1", "six==0.1", "keras-pipeline==0.0.1"]),
            [
                ("cause", r"packages: jaxlib==0\.0\.1 there, not so here$"),
                ("aside", "packages: 1 that compute nothing here have other versions, or are missing$"),
                ("aside", r"versions: pip install jaxlib==0\.0\.1 brings them back$"),
            ],
        ),
    ],
)
def test_what_differs_of_the_machine_is_named(
    edit: Edit, expected: list[tuple[str, str]], run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in record.SETTINGS.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(differences, "GPU_FILES", ())
    run["machine"] = record.describe_machine()
    edit(run)
    found = told(differences.compare_machine(run))
    assert [kind for kind, _ in found] == [kind for kind, _ in expected]
    for (_, text), (_, pattern) in zip(found, expected, strict=True):
        assert re.match(pattern, text)


def test_where_there_is_a_gpu_only_the_training_tells(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differences, "GPU_FILES", (str(tmp_path),))
    run["strategy"]["devices"] = ["/gpu:0"]
    assert told(differences.compare_machine(run)) == []
    again = {"strategy": {**run["strategy"], "devices": ["/cpu:0"]}}
    assert told(differences.compare_strategy(run, again)) == [
        ("cause", "strategy: devices ['/gpu:0'] there, ['/cpu:0'] here")
    ]


# The data that are made anew.


@pytest.mark.parametrize(
    ("edit", "kind", "text"),
    [
        (lambda run: run["sha256"].update(data="0" * 64), "cause", "those recorded (statistics.json)"),
        (
            lambda run: (
                run["sha256"].update(data="0" * 64),
                run["dataset"]["sha256"].update({"train_labels.npy": "9"}),
            ),
            "cause",
            "data: fetch and normalize make other data than those recorded (train_labels.npy): fetch or normalize",
        ),
        (
            lambda run: run["dataset"]["sha256"].update({"train_images.npy": "9", "more.npy": "8"}),
            "fault",
            "data: train_images.npy, more.npy in the record are not of the recorded data: run.json was edited",
        ),
        (lambda run: run["dataset"]["images"].update(train=3), "fault", "data: images in the record are not of"),
    ],
)
def test_other_data_are_named(edit: Edit, kind: str, text: str, run: dict[str, Any], tmp_path: Path) -> None:
    files.write_json(tmp_path / "statistics.json", {**STATISTICS, "normalize": {}})
    run["sha256"]["data"] = files.file_sha256(tmp_path / "statistics.json")
    assert told(differences.compare_data(run, tmp_path)) == []
    edit(run)
    [(found, line)] = told(differences.compare_data(run, tmp_path))
    assert found == kind
    assert text in line


# The commit, in a small repository.


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


MAIN = """\
import json, os, sys, time
def main():
    with open(sys.argv[2], "w") as file:
        json.dump({"arguments": sys.argv[1:], "folder": os.getcwd(), "pid": os.getpid(), **os.environ}, file)
    time.sleep(float(sys.argv[3]))
    return int(sys.argv[4])
"""


def test_a_record_of_the_first_versions_is_read_and_one_of_a_later_version_refused(
    run: dict[str, Any], tmp_path: Path
) -> None:
    """The first had no `format`, knew one task, and recorded fewer settings of the machine."""
    path = tmp_path / "run.json"
    old = {**run, "ended": 1.0, "train_seconds": 1.0, "best_epoch": 1, "weights": 1}
    del old["format"], old["dataset"]["task"], old["dataset"]["shape"], old["dataset"]["target"], old["machine"]["xla"]
    files.write_json(path, old)
    read = record.read_record(path)
    record.check_record(read)
    assert (read["dataset"]["task"], read["dataset"]["shape"], read["dataset"]["target"]) == (
        "classes",
        [28, 28, 1],
        None,
    )
    assert not [one for one in differences.compare_machine(read) if "XLA" in one.text]
    for number in (record.FORMAT + 1, "new"):
        files.write_json(path, {**old, "format": number})
        with pytest.raises(DataError, match=rf"run\.json: a record of format {number}, which a newer version wrote"):
            record.read_record(path)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a project inside a repository, with one commit, whose commands tell their environment."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(repetition.tempfile, "tempdir", str(tmp_path / "temporary"))
    project = tmp_path / "repository" / "project"
    package = project / "src" / "keras_pipeline"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "commands.py").write_text(MAIN)
    (package / "provenance.py").write_text("def code_digest(module): return 'digest of ' + module\n")
    (project / "params.yaml").write_bytes(small.params_text(small.QUICK))
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    monkeypatch.chdir(project)
    return project


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


def test_params_that_no_commit_has_are_named(run: dict[str, Any], repository: Path) -> None:
    run["sha256"]["code"] = f"digest of {TRAINING}"
    run["params"] |= {"seed": 2, "train.optimizer.rho": 0.5}
    texts = [text for kind, text in told(differences.compare_commit(run, repository)) if kind == "cause"]
    assert [text.partition(", although nothing was uncommitted")[0] for text in texts] == [
        "params: seed is 2 in the record, 1 in the commit's params.yaml",
        "params: train.optimizer.rho is 0.5 in the record, not given in the commit's params.yaml",
    ]
    run["git"]["dirty"] = True  # as in every `dvc exp run -S`: the record has what no commit has
    assert not any("params: " in text for _, text in told(differences.compare_commit(run, repository)))
    run["git"]["dirty"] = False
    (repository / "params.yaml").write_text("knobs: [of, another, version]")
    assert told(differences.compare_commit(run, repository)) == []


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


# What comes out.


def network(path: Path, **arrays: list[float]) -> str:
    """A .keras file with these weights; its digest."""
    content = io.BytesIO()
    with h5py.File(content, "w") as weights:
        for name, values in arrays.items():
            weights[f"layers/{name}/vars/0"] = np.array(values, np.float32)
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("config.json"), "{}")
        archive.writestr(zipfile.ZipInfo("model.weights.h5"), content.getvalue())
    return files.file_sha256(path)


@pytest.fixture
def pair(run: dict[str, Any], tmp_path: Path) -> Callable[..., certify.Verdict]:
    """What comes out for the recorded and a new network, and what the new record says otherwise."""

    def compare(there: dict[str, Any], here: dict[str, Any], keep: bool = True, **otherwise: Any) -> certify.Verdict:
        old, new = tmp_path / "model.keras", tmp_path / "new" / "model.keras"
        again: dict[str, Any] = {**json.loads(json.dumps(run)), **otherwise}
        run["sha256"]["model"] = network(old, **there)
        again["sha256"]["model"] = network(new, **here)
        if not keep:
            old.write_bytes(b"of another run")
        return certify.compare_trainings(run, again, old, new)

    return compare


A = {"dense": [1.0, 2.0], "output": [3.0]}


def test_identical_bytes(pair: Callable[..., certify.Verdict], run: dict[str, Any]) -> None:
    later = [{**row, "time": 0.0} for row in run["history"]]
    found = pair(A, A, history=later)
    digest = run["sha256"]["model"][:12]
    assert found.verdict == "identical bytes"
    assert found.figures == (f"model.keras (SHA-256 {digest}…) and the history of 2 epochs",)
    assert pair(A, A, keep=False).verdict == "identical bytes"


def test_equal_within_tolerance_says_how_far_apart(pair: Callable[..., certify.Verdict]) -> None:
    found = pair(A, {"dense": [1.0, 2.000004], "output": [3.000001]}, history=rows(1.5, 0.750002))
    assert found.verdict == "equal within tolerance"
    assert found.figures == ("largest difference of a loss 2e-06", "of a weight 4.1e-06")


def test_other_losses_may_bring_another_accuracy(pair: Callable[..., certify.Verdict], run: dict[str, Any]) -> None:
    near = rows(1.5, 0.750002)
    near[1]["val/accuracy"] = 0.5625
    assert pair(A, {**A, "output": [3.000001]}, history=near).verdict == "equal within tolerance"
    same = rows(1.5, 0.75)
    same[1]["val/accuracy"] = 0.5625
    found = pair(A, A, history=same)
    assert (found.verdict, found.figures[0]) == ("differs", "epoch 2 val/accuracy 0.5 there, 0.5625 here")


@pytest.mark.parametrize(
    ("here", "otherwise", "figure"),
    [
        ({**A, "output": [3.5]}, {}, "of a weight 0.5"),
        ({**A, "output": [3.00003]}, {}, "of a weight 3e-05"),
        ({**A, "output": [math.nan]}, {}, "of a weight nan"),
        ({**A, "output": [3.0, 3.0]}, {}, "another network"),
        ({**A, "more": [3.0]}, {}, "another network"),
        (A, {"history": rows(1.5, 0.7501)}, "largest difference of a loss 0.0001"),
        ({**A, "output": [3.000001]}, {"history": rows(1.5, 0.7501)}, "largest difference of a loss 0.0001"),
        (A, {"history": rows(1.5)}, "2 epochs there, 1 here"),
        (A, {"best_epoch": 1}, "best_epoch 2 there, 1 here"),
        (A, {"weights": 8}, "weights 7 there, 8 here"),
    ],
)
def test_what_differs_is_said(
    here: dict[str, Any], otherwise: dict[str, Any], figure: str, pair: Callable[..., certify.Verdict]
) -> None:
    found = pair(A, here, **otherwise)
    assert found.verdict == "differs"
    assert figure in found.figures


def test_without_the_recorded_network_only_losses_are_compared(pair: Callable[..., certify.Verdict]) -> None:
    other = {**A, "output": [3.5]}
    found = pair(A, other, keep=False)
    assert found.verdict == "equal within tolerance"
    assert re.fullmatch(
        r"another model\.keras, and the recorded one is not in .* to compare its weights", found.figures[1]
    )
    assert pair(A, other, keep=False, history=rows(1.5, 0.76)).verdict == "differs"


@pytest.mark.parametrize("content", [b"no zip", b""])
def test_a_network_that_cannot_be_read(content: bytes, pair: Callable[..., certify.Verdict], tmp_path: Path) -> None:
    pair(A, A)
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.keras: no \.keras file with weights"):
        certify._weights(path)


OUTCOMES = {
    name: certify.Verdict(name, ("figures",)) for name in ("identical bytes", "equal within tolerance", "differs")
}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdict", "kinds", "code", "lines"),
    [
        ("identical bytes", "", 0, ["certify: identical bytes: figures"]),
        ("identical bytes", "cause aside", 0, ["certify: identical bytes: figures"]),
        (
            "identical bytes",
            "fault cause",
            1,
            [
                "certify: identical bytes: figures",
                "certify: the record and its files do not belong together:",
                "  a fault",
            ],
        ),
        (
            "equal within tolerance",
            "cause aside",
            0,
            [
                "certify: equal within tolerance: figures",
                "certify: what can explain another result:",
                "  a cause",
            ],
        ),
        (
            "differs",
            "cause",
            1,
            ["certify: differs: figures", "certify: what can explain another result:", "  a cause"],
        ),
        ("differs", "aside", 1, ["certify: differs: figures", "certify: nothing that is recorded explains it: "]),
        ("differs", "fault", 1, ["certify: differs: figures", "certify: the record and its files do not", "  a fault"]),
    ],
)
def test_the_verdict_names_what_can_explain_it(
    verdict: str, kinds: str, code: int, lines: list[str], run: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    known = [Difference(kind, f"a {kind}") for kind in kinds.split()]  # type: ignore[arg-type]
    assert certify._verdict(OUTCOMES[verdict], known, run) == code
    found = capsys.readouterr().out.splitlines()
    assert len(found) == len(lines)
    assert all(line.startswith(expected) for line, expected in zip(found, lines, strict=True))


def test_on_a_gpu_the_level_of_reproducibility_can_explain_it(
    run: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run["strategy"]["devices"] = ["/gpu:0"]
    certify._verdict(OUTCOMES["differs"], [], run)
    assert "  reproducibility: 'seeded' promises no same bits on a GPU" in capsys.readouterr().out
    run["reproducibility"] = "deterministic"
    certify._verdict(OUTCOMES["differs"], [], run)
    assert "nothing that is recorded explains it" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "expected"), [(2, 1), (3, 1), (4, 4), (5, 1), (6, 6), (70, 1), (75, 75)])
def test_how_a_stage_that_fails_ends_the_command(code: int, expected: int) -> None:
    assert certify._failed("train", code) == expected


@pytest.mark.parametrize("code", [-9, 137])
def test_a_stage_that_was_killed_is_the_machine_s(code: int) -> None:
    with pytest.raises(MachineError, match=r"train was ended by signal 9, perhaps for lack of memory"):
        certify._failed("train", code)


def test_a_run_without_a_commit_is_compared_and_not_trained(
    run: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run["git"]["commit"] = None
    run["machine"]["cores"] = "640"
    assert certify.certify_run(run, [], Path("model.keras"), Path("downloads"), quick=False) == 1
    first, cores, last = capsys.readouterr().out.splitlines()
    assert first.endswith("2 epochs, commit none")
    assert cores.startswith("  cores: 640 there")
    assert last.startswith("certify: cannot be trained again, because it was recorded without a git commit. Commit the")


# Real runs.

SMALL = {
    "fetch__dataset": "digits",
    "model__hidden_units": [16],
    "train__epochs": 2,
    "train__batch_size": 100,
    "train__schedule__name": "constant",
    "train__schedule__warmup_epochs": 0,
    "train__device_type": "cpu",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A fresh clone after fetch, normalize and train. For reading only."""
    source = origin(tmp_path_factory.mktemp("source") / "checkout")
    source.set(**SMALL)
    source.commit()
    made = source.clone(tmp_path_factory.mktemp("trained") / "checkout")
    for stage in ("fetch", "normalize", "train"):
        made.good(f"keras-pipeline {stage}")
    made.good("python -m compileall -q src")  # else the first import of each package leaves a __pycache__ in it
    return made


@pytest.fixture
def copy(trained: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    made = trained.copy(tmp_path / "checkout")
    yield made
    made.close()


def certified(workspace: Workspace, code: int, *options: str) -> list[str]:
    """What the command prints, but for the stages' lines; what it puts into the temporary folder is gone."""
    temporary = workspace.folder.parent / "temporary"
    temporary.mkdir()
    done = workspace.run("keras-pipeline certify", *options, TMPDIR=str(temporary))
    assert done.code == code, done.output
    assert list(temporary.iterdir()) == []
    temporary.rmdir()
    return [line for line in done.output.splitlines() if line.startswith(("certify: ", "  "))]


def assert_begin(lines: list[str], *beginnings: str) -> None:
    assert [line[: len(beginning)] for line, beginning in zip(lines, beginnings, strict=True)] == list(beginnings)


def edit_record(workspace: Workspace, edit: Edit, *, digest: bool = True) -> dict[str, Any]:
    """Change models/run.json, and the digest of its params with them."""
    run: dict[str, Any] = workspace.json("models/run.json")
    edit(run)
    if digest:
        run["sha256"]["params"] = provenance.params_digest(run["params"])
    files.write_json(workspace.folder / "models/run.json", run)
    return run


@pytest.mark.slow
def test_a_fresh_clone_is_certified_identical_and_not_touched(trained: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*") if "__pycache__" not in path.parts}
    first, seconds, last = certified(trained, 0)
    run = trained.json("models/run.json")
    assert first == f"certify: digits mlp, key {run['key'][:12]}, 2 epochs, commit {run['git']['commit'][:12]}"
    assert re.fullmatch(r"certify: trained again in \d+ s", seconds)
    digest = files.file_sha256(trained.folder / "models/model.keras")[:12]
    assert last == f"certify: identical bytes: model.keras (SHA-256 {digest}…) and the history of 2 epochs"
    after = {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*") if "__pycache__" not in path.parts}
    assert after == before
    assert len(trained.runs()) == 1


@pytest.mark.slow
def test_edits_of_the_record_are_found_without_training(copy: Workspace) -> None:
    def edit(run: dict[str, Any]) -> None:
        run["params"]["train.batch_size"] = 50
        run["versions"]["tensorflow"] = "2.20.0"
        run["machine"] |= {"processor": "Z80", "cores": "640", "threads": "7", "onednn": "0"}
        run["strategy"] |= {"name": "mirrored", "devices": ["/cpu:0", "/cpu:1"], "replicas": 2}

    edit_record(copy, edit, digest=False)
    _, *found, last = certified(copy, 1, "--quick")
    assert_begin(
        found,
        "  params: their digest is ",
        "  strategy: mirrored in the record, none by its own params",
        "  devices: 2 in the record, 1 by its own params",
        "  processor: Z80 there, ",
        "  cores: 640 there, ",
        "  oneDNN (TF_ENABLE_ONEDNN_OPTS): 0 there, default here",
        "  threads (OMP_NUM_THREADS): 7 there, default here",
        "  tensorflow: 2.20.0 there, ",
        "  versions: pip install tensorflow==2.20.0 brings them back",
        "  params: train.batch_size is 50 in the record, 100 in the commit's params.yaml",
    )
    assert last == "certify: not as recorded, 9 difference(s) of the above; nothing was trained (--quick)"


@pytest.mark.slow
def test_other_seeds_and_replaced_files_are_found_without_training(copy: Workspace) -> None:
    def edit(run: dict[str, Any]) -> None:
        run["params"] |= {"seed": 2, "normalize.split_seed": 2}
        run["dataset"]["sha256"]["test_images.npy"] = "0" * 64

    edit_record(copy, edit)
    models = copy.folder / "models"
    (models / "model.keras").write_bytes((models / "model.keras").read_bytes() + b"0")
    text = (models / "history.csv").read_text()
    (models / "history.csv").write_text(text.replace("\n2,", "\n2,1", 1))
    _, *found, last = certified(copy, 1, "--quick")
    assert_begin(
        found,
        f"  history: epoch 2 train/loss is {copy.json('models/run.json')['history'][1]['train/loss']} in run.json, 1",
        "  model: models/model.keras is not the network that this run wrote",
        "  data: data/normalized/test_images.npy is not the file that was recorded",
        "  params: seed is 2 in the record, 1 in the commit's params.yaml",
        "  params: normalize.split_seed is 2 in the record, 1 in the commit's params.yaml",
        "  data: fetch and normalize make other data than those recorded",
    )
    assert "(train_images.npy, train_labels.npy, validation_images.npy, " in found[-1]
    assert last.startswith("certify: not as recorded, 6 difference(s)")


@pytest.mark.slow
def test_uncommitted_code_altered_data_and_a_setting_at_training_time_are_found(copy: Workspace) -> None:
    code = copy.folder / "src/keras_pipeline/models/architectures.py"
    code.write_text(code.read_text() + "\nCHANGED = True\n")
    labels, manifest = copy.folder / "data/raw/train-labels", copy.json("data/raw/dataset.json")
    content = bytearray(labels.read_bytes())
    content[-1] = (content[-1] + 1) % 10
    labels.write_bytes(content)
    manifest["files"]["train-labels"]["sha256"] = files.file_sha256(labels)
    files.write_json(copy.folder / "data/raw/dataset.json", manifest)
    copy.good("keras-pipeline normalize")
    copy.good("keras-pipeline train", OMP_NUM_THREADS="1")
    commit = copy.json("models/run.json")["git"]["commit"][:12]
    _, *found, last = certified(copy, 1, "--quick")
    assert_begin(
        found,
        "  threads (OMP_NUM_THREADS): 1 there, default here; it is trained again as there",
        f"  code: trained with uncommitted changes beside commit {commit}, so git cannot repeat it",
        "  data: fetch and normalize make other data than those recorded",
    )
    assert "train_labels.npy" in found[2]
    assert last.startswith("certify: not as recorded, 3 difference(s)")


@pytest.mark.slow
def test_a_result_that_was_changed_everywhere_alike_is_found_by_training(copy: Workspace) -> None:
    models = copy.folder / "models"
    with zipfile.ZipFile(models / "model.keras") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    content = io.BytesIO(entries["model.weights.h5"])
    with h5py.File(content, "r+") as weights:
        weights["layers/dense_1/vars/1"][0] += 0.25
    with zipfile.ZipFile(models / "model.keras", "w") as archive:
        for name, entry in {**entries, "model.weights.h5": content.getvalue()}.items():
            archive.writestr(zipfile.ZipInfo(name), entry)

    def edit(run: dict[str, Any]) -> None:
        run["sha256"]["model"] = files.file_sha256(models / "model.keras")
        text = (models / "history.csv").read_text()
        (models / "history.csv").write_text(text.replace(str(run["history"][1]["val/loss"]), "0.5"))
        run["history"][1]["val/loss"] = 0.5

    edit_record(copy, edit)
    _, _, verdict, explanation, end = [*certified(copy, 1), ""]
    figure = re.fullmatch(r"certify: differs: largest difference of a loss ([\d.]+); of a weight 0\.25", verdict)
    assert figure
    assert 0.1 < float(figure[1]) < 2
    assert explanation.startswith("certify: nothing that is recorded explains it: run.json, history.csv or model.keras")
    assert end == ""


@pytest.mark.slow
def test_another_learning_rate_that_no_commit_could_show_is_found_by_training(copy: Workspace) -> None:
    def edit(run: dict[str, Any]) -> None:
        run["params"]["train.optimizer.learning_rate"] = 0.004
        run["git"]["dirty"] = True

    edit_record(copy, edit)
    _, changes, _, verdict, _ = certified(copy, 1)
    assert changes.endswith("and uncommitted changes, none of them in the code that trains")
    assert re.fullmatch(r"certify: differs: largest difference of a loss [\d.]+; of a weight [\d.]+", verdict)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_certify_leaves_nothing_behind(number: int, copy: Workspace) -> None:
    temporary = copy.folder.parent / "temporary"
    temporary.mkdir()
    process, log = copy.start("keras-pipeline certify", TMPDIR=str(temporary))
    wait_until(lambda: list(temporary.glob("keras-pipeline-certify-*/checkout/data/*")), 120, "fetch has begun")
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert log.read_text().endswith(f"keras-pipeline certify: interrupted, exit {128 + number}\n")
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated")  # MLflow with SQLAlchemy 2.1
def test_a_run_is_found_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_pipeline.tracking import lookup, runs, store

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    where = tracking_fixtures.checkout(tmp_path / "project").where

    def found(wanted: str) -> tuple[dict[str, Any], list[dict[str, float]]]:
        return lookup.load_recorded_run(where, tracking_fixtures.EXPERIMENT, wanted)

    with pytest.raises(ParamsError, match=r"there is no store yet, so no run 'first'\. Expected: `dvc repro`"):
        found("first")
    opened = store.connect_store(where, tracking_fixtures.EXPERIMENT)
    other = store.connect_store(where, "another experiment")
    kept = {}
    for key, name, place in (("ab" * 16, "one", opened), ("abc" + "d" * 29, "two", opened), ("e" * 32, "one", other)):
        run = tracking_fixtures.record(tmp_path / "project/params.yaml", key, name=name)
        identity = runs.ensure_run(place, run, "named")
        runs.log_epochs(place, identity, run["history"])
        if name == "one":
            runs.log_text(place, identity, json.dumps(run), "run.json")
        kept[key] = (identity, run)

    run, logged = found("ababab")
    assert run == kept["ab" * 16][1]
    assert told(differences.compare_history(run, logged, "MLflow")) == []
    assert found("e" * 32)[0]["key"] == "e" * 32
    with pytest.raises(
        ParamsError,
        match=rf"2 runs are called 'one named'\. Name one by its key:\n  ({'e' * 32}|{'ab' * 16})  one named",
    ):
        found("one named")
    for wanted in ("nothing", "ababa", "it's", "ABABAB"):
        with pytest.raises(ParamsError, match=rf"has no run '{wanted}'\. Expected: a run's name, or its key"):
            found(wanted)
    with pytest.raises(
        DataError, match=r"MLflow's run 'two named' has no artifact run\.json: its training did not end"
    ):
        found("two named")
    opened.client.set_tag(kept["ab" * 16][0], "sha256.model", "0" * 64)
    with pytest.raises(DataError, match=r"says sha256\.model 444444444444…, its tag says 000000000000…: one of them"):
        found("ababab")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    where = store.store_location(tmp_path / "project")
    with pytest.raises(MachineError, match=r"MLflow at http://127\.0\.0\.1:9 is not available"):
        found("ababab")
