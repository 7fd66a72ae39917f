"""How a record differs from the files, the machine, the data and the code that are here."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_raw
from keras_pipeline.audit import differences
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.records import provenance, record
from keras_pipeline.records.provenance import TRAINING
from recorded_run import WHOLE, Edit, told

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
        (lambda run: run["machine"].pop("threads"), "machine"),
        (lambda run: run["sha256"].pop("model"), "sha256"),
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
    tiny_raw.write_raw(Path("data/raw"), name="digits")
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
        ("data/raw/train_labels.npy", "data: data/raw/train_labels.npy is not the file that was recorded for it"),
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
    files.write_json(tmp_path / "statistics.json", WHOLE)
    run["sha256"]["data"] = files.file_sha256(tmp_path / "statistics.json")
    assert told(differences.compare_data(run, tmp_path)) == []
    edit(run)
    [(found, line)] = told(differences.compare_data(run, tmp_path))
    assert found == kind
    assert text in line


# The commit, in a small repository.


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
        with pytest.raises(DataError, match=rf"run\.json: a record of format {number!r}, which a newer version wrote"):
            record.read_record(path)


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
