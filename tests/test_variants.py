"""`keras-pipeline variants`: which variants there are, and that each is what its training alone would be."""

import csv
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline import memory, params, preparation
from keras_pipeline.errors import ParamsError
from keras_pipeline.stages import variants

JAX = {"train.backend": "jax"}


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(small.SHIPPED.read_text().replace("backend: tensorflow", "backend: jax"))
    return path


def test_each_combination_is_params_yaml_with_those_values(params_file: Path, tmp_path: Path) -> None:
    found = variants.prepare(params_file, ["seed=3..4", "model.dropout=0.1,0.5", "train.epochs=2"], tmp_path / "own")
    assert list(found) == [
        "seed=3 model.dropout=0.1", "seed=3 model.dropout=0.5", "seed=4 model.dropout=0.1", "seed=4 model.dropout=0.5",
    ]  # fmt: skip
    own = found["seed=4 model.dropout=0.1"]
    assert own == tmp_path / "own" / "seed=4,model.dropout=0.1"
    made, asked = params.load(own / "params.yaml"), params.load(params_file)
    assert (made.seed, made.model.dropout, made.train.epochs) == (4, 0.1, 2)
    assert made == asked.model_copy(
        update={
            "seed": 4,
            "model": asked.model.model_copy(update={"dropout": 0.1}),
            "train": asked.train.model_copy(update={"epochs": 2}),
        }
    )
    assert "# true: many steps as one" in (own / "params.yaml").read_text()  # comments stay


def test_values_may_be_lists(params_file: Path, tmp_path: Path) -> None:
    found = variants.prepare(params_file, ["model.hidden_units=[64],[32,16]"], tmp_path / "own")
    assert [own.name for own in found.values()] == ["model.hidden_units=-64", "model.hidden_units=-32,16"]
    assert params.load(found["model.hidden_units=[32,16]"] / "params.yaml").model.hidden_units == (32, 16)


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("normalized"))


def test_one_program_has_one_shape(params_file: Path, normalized: Path, tmp_path: Path) -> None:
    def sizes(*assignments: str) -> list[int]:
        found = variants.prepare(params_file, assignments, tmp_path / "own")
        groups = variants.grouped(found, normalized)
        assert [own for group in groups for own in group] == list(found.values())
        return [len(group) for group in groups]

    rates = ["model.dropout=0,0.1,0.2", "train.optimizer.learning_rate=0.1,0.2", "seed=1,2"]
    assert sizes(*rates, "evaluate.worst_mistakes=1,2") == [8, 16]  # no Dropout at all, or a rate
    assert sizes("train.batch_size=64,128", "seed=1,2") == [2, 2]
    assert sizes("seed=1..100") == [64, 36]


def test_half_of_the_memory_is_for_variants(
    params_file: Path, normalized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = variants.prepare(params_file, ["seed=1..7"], tmp_path / "own")
    needed = preparation.least_memory(params.load(params_file), 256)
    monkeypatch.setattr(memory, "limit", lambda: 7 * needed)
    assert [len(group) for group in variants.grouped(found, normalized)] == [3, 3, 1]


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        ([], "nothing varies. Expected: KEY=VALUE,VALUE,… or KEY=FIRST..LAST, a key once."),
        (["seed=1", "seed=2"], "a key stands twice."),
        (["model.dropout=0.1,2"], "model.dropout: 2 is out of range"),
        (["seed"], "'seed' varies nothing. Expected: KEY=VALUE,VALUE,… or KEY=FIRST..LAST."),
        (["seed="], "'seed=' varies nothing."),
        (["seed=4..3"], "'seed=4..3' varies nothing."),
        (["seed=1,1"], "'seed=1,1' names a value twice."),
        (["seed=1..1001"], "1001 combinations. Expected: 1000 at most."),
        (["modle.dropout=0.1"], "modle.dropout: params.yaml has no block 'modle'."),
        (["model.droput=0.1"], "model.droput"),
        (["model.dropout=2"], "model.dropout"),
        (["normalize.scaling=unit,none"], "normalize.scaling cannot vary here"),
        (["train.backend=tensorflow"], "only JAX trains variants together. Add train.backend=jax."),
        (["train.strategy=data_parallel", "train.devices=2"], "variants train together on one device."),
    ],
)
def test_what_cannot_be_is_said(params_file: Path, tmp_path: Path, assignments: list[str], expected: str) -> None:
    with pytest.raises(ParamsError) as fault:
        variants.prepare(params_file, assignments, tmp_path / "own")
    assert expected in str(fault.value)
    assert not (tmp_path / "own").exists()


# The trainings.

CHANGES = {
    **small.QUICK, **JAX,
    "model.activation": "tanh",
    "model.dropout": 0.2,
    "model.l2": 1e-3,
    "train.epochs": 4,
    "train.optimizer": {"name": "adam", "learning_rate": 0.01},
    "train.early_stopping": {"monitor": "val/accuracy", "patience": 2},
    "train.augmentation": {"shift": 1.0, "rotation": 5.0, "scale": 0.0, "elastic": 0.5, "smoothness": 4.0},
}  # fmt: skip
TOGETHER = ["seed=1,2", "model.dropout=0.2,0.5", "train.optimizer.learning_rate=0.01,0.002"]
ALONE = {
    "seed=1 model.dropout=0.2 train.optimizer.learning_rate=0.01": {},
    "seed=2 model.dropout=0.5 train.optimizer.learning_rate=0.002": {
        "seed": 2,
        "model.dropout": 0.5,
        "train.optimizer": {"name": "adam", "learning_rate": 0.002},
    },
}


