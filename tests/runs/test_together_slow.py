"""`study run --together`: each run is what its training alone would be."""

import json
from pathlib import Path

import numpy as np
import pytest

import small
from keras_pipeline.runs.run import Run
from study_workplace import JAX, Workplace

pytestmark = [pytest.mark.slow, pytest.mark.needs_jax]

CHANGES = {
    **small.QUICK, **JAX,
    "model.activation": "tanh",
    "model.dropout": 0.2,
    "model.l2": 1e-3,
    "train.epochs": 4,
    "train.optimizer": {"name": "adam", "learning_rate": 0.01},
    "train.early_stopping": {"monitor": "val/accuracy", "patience": 2},
    "train.augmentation": {"shift": 1.0, "rotation": 5.0, "scale": 0.0, "elastic": 0.5, "smoothness": 4.0,
                           "horizontal_flip": True},
}  # fmt: skip
GRID = {"model.dropout": [0.2, 0.5], "train.optimizer.learning_rate": [0.01, 0.002]}
ALONE = {
    "dropout=0.2 learning_rate=0.01 seed 1": {},
    "dropout=0.5 learning_rate=0.002 seed 2": {
        "seed": 2,
        "model.dropout": 0.5,
        "train.optimizer": {"name": "adam", "learning_rate": 0.002},
    },
}


def trained_alone(place: Workplace, params: str) -> Path:
    """models/ of a training of this params file on the study's data."""
    (normalized,) = (place.folder / "studies" / "data" / "digits").glob("*/statistics.json")
    paths = ["--params", params, "--normalized", str(normalized.parent), "--models", "alone", "--no-resume"]
    code, printed = place.run("train", *paths)
    assert code == 0, printed
    return place.folder / "alone"


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, dict[str, Run]]:
    place = Workplace(tmp_path_factory.mktemp("together"), CHANGES)
    study = place.ask("asked", seeds=[1, 2], baseline="dropout=0.2 learning_rate=0.01", grid=GRID)
    code, printed = place.run("study", "run", "asked", "--together")
    assert code == 0, printed
    assert "study asked: 8 of 8: dropout=0.2 learning_rate=0.01 seed 1 and 7 more: test/accuracy" in printed
    return place, {run.name: run for run in study.runs}


@pytest.mark.parametrize("name", ALONE)
def test_a_run_is_what_its_training_alone_is(together: tuple[Workplace, dict[str, Run]], name: str) -> None:
    """A wrong first weight, batch, mask, deformation or learning rate would show in the first row."""
    place, runs = together
    (place.folder / "alone.yaml").write_bytes(small.params_text({**CHANGES, **ALONE[name]}))
    alone, own = trained_alone(place, "alone.yaml"), place.own(runs[name]) / "models"
    np.testing.assert_allclose(place.history(own), place.history(alone), rtol=1e-4, atol=1e-6)
    found, expected = (json.loads((models / "run.json").read_text()) for models in (own, alone))
    assert found["best_epoch"] == expected["best_epoch"]
    assert found["params"] == expected["params"]
    assert found["sha256"]["params"] == expected["sha256"]["params"]
    assert found["together"] == 8
    assert found["strategy"]["fused"]
    assert sum(found["seconds"].values()) < 300  # each second is counted once, not once a run


def test_each_is_evaluated_and_a_run_of_its_own(together: tuple[Workplace, dict[str, Run]]) -> None:
    place, runs = together
    tracked = place.tracked("asked")
    assert set(tracked) == {*runs, "study asked"}
    for name, one in runs.items():
        scores = json.loads((place.own(one) / "reports" / "metrics.json").read_text())
        assert tracked[name][:3] == ("FINISHED", scores["test/accuracy"], "study asked")
        assert (place.own(one) / "models" / "model.keras").is_file()
    assert len({one.accuracy for one in tracked.values()}) > 2
    assert not (place.folder / "models").exists()
    assert not (place.folder / "reports").exists()


def test_a_run_that_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
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
    grid = {"train.optimizer.learning_rate": [0.01, 1e-8, 1000.0]}
    good, slow, bad = place.ask("asked", seeds=[1], baseline="learning_rate=0.01", grid=grid).runs
    code, printed = place.run("study", "run", "asked", "--together")
    assert code == 0, printed
    assert "study asked: learning_rate=1000.0: diverged with 1 of 1 seeds\n" in printed
    tracked = place.tracked("asked")
    assert tracked[bad.name].status == "FAILED"
    assert tracked[bad.name].tags["diverged"].startswith("training diverged: train/loss is nan at step")
    assert tracked[good.name].status == "FINISHED"
    assert not (place.own(bad) / "models" / "model.keras").exists()
    alone = trained_alone(place, "params.yaml")
    ours = place.history(place.own(good) / "models")
    np.testing.assert_allclose(ours, place.history(alone), rtol=1e-4, atol=1e-6)
    # Each run's own epochs decide when its learning rate is lowered: this one stands still.
    rates = [row[-1] for row in place.history(place.own(slow) / "models")]
    np.testing.assert_allclose(rates, [1e-8, 1e-8, 0.5e-8, 0.25e-8], rtol=1e-5)
