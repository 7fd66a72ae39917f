"""`keras-pipeline debug`: each mode for real; what it writes, what it leaves alone, and that its verdict is right."""

import contextlib
import csv
import functools
import gzip
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.core import files
from programs import run_scenarios

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = tmp_path_factory.mktemp("debug")
    small.normalized_digits(result)
    return result


results = functools.partial(run_scenarios, "debugging_runs.py")


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


def test_a_divergence_is_explained_here_too(tensorflow: dict[str, Any], folder: Path) -> None:
    found, own = tensorflow["diverging"], folder / "tensorflow diverging"
    assert found["code"] == 5
    assert found["errors"][1].startswith("  cause: the output of activation_1 (Activation, exponential); ")
    assert found["errors"][-2].startswith("  No checkpoint is kept: ")
    told = in_mlflow(own)
    assert told["status"] == "FAILED"
    assert told["diverged"].endswith(found["errors"][1].removeprefix("  cause: "))


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
