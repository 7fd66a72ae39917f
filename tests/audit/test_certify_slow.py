"""`keras-pipeline certify` on real runs, honest ones and altered ones."""

import io
import json
import re
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest

import tracking_fixtures
from keras_pipeline.audit import differences
from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError, MachineError, ParamsError
from keras_pipeline.records import provenance
from real_workspace import Workspace, origin, wait_until
from recorded_run import Edit, told

pytestmark = pytest.mark.slow

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


def test_uncommitted_code_altered_data_and_a_setting_at_training_time_are_found(copy: Workspace) -> None:
    code = copy.folder / "src/keras_pipeline/models/architectures.py"
    code.write_text(code.read_text() + "\nCHANGED = True\n")
    labels, manifest = copy.folder / "data/raw/train_labels.npy", copy.json("data/raw/dataset.json")
    content = bytearray(labels.read_bytes())
    content[-8] = (content[-8] + 1) % 10  # the last label, of 8 bytes
    labels.write_bytes(content)
    manifest["files"]["train_labels.npy"]["sha256"] = files.file_sha256(labels)
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


def test_another_learning_rate_that_no_commit_could_show_is_found_by_training(copy: Workspace) -> None:
    def edit(run: dict[str, Any]) -> None:
        run["params"]["train.optimizer.learning_rate"] = 0.004
        run["git"]["dirty"] = True

    edit_record(copy, edit)
    _, changes, _, verdict, _ = certified(copy, 1)
    assert changes.endswith("and uncommitted changes, none of them in the code that trains")
    assert re.fullmatch(r"certify: differs: largest difference of a loss [\d.]+; of a weight [\d.]+", verdict)


@pytest.mark.own_processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_certify_leaves_nothing_behind(number: int, copy: Workspace) -> None:
    temporary = copy.folder.parent / "temporary"
    temporary.mkdir()
    process, log = copy.start("keras-pipeline certify", TMPDIR=str(temporary))
    wait_until(lambda: list(temporary.glob("*/keras-pipeline-certify-*/checkout/data/*")), 120, "fetch has begun")
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert log.read_text().endswith(f"keras-pipeline certify: interrupted, exit {128 + number}\n")
    assert list(temporary.iterdir()) == []


@pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated")  # MLflow with SQLAlchemy 2.1
def test_a_run_is_found_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_pipeline.tracking import lookup, runs, store
    from keras_pipeline.tracking.stores import address

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
    where = address.store_location(tmp_path / "project")
    with pytest.raises(MachineError, match=r"MLflow at http://127\.0\.0\.1:9 is not available"):
        found("ababab")
