"""`study run --together`: which runs are one program."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from keras_pipeline.checks.params import load_params
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.models import frameworks
from keras_pipeline.runs.together import group_runs
from keras_pipeline.studies.study import Study
from keras_pipeline.training import recorded_training
from study_workplace import JAX, Workplace

DIGITS = {"fetch.dataset": "digits"}


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
    runs = asked(tmp_path, list(range(7)), {"model.l2": [0.1]}, train__batch_size=256).runs
    needed = recorded_training.least_memory(load_params(tmp_path / "params.yaml"), (28, 28, 1), 256)
    monkeypatch.setattr(frameworks, "memory_limit", lambda: 7 * needed)
    monkeypatch.setitem(frameworks.LEAST_MEMORY, "jax", 0)
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
