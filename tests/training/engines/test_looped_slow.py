"""Many steps in one call against Keras' own fit: the same bytes."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.core import json_files
from keras_pipeline.data.splits import Split, read_split

pytestmark = pytest.mark.slow

DEFORMED = {"shift": 1.0, "rotation": 9.0, "scale": 0.1, "elastic": 1.0, "smoothness": 4.0, "horizontal_flip": True}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> list[Split]:
    folder = small.normalized_digits(tmp_path_factory.mktemp("looped"))
    statistics = json_files.parse_json((folder / "statistics.json").read_bytes())
    return [read_split(folder, name, statistics) for name in ("train", "validation")]


def trained(changes: dict[str, Any], splits: list[Split], *, looped: bool) -> tuple[dict[str, Any], str, list[Any]]:
    """The state at the end, the epochs' rows, and what was kept on the way."""
    from keras_pipeline.training import fit, state

    training = small.training(small.params(changes), splits, fused=False)
    assert training.strategy.looped
    training = training.changed(dataclasses.replace(training.strategy, looped=looped))
    progress, keeper = fit.Progress(), small.Keeper()
    fit.fit_network(training, progress, observers=[keeper], quiet=True)
    rows = json.dumps([{**row, "time": 0} for row in progress.history])
    return state.state_of(training.model, training.strategy), rows, keeper.kept


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"train.checkpoint_steps": 5, "train.class_weights": "balanced", "train.augmentation": DEFORMED},
            id="a checkpoint every 5 steps, augmentation",
        ),
        pytest.param(
            {
                "model.architecture": "cnn",
                "model.filters": [4, 4],
                "train.precision": "mixed_float16",
                "train.optimizer": {"name": "adamw", "learning_rate": 0.1, "use_ema": True, "clipnorm": 1.0},
            },
            id="convolutions, a loss scale, averages of weights",
        ),
    ],
)
def test_the_bytes_are_those_of_keras_own_fit(changes: dict[str, Any], splits: list[Split]) -> None:
    (ours, rows, kept), (theirs, their_rows, also_kept) = (
        trained(changes, splits, looped=way) for way in (True, False)
    )
    assert rows == their_rows
    assert len(kept) == len(also_kept)
    for (state, at), (other, there) in zip([*kept, (ours, {})], [*also_kept, (theirs, {})], strict=True):
        assert (at.get("epoch"), at.get("step")) == (there.get("epoch"), there.get("step"))
        assert set(state) == set(other)
        for name, array in state.items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_the_batches_of_a_call_are_held_to_a_size(splits: list[Split], monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that do not fit are trained on without much of them in memory."""
    from keras_pipeline.training.batches import Data
    from keras_pipeline.training.engines import looped

    sizes: list[int] = []
    cut = Data.cut

    def seen(self: Data, *arguments: Any) -> Any:
        batches = cut(self, *arguments)
        sizes.append(len(batches[0]))
        return batches

    monkeypatch.setattr(Data, "cut", seen)
    whole = trained({"train.batch_size": 16}, splits, looped=True)
    assert max(sizes) > 3
    sizes.clear()
    monkeypatch.setattr(looped, "MOST_BYTES", 3 * splits[0].part(slice(16)).scaled_bytes)
    held = trained({"train.batch_size": 16}, splits, looped=True)
    assert max(sizes) == 3
    assert held[1] == whole[1]