class Workplace:
    """A folder with the digits, in which commands run as a user runs them."""

    def __init__(self, folder: Path, changes: dict[str, Any]) -> None:
        self.folder = folder
        small.normalized_digits(folder / "data")
        (folder / "dvc.yaml").write_text("stages: {}\n")
        (folder / "params.yaml").write_bytes(small.params_text(changes))

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        command = [sys.executable, "-m", "keras_pipeline.commands", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    def history(self, models: str) -> list[list[float]]:
        rows = list(csv.reader((self.folder / models / "history.csv").read_text().splitlines()))
        return [[float(value) for value in row] for row in rows[1:]]

    def runs(self) -> dict[str, tuple[str, float | None]]:
        """Of every variant in MLflow: its status, and its test accuracy."""
        with closing(sqlite3.connect(self.folder / "mlruns" / "mlflow.db")) as store:
            scores = dict(store.execute("SELECT run_uuid, value FROM latest_metrics WHERE key = 'test/accuracy'"))
            found = store.execute("SELECT run_uuid, name, status FROM runs").fetchall()
        named = [(run, name.rsplit(" ", 2)[0], status) for run, name, status in found]
        return {name: (status, scores.get(run)) for run, name, status in named if name != "digits mlp"}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = Workplace(tmp_path_factory.mktemp("variants"), CHANGES)
    done = place.run("variants", *TOGETHER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "variants: 8 train together\n" in done.stdout
    return place


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_a_variant_is_what_its_training_alone_is(together: Workplace, name: str) -> None:
    """A wrong first weight, batch, mask, deformation or learning rate would show in the first row."""
    (together.folder / "alone.yaml").write_bytes(small.params_text({**CHANGES, **ALONE[name]}))
    done = together.run("train", "--params", "alone.yaml", "--models", "alone", "--no-resume")
    assert done.returncode == 0, done.stderr
    own = f"variants/{name.replace(' ', ',')}/models"
    ours, theirs = np.array(together.history(own)), np.array(together.history("alone"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    found, alone = (json.loads((together.folder / place / "run.json").read_text()) for place in (own, "alone"))
    assert found["best_epoch"] == alone["best_epoch"]
    assert found["params"] == alone["params"]
    assert found["together"] == 8


@pytest.mark.slow
def test_each_variant_is_evaluated_and_a_run_of_its_own(together: Workplace) -> None:
    runs = together.runs()
    assert len(runs) == 8
    for own in sorted((together.folder / "variants").iterdir()):
        scores = json.loads((own / "reports" / "metrics.json").read_text())
        assert runs[f"digits mlp {own.name.replace(',', ' ')}"] == ("FINISHED", scores["test/accuracy"])
        assert (own / "models" / "model.keras").is_file()
    assert len({accuracy for _, accuracy in runs.values()}) > 1
    assert not (together.folder / "models").exists()
    assert not (together.folder / "reports").exists()


@pytest.mark.slow
def test_a_variant_that_diverges_leaves_the_others_alone(together: Workplace, tmp_path: Path) -> None:
    changes = {
        **CHANGES,
        "model.activation": "exponential",
        "model.batch_normalization": False,
        "train.optimizer": {"name": "sgd", "learning_rate": 0.01},
        "train.schedule": {"name": "reduce_on_plateau", "warmup_epochs": 0, "decay_rate": 0.9, "factor": 0.5,
                           "patience": 1},
        "train.early_stopping": {"monitor": "val/loss", "patience": 0},
    }  # fmt: skip
    place = Workplace(tmp_path, changes)
    done = place.run("variants", "train.optimizer.learning_rate=0.01,0.00000001,1000")
    assert done.returncode == 0, done.stderr
    good, slow, bad = (f"train.optimizer.learning_rate={rate}" for rate in ("0.01", "1e-08", "1000"))
    assert re.search(rf"^{re.escape(bad)} +training diverged: train/loss is nan at step", done.stdout, re.MULTILINE)
    runs = place.runs()
    assert runs[f"digits mlp {bad}"] == ("FAILED", None)
    assert runs[f"digits mlp {good}"][0] == "FINISHED"
    assert not (tmp_path / "variants" / bad / "models" / "model.keras").exists()
    assert place.run("train", "--models", "alone").returncode == 0
    ours, theirs = place.history(f"variants/{good}/models"), place.history("alone")
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    # Each variant's own epochs decide when its learning rate is lowered: this one stands still.
    rates = [row[-1] for row in place.history(f"variants/{slow}/models")]
    np.testing.assert_allclose(rates, [1e-8, 1e-8, 0.5e-8, 0.25e-8], rtol=1e-5)
