"""How deep a traceback of a training is: few functions of ours stand between the stage and what computes."""

import traceback
from pathlib import Path
from typing import Any

import pytest

import small
from keras_pipeline.records.observer import Observer
from keras_pipeline.stages import train

pytestmark = pytest.mark.slow

PACKAGE = Path(train.__file__).parents[1]


class ReachedError(Exception):
    """What computes was called."""


@pytest.mark.parametrize(("fused", "most"), [(False, 5), (True, 5)])
def test_few_frames_stand_between_the_stage_and_what_computes(
    fused: bool, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_pipeline.training.engines import fused_tensorflow, looped

    between: list[str] = []

    def reached(*_: Any, **__: Any) -> None:
        stack = [frame for frame in traceback.extract_stack() if PACKAGE in Path(frame.filename).parents]
        between[:] = [frame.name for frame in stack if Path(frame.filename) != Path(train.__file__)]
        raise ReachedError

    monkeypatch.setattr(looped, "build_loop", lambda *_: reached)
    monkeypatch.setattr(fused_tensorflow, "build_program", lambda *_: (reached, reached))
    small.normalized_digits(tmp_path)
    with pytest.raises(ReachedError):
        train.train_network(
            small.params({"train.fused": fused}),
            tmp_path / "normalized",
            tmp_path / "models",
            Observer(),
            tmp_path / "c",
        )
    assert 0 < len(between) <= most, between
