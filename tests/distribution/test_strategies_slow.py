"""Strategies: that what trains is what was asked for."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.data.splits import read_split
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.models import architectures
from places import PROGRAM, SUPPORT
from small import IMAGE_SHAPE

pytestmark = pytest.mark.slow

NOISE = """
import numpy as np, os, small
from keras_pipeline.distribution import strategies; from keras_pipeline.distribution import strategies
chosen = small.params({"normalize.training_images": 100, "train.strategy": "mirrored", "train.devices": 2,
    "model.layers": [{"layer": "Flatten"}, {"layer": "Dropout", "rate": 0.5}], "model.architecture": "layers"})
plan = strategies.plan_training(chosen.train, {"train": 100, "validation": 10}, os.environ)
opened = strategies.open_strategy(plan)
place = opened.__enter__()
import tensorflow as tf
from keras_pipeline.training import compilation
model = compilation.new_network(chosen.model, chosen.train, chosen.seed, place, 1, small.TEN_CLASSES)
drop = model.layers[1]
strategy = tf.distribute.MirroredStrategy(place.devices)
with strategy.scope():
    pass
def masks():
    made = model.distribute_strategy.run(lambda: drop(tf.ones([1, 400]), training=True))
    return [one.numpy() != 0 for one in model.distribute_strategy.experimental_local_results(made)]
alike = masks()
place.spread_noise(model)
own = masks()
again = masks()
print(bool((alike[0] == alike[1]).all()), bool((own[0] == own[1]).all()), bool((own[0] == again[0]).all()))
print(abs((own[0] == own[1]).mean() - 0.5) < 0.15)
"""


def test_each_replica_has_masks_of_its_own() -> None:
    """Keras starts all replicas' generators alike (the first line says so); `spread_noise` parts them."""
    done = subprocess.run(
        [sys.executable, "-c", NOISE],
        cwd=SUPPORT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout.split() == ["True", "False", "False", "True"], done.stderr[-2000:]


def train(folder: Path, changes: dict[str, object], environ: dict[str, str] | None = None) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_bytes(
        small.params_text({**small.QUICK, "normalize.validation_share": 0.2, **changes})
    )
    return subprocess.run(
        [PROGRAM, "train", "--normalized", "../normalized"],
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = tmp_path_factory.mktemp("strategies")
    small.normalized_digits(result, validation_share=0.2)  # 1,150 training images
    return result


def test_a_gpu_that_is_not_there_is_refused_or_replaced_as_the_params_say(folder: Path) -> None:
    asked = {"train.strategy": "mirrored", "train.devices": 2, "train.device_type": "gpu"}
    refused = train(folder / "refused", asked)
    assert refused.returncode == 6
    assert refused.stderr.startswith(
        "params.yaml: train.device_type: gpu asked for, but this machine has no GPU, only a CPU. "
        "Use device_type: auto or cpu, or missing_devices: single; for a GPU see `keras-pipeline doctor`.\n"
    )
    assert not (folder / "refused" / "models" / "model.keras").exists()

    single = train(folder / "single", {**asked, "train.missing_devices": "single"})
    assert single.returncode == 0, single.stderr
    line = "mirrored on 2 GPU(s) was asked for and is not there; one device trains instead, as params.yaml allows"
    assert f"train: {line}" in single.stdout
    record = json.loads((folder / "single/models/run.json").read_text())["strategy"]
    assert (record["name"], record["asked"]) == ("none", "mirrored on 2 GPU(s)")
    assert (record["devices"], record["batch_per_replica"], record["fused"]) == (["/cpu:0"], 100, True)
    assert "train: many steps run as one compiled program (train.fused)" in single.stdout


def test_what_trains_is_said_before_it_does(folder: Path) -> None:
    changes = {"train.strategy": "mirrored", "train.devices": 2, "train.precision": "mixed_float16", "train.epochs": 3}
    subprocess.run(["git", "init", "--quiet", folder / "said"], check=True)
    another_user_s = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    done = train(folder / "said", {**changes, "train.batch_size": 16}, another_user_s)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"train: mlp, [\d,]+ weights, at least \d+ MB a replica; 1,150 training and .*", lines[0])
    assert lines[1] == (
        "train: tensorflow, strategy mirrored on /cpu:0, /cpu:1; batches of 16, 8 on each of 2 replicas"
    )
    assert lines[2] == "train: BatchNormalization's statistics: synchronized"
    assert lines[3] == "train: mixed_float16 is slower than float32 on a CPU, and less exact"
    git = json.loads((folder / "said/models/run.json").read_text())["git"]
    assert git["reason"].startswith("unknown: fatal: detected dubious ownership in repository at '")
    assert git["reason"].endswith(f"(its remedy: git config --global --add safe.directory {folder / 'said'})")
    assert (git["commit"], git["dirty"]) == (None, None)
    said = f"no commit is recorded, so `keras-pipeline certify` cannot repeat this run: {git['reason']}"
    assert lines[4] == f"train: {said}"
    assert done.stdout.count("no commit is recorded") == 1
    assert re.fullmatch(r"train: about [\d.]+ s an epoch, \d+ (s|minutes) for 3 epochs", lines[5])
    assert re.match(r"Epoch 1/3: train/loss [\d.]+  train/accuracy ", lines[6])
    assert "Traceback" not in done.stderr


def test_the_network_written_is_the_one_validated_also_with_statistics_per_replica(folder: Path) -> None:
    changes = {
        "normalize.validation_share": 0.2,
        "train.strategy": "mirrored",
        "train.devices": 2,
        "train.batch_statistics": "per_replica",
        "train.batch_size": 32,
    }
    done = train(folder / "per_replica", changes)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    import keras

    from keras_pipeline.models import model_file

    network = architectures.build_network(small.params(changes).model, IMAGE_SHAPE, 10)
    model_file.load_weights(network, folder / "per_replica/models/model.keras")
    statistics = read_statistics(folder / "normalized")
    validation_batches = read_split(folder / "normalized", "validation", statistics)
    probabilities = network.predict(validation_batches.scaled(), verbose=0)
    penalty = float(keras.ops.sum(network.losses))
    loss = -np.mean(np.log(probabilities[np.arange(len(probabilities)), validation_batches.targets])) + penalty
    last = json.loads((folder / "per_replica/models/run.json").read_text())["history"][-1]
    assert loss == pytest.approx(last["val/loss"], rel=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == validation_batches.targets) == pytest.approx(last["val/accuracy"])
