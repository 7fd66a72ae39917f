"""`keras-pipeline debug`: each mode for real; what it writes, what it leaves alone, and that its verdict is right.

Run as a program with a folder and a backend, this file runs the command in the scenarios and keeps what became of it.
"""

import contextlib
import csv
import gzip
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.cli import main as command_line
from keras_pipeline.core import files
from keras_pipeline.data.splits import Split, read_split
from keras_pipeline.debugging import modes

SGD = {"name": "sgd", "learning_rate": 1000.0}
SCENARIOS: dict[str, dict[str, tuple[list[str], dict[str, Any]]]] = {
    "tensorflow": {
        "one-batch": (["one-batch"], {}),
        # None of these is there while it learns by heart: with them it could not.
        "learned": (
            ["overfit"],
            {"model.dropout": 0.9, "model.l2": 1.0, "train.early_stopping.patience": 1, "train.epochs": 2},
        ),
        "narrow": (
            ["overfit"],
            {"model.hidden_units": [1], "model.batch_normalization": False, "train.batch_size": "full"},
        ),
        "limited": (["limited", "--share", "0.25"], {"train.epochs": 3}),
        "diverging": (
            ["limited"],
            {"model.activation": "exponential", "model.batch_normalization": False, "train.optimizer": SGD},
        ),
        "profile": (["profile"], {}),
    },
    "jax": {"profile": (["profile"], {"train.backend": "jax"})},
    "torch": {"profile": (["profile"], {"train.backend": "torch"})},
}
UNREACHABLE = {"limited": "http://127.0.0.1:9"}
"""Where the store of a scenario does not answer."""


# The program.


def ran(folder: Path, scenario: str, arguments: list[str], changes: dict[str, Any]) -> dict[str, Any]:
    """The command in a folder of its own."""
    own = folder / f"{changes.get('train.backend', 'tensorflow')} {scenario}"
    own.mkdir()
    (own / "dvc.yaml").write_text("stages: {}\n")
    (own / "params.yaml").write_bytes(small.params_text({**small.QUICK, **changes}))
    os.environ |= {"MLFLOW_TRACKING_URI": UNREACHABLE.get(scenario, "")}
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(own), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = command_line.main(["debug", "--normalized", str(folder / "normalized"), *arguments])
    return {"code": code, "out": out.getvalue().splitlines(), "errors": errors.getvalue().splitlines()}


def cuts(normalized: Path) -> dict[str, Any]:
    """Which images each mode looks at, of those in data/normalized, by their places."""
    statistics = files.read_json(normalized / "statistics.json", "normalize")
    splits: list[Split] = []
    for name in ("train", "validation"):
        labels = read_split(normalized, name, statistics).targets
        splits.append(Split(np.arange(len(labels), dtype=np.float32), labels))
    images = {"train": 400, "validation": 100}
    found = {}
    for mode in modes.MODES:
        training, validation = modes._cut(mode, splits, images, seed=1)
        for cut, whole in ((training, splits[0]), (validation, splits[0 if mode == "overfit" else 1])):
            np.testing.assert_array_equal(cut.targets, whole.targets[cut.inputs.astype(int)])
        found[mode] = [training.inputs.tolist(), validation.inputs.tolist()]
    return found


def steps_of_plane(trace: Path) -> list[int]:
    """The numbers of the steps in TensorFlow's trace, which only TensorFlow can read."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (path,) = trace.glob("plugins/profile/*/*.xplane.pb")
    steps = []
    for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
        events = [event for line in plane.lines for event in line.events]
        for event in events:
            if plane.event_metadata[event.metadata_id].name == "train":
                stats = {plane.stat_metadata[one.metadata_id].name: one.int64_value for one in event.stats}
                steps.append(stats["step_num"])
    return sorted(steps)


def main(folder: Path, backend: str) -> None:
    result: dict[str, Any] = {}
    for scenario, values in SCENARIOS[backend].items():
        result[scenario] = ran(folder, scenario, *values)
    if backend == "tensorflow":
        result["steps"] = steps_of_plane(folder / "tensorflow profile" / "debug" / "profile" / "trace")
        result["cuts"] = cuts(folder / "normalized")
    (folder / f"{backend}.json").write_text(json.dumps(result))


# The tests.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = tmp_path_factory.mktemp("debug")
    small.normalized_digits(result)
    return result


def results(folder: Path, backend: str) -> dict[str, Any]:
    """What became of the backend's scenarios, in a process of their own."""
    done = subprocess.run(
        [sys.executable, __file__, folder, backend], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / f"{backend}.json").read_text())
    return found


