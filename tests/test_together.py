"""`study run --together`: which runs are one program, and that each is what its training alone would be."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.checks.params import load_params
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.models import frameworks
from keras_pipeline.runs.run import Run
from keras_pipeline.runs.together import group_runs
from keras_pipeline.studies.study import Study
from keras_pipeline.training import prepared
from study_workplace import Workplace

JAX = {"train.backend": "jax"}
DIGITS = {"fetch.dataset": "digits"}


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("normalized"))


def asked(folder: Path, seeds: list[int], grid: Mapping[str, list[Any]], **fixed: Any) -> Study:
    """A study of the shipped params.yaml with JAX; `fixed`: by keys with `__` for the dot."""
    baseline = " ".join(f"{key.rpartition('.')[2]}={values[0]}" for key, values in grid.items())
    changes = {**JAX, **DIGITS, **{key.replace("__", "."): value for key, value in fixed.items()}}
    return Workplace(folder, {}).ask("asked", seeds=seeds, baseline=baseline, grid=grid, fixed=changes)


@pytest.mark.usefixtures("installed")
def test_one_program_has_one_shape(normalized: Path, tmp_path: Path) -> None:
    def sizes(seeds: list[int], grid: Mapping[str, list[Any]]) -> list[int]:
        runs = asked(tmp_path, seeds, grid).runs
        groups = group_runs([(run, normalized) for run in runs])
        assert {run.key for group in groups for run in group} == {run.key for run in runs}
        return [len(group) for group in groups]

    rates = {"model.dropout": [0.0, 0.1, 0.2], "train.optimizer.learning_rate": [0.1, 0.2]}
    assert sizes([1, 2], {**rates, "evaluate.worst_mistakes": [1, 2]}) == [8, 16]  # no Dropout at all, or a rate
    assert sizes([1, 2], {"train.batch_size": [64, 128]}) == [2, 2]
    assert sizes(list(range(100)), {"model.l2": [0.1]}) == [64, 36]


@pytest.mark.usefixtures("installed")
def test_half_of_the_memory_is_for_what_trains_together(
    normalized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = asked(tmp_path, list(range(7)), {"model.l2": [0.1]}).runs
    needed = prepared.least_memory(load_params(tmp_path / "params.yaml"), (28, 28, 1), 256)
    monkeypatch.setattr(frameworks, "memory_limit", lambda: 7 * needed)
    assert [len(group) for group in group_runs([(run, normalized) for run in runs])] == [3, 3, 1]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("fixed", "expected"),
    [
        ({"train__backend": "tensorflow"}, "l2=0.1: train.backend is tensorflow, but only JAX trains runs together."),
        (
            {"train__strategy": "data_parallel", "train__devices": 2, "normalize__training_images": 1000},
            "l2=0.1: train.strategy is data_parallel, but",
        ),
    ],
)
def test_what_cannot_train_together_is_said(
    normalized: Path, tmp_path: Path, fixed: dict[str, Any], expected: str
) -> None:
    runs = asked(tmp_path, [1], {"model.l2": [0.1]}, **fixed).runs
    with pytest.raises(ParamsError) as fault:
        group_runs([(run, normalized) for run in runs])
    assert str(fault.value).startswith(expected)


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


@pytest.mark.slow
@pytest.mark.needs_jax
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


@pytest.mark.slow
@pytest.mark.needs_jax
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


@pytest.mark.slow
@pytest.mark.needs_jax
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