@pytest.fixture(scope="module")
def tensorflow(folder: Path) -> dict[str, Any]:
    return results(folder, "tensorflow")


def written(own: Path) -> set[str]:
    """The files that are there, but for the store's."""
    paths = {str(path.relative_to(own)) for path in own.rglob("*") if path.is_file()}
    return {path for path in paths if not path.startswith("mlruns/")} - {"dvc.yaml", "params.yaml"}


def record(own: Path, mode: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((own / "debug" / mode / "run.json").read_text())
    assert found["debug"] == mode
    return found


def in_mlflow(own: Path) -> dict[str, str]:
    """Of the store's only run: status, experiment, and the tags of debugging."""
    with contextlib.closing(sqlite3.connect(own / "mlruns" / "mlflow.db")) as store:
        ((status, experiment),) = store.execute(
            "SELECT status, experiments.name FROM runs JOIN experiments USING (experiment_id)"
        )
        tags = dict(store.execute("SELECT key, value FROM tags WHERE key IN ('debug', 'diverged')"))
    return {"status": status, "experiment": experiment, **tags}


@pytest.mark.slow
def test_one_batch_runs_everything_once_and_writes_into_its_folder_only(
    tensorflow: dict[str, Any], folder: Path
) -> None:
    found, own = tensorflow["one-batch"], folder / "tensorflow one-batch"
    assert (found["code"], found["errors"]) == (0, [])
    assert found["out"][-2:] == [
        "debug: everything runs: one batch of 100 was trained on, one of 144 validated, and the network written to "
        "debug/one-batch/.",
        "debug: the batch as the network sees it: debug/one-batch/images.png",
    ]
    assert written(own) == {f"debug/one-batch/{name}" for name in (".lock", "images.png", "run.json", "model.keras")}
    run = record(own, "one-batch")
    assert run["dataset"]["images"] == {"train": 100, "validation": 144, "test": 360}
    assert [row["epoch"] for row in run["history"]] == [1]
    assert run["sha256"]["model"] == files.file_sha256(own / "debug" / "one-batch" / "model.keras")
    assert in_mlflow(own) == {
        "status": "FINISHED", "experiment": "keras-pipeline debug", "debug": "one-batch"
    }  # fmt: skip


@pytest.mark.slow
def test_a_sound_network_learns_by_heart_whatever_holds_it_back(tensorflow: dict[str, Any], folder: Path) -> None:
    found, own = tensorflow["learned"], folder / "tensorflow learned"
    assert (found["code"], found["errors"]) == (0, [])
    steps = re.fullmatch(
        r"debug: learned by heart: all 400 images are answered right after (\d+) steps\.", found["out"][-1]
    )
    assert steps
    history = record(own, "overfit")["history"]
    assert int(steps[1]) == 4 * len(history)
    assert [row["train/accuracy"] == 1.0 for row in history] == [False] * (len(history) - 1) + [True]
    assert written(own) == {"debug/overfit/.lock", "debug/overfit/run.json"}
    assert in_mlflow(own)["status"] == "FINISHED"


@pytest.mark.slow
def test_a_network_that_cannot_learn_by_heart_is_found(tensorflow: dict[str, Any], folder: Path) -> None:
    found, own = tensorflow["narrow"], folder / "tensorflow narrow"
    assert found["code"] == 5
    assert re.match(
        r"debug: not learned: after 1000 steps \d+\.\d% of the 1024 images are answered right at best, "
        r"train/loss \d\.\d+\. Expected: all of them, .* Look at train\.optimizer\.learning_rate \(",
        found["errors"][0],
    )
    assert written(own) == {"debug/overfit/.lock"}
    assert in_mlflow(own)["status"] == "FAILED"


@pytest.mark.slow
def test_limited_trains_as_the_params_say_on_few_images_also_without_a_store(
    tensorflow: dict[str, Any], folder: Path
) -> None:
    found, own = tensorflow["limited"], folder / "tensorflow limited"
    assert found["code"] == 0
    assert [line.split(" ")[0] for line in found["errors"]] == ["tracking:"]
    run = record(own, "limited")
    assert run["dataset"]["images"] == {"train": 323, "validation": 144, "test": 360}
    assert [row["epoch"] for row in run["history"]] == [1, 2, 3]
    assert found["out"][-1].startswith("debug: 3 epochs of 323 images in ")
    assert written(own) == {f"debug/limited/{name}" for name in (".lock", "run.json", "model.keras")}


@pytest.mark.slow
def test_a_divergence_is_explained_here_too(tensorflow: dict[str, Any], folder: Path) -> None:
    found, own = tensorflow["diverging"], folder / "tensorflow diverging"
    assert found["code"] == 5
    assert found["errors"][1].startswith("  cause: the output of activation_1 (Activation, exponential); ")
    assert found["errors"][-2].startswith("  No checkpoint is kept: ")
    told = in_mlflow(own)
    assert told["status"] == "FAILED"
    assert told["diverged"].endswith(found["errors"][1].removeprefix("  cause: "))


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend",
    [
        "tensorflow",
        pytest.param("jax", marks=pytest.mark.needs_jax),
        pytest.param("torch", marks=pytest.mark.needs_torch),
    ],
)
def test_profile_tells_what_takes_the_time_and_traces_twenty_steps(
    folder: Path, backend: str, request: pytest.FixtureRequest
) -> None:
    every = request.getfixturevalue("tensorflow") if backend == "tensorflow" else results(folder, backend)
    found, own = every["profile"], folder / f"{backend} profile"
    assert (found["code"], found["errors"]) == (0, [])
    with (own / "debug" / "profile" / "times.csv").open(newline="") as file:
        rows = {row["part"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["batch", "wait", "step", "callbacks"]
    for row in rows.values():
        assert 0 <= float(row["median_ms"]) <= float(row["p95_ms"]) < 60_000
    assert float(rows["step"]["median_ms"]) > 0.1
    assert float(rows["batch"]["median_ms"]) > 0
    steps = every["steps"] if backend == "tensorflow" else steps_traced(own / "debug" / "profile" / "trace", backend)
    assert steps == list(range(61, 81))
    traced = [path for path in written(own) if path.startswith("debug/profile/trace/")]
    assert written(own) == {f"debug/profile/{name}" for name in (".lock", "run.json", "times.csv")} | set(traced)
    (artifacts,) = (own / "mlruns" / "artifacts").glob("*/artifacts/trace")
    for path in traced:
        assert (own / path).stat().st_size > 1000
        assert files.file_sha256(own / path) == files.file_sha256(
            artifacts / Path(path).relative_to("debug/profile/trace")
        )
    assert in_mlflow(own)["status"] == "FINISHED"
    assert "pip install tensorboard" in found["out"][-1]


def steps_traced(trace: Path, backend: str) -> list[int]:
    """The numbers of the steps that a trace tells apart."""
    if backend == "jax":
        (path,) = trace.glob("plugins/profile/*/*.trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        return sorted(int(one["args"]["step_num"]) for one in events if one.get("name") == "train")
    (path,) = trace.glob("*.pt.trace.json")
    events = json.loads(path.read_text())["traceEvents"]
    names = [one["name"] for one in events if one.get("cat") == "user_annotation"]
    return sorted(int(name.removeprefix("ProfilerStep#")) for name in names if name.startswith("ProfilerStep#"))


@pytest.mark.slow
def test_the_images_of_each_mode(tensorflow: dict[str, Any], folder: Path) -> None:
    cuts = tensorflow["cuts"]
    order = np.random.default_rng([1, 1, 0]).permutation(1293)
    first = list(range(100))
    assert cuts["one-batch"] == [order[:400].tolist(), first]
    assert cuts["overfit"] == [order[:400].tolist()] * 2
    assert cuts["profile"] == [list(range(1293)), first]
    limited, validation = cuts["limited"]
    assert validation == first
    assert len(set(limited)) == len(limited) == 400
    labels = np.load(folder / "normalized" / "train_labels.npy")
    share = np.bincount(labels[np.array(limited, int)]) / np.bincount(labels)
    np.testing.assert_allclose(share, 400 / 1293, atol=1 / np.bincount(labels).min())


def test_overfit_leaves_out_what_holds_a_network_back() -> None:
    layers = [
        {"layer": "Flatten"},
        {"layer": "Dense", "units": 8, "l2": 0.5},
        {"layer": "Dropout", "rate": 0.5},
        {"layer": "BatchNormalization"},
    ]
    chosen = small.params({"model.layers": layers, "train.batch_size": 50, "train.epochs": 7})
    bare = modes._without_regularization(chosen, {"train": 200})
    assert [one.model_dump()["layer"] for one in bare.model.layers] == ["Flatten", "Dense", "BatchNormalization"]
    assert "l2" not in bare.model.layers[1].model_dump(exclude_defaults=True)
    assert (bare.model.dropout, bare.model.l2) == (0.0, 0.0)
    assert (bare.train.schedule.name, bare.train.early_stopping.patience) == ("constant", 0)
    assert bare.train.epochs == 250
    assert bare.train.optimizer == chosen.train.optimizer


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (
            ["one-batch"],
            {"train.strategy": "multi_worker", "train.workers": 2, "normalize.training_images": 1000},
            "params.yaml: train.workers: 2, but debug trains in one process. Set train.workers: 1 while you debug; "
            "batch_size is that of all workers, so the training stays the same.",
        ),
        (
            ["limited", "--share", "0.05"],
            {},
            "--share 0.05: 65 of 1293 training images do not make a batch of 100. Expected: a share of at least 0.078, "
            "or a smaller train.batch_size.",
        ),
        (
            ["limited"],
            {"normalize.scaling": "standard"},
            "normalized: made with normalize.scaling: unit, the params say standard. Run `dvc repro normalize`.",
        ),
        (
            ["limited"],
            {"fetch.dataset": "mnist"},
            "normalized: made with fetch.dataset: digits, the params say mnist. Run `dvc repro normalize`.",
        ),
    ],
)
def test_what_debug_cannot_do_is_refused_at_once(
    arguments: list[str],
    changes: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    images = {"train": 1293, "validation": 144, "test": 360}
    statistics = {"dataset": "digits", "class_names": [], "scaling": {}, "images": images, "sha256": {}}
    statistics |= {"task": "classes", "shape": [28, 28, 1], "target": None}
    made = {"normalize": small.params().normalize.model_dump()}
    files.write_json(tmp_path / "normalized" / "statistics.json", statistics | made)
    (tmp_path / "params.yaml").write_bytes(small.params_text({**small.QUICK, **changes}))
    assert command_line.main(["debug", "--normalized", "normalized", *arguments]) == (
        3 if "made with" in message else 2
    )
    assert capsys.readouterr().err.splitlines()[0] == message
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "normalized"}


@pytest.mark.parametrize("share", ["0", "1.5", "nan", "half"])
def test_a_share_that_is_none_is_refused(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["debug", "limited", "--share", share])
    assert f"'{share}' is no share. Expected: a number above 0, 1 at most" in capsys.readouterr().err


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
