"""Fused steps against the fit step by step: the same batches, masks, metrics and positions, and the same end."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.core import json_files
from keras_pipeline.data.splits import Split, read_split
from keras_pipeline.models import architectures
from small import IMAGE_SHAPE

pytestmark = pytest.mark.slow

ROW = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/learning_rate")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    folder = small.normalized_digits(tmp_path_factory.mktemp("fused"))
    statistics = json_files.parse_json((folder / "statistics.json").read_bytes())
    return {name: read_split(folder, name, statistics) for name in ("train", "validation")}


class Trained:
    """A network trained in this process, with its history and all that was kept on the way."""

    def __init__(self, changes: dict[str, Any], splits: dict[str, Split], *, fused: bool, **options: Any) -> None:
        from keras_pipeline.training import fit, state

        chosen = small.params({"train.epochs": 3, **changes})
        training = small.training(chosen, list(splits.values()), fused=fused)
        self.model, self.data, self.progress = training.model, training.data, fit.Progress()
        keeper = small.Keeper()
        fit.fit_network(training, self.progress, observers=[keeper], quiet=True, **options)
        self.kept = keeper.kept
        self.state = state.state_of(self.model, training.strategy)

    @property
    def positions(self) -> list[tuple[int, int]]:
        return [(progress["epoch"], progress["step"]) for _, progress in self.kept]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="BatchNormalization, Dropout, L2, cosine, a smaller last batch"),
        pytest.param({"train.batch_size": "full"}, id="one step an epoch"),
        pytest.param({"model.l2": 0.01}, id="a penalty larger than the rest of the loss"),
        pytest.param({"train.strategy": "one_device", "train.class_weights": "balanced"}, id="one_device, weights"),
        pytest.param(
            {"train.augmentation": {"shift": 1.0, "rotation": 9.0, "scale": 0.1, "elastic": 1.0, "smoothness": 4.0,
    "horizontal_flip": True}},
            id="augmentation",
        ),
        pytest.param(
            {"train.optimizer": {"name": "lamb", "learning_rate": 0.003, "clipnorm": 1.0, "use_ema": True}},
            id="lamb, clipped, averaged weights",
        ),
        pytest.param(
            {
                "train.optimizer": {"name": "adamw", "learning_rate": 0.003, "gradient_accumulation_steps": 3},
                "train.schedule": {"name": "exponential", "warmup_epochs": 0, "decay_rate": 0.5, "factor": 0.5,
                                   "patience": 1},
            },
            id="gradients of three steps, exponential",
        ),
    ],
)  # fmt: skip
def test_it_is_the_fit_step_by_step(splits: dict[str, Split], changes: dict[str, Any]) -> None:
    fused, stepwise = (Trained(changes, splits, fused=way) for way in (True, False))
    for ours, theirs in zip(fused.progress.history, stepwise.progress.history, strict=True):
        assert [ours[name] for name in ROW] == pytest.approx([theirs[name] for name in ROW], rel=1e-4)
    assert fused.positions == stepwise.positions
    assert set(fused.state) == set(stepwise.state)
    for name, array in fused.state.items():
        # Counts and the state of each Dropout's generator, which tells how many masks were drawn, exactly.
        equal = np.testing.assert_array_equal if array.dtype.kind in "iu" else _almost_equal
        equal(array, stepwise.state[name], err_msg=name)


def _almost_equal(ours: Any, theirs: Any, err_msg: str) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3 * max(1.0, np.abs(theirs).max()), err_msg=err_msg)


def test_the_masks_are_those_of_keras(splits: dict[str, Split]) -> None:
    """One step of a network that is nothing but a mask: which weights moved shows it, unit by unit."""
    changes = {
        "model.architecture": "layers",
        "model.layers": [{"layer": "Flatten"}, {"layer": "Dropout", "rate": 0.4}],
        "train.epochs": 1,
        "train.optimizer": {"name": "sgd", "learning_rate": 0.1},
        "train.schedule.name": "constant",
    }
    fused, stepwise = (Trained(changes, splits, fused=way) for way in (True, False))
    np.testing.assert_allclose(fused.model.get_weights()[0], stepwise.model.get_weights()[0], rtol=0, atol=1e-6)
    assert fused.progress.history[0]["train/loss"] == pytest.approx(
        stepwise.progress.history[0]["train/loss"], rel=1e-6
    )


def test_where_somebody_looks_changes_no_number(splits: dict[str, Split]) -> None:
    import keras

    whole = Trained({}, splits, fused=True)
    every_fifth = Trained({"train.checkpoint_steps": 5}, splits, fused=True)
    watched = Trained({}, splits, fused=True, callbacks=[keras.callbacks.Callback()])
    assert every_fifth.positions == [
        position for epoch in range(3) for position in ((epoch, 5), (epoch, 10), (epoch + 1, 0))
    ]
    for other in (every_fifth, watched):
        for name, array in whole.state.items():
            np.testing.assert_array_equal(array, other.state[name], err_msg=name)


def test_a_callback_sees_every_step(splits: dict[str, Split]) -> None:
    import keras

    seen: list[int] = []

    class Seeing(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(int(self.model.optimizer.iterations))

    trained = Trained({}, splits, fused=True, callbacks=[Seeing()])
    assert seen == list(range(1, 3 * trained.data.steps + 1))


def test_a_divergence_inside_a_program_is_told_with_its_step_and_rate(splits: dict[str, Split]) -> None:
    from keras_pipeline.training.fit import NotFiniteError

    changes = {
        "model.dropout": 0.0,
        "model.batch_normalization": False,
        "model.activation": "tanh",
        "model.architecture": "softmax_regression",
        "train.optimizer": {"name": "sgd", "learning_rate": 60.0, "weight_decay": 1.0},
        "train.schedule": {"name": "exponential", "warmup_epochs": 0, "decay_rate": 0.9, "factor": 0.5, "patience": 1},
    }
    faults = []
    for way in (True, False):
        with pytest.raises(NotFiniteError) as fault:
            Trained(changes, splits, fused=way)
        faults.append(fault.value)
    assert str(faults[0]) == str(faults[1])
    assert 1 < faults[0].step < 13


def test_convolutions_on_a_cpu_and_images_that_do_not_fit_are_trained_step_by_step(
    splits: dict[str, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_pipeline.distribution import strategies
    from keras_pipeline.models import frameworks
    from keras_pipeline.training import batches
    from keras_pipeline.training.engines import fused

    data = batches.Data(splits["train"], splits["validation"], np.ones(10, np.float32), 1, 100, 100)
    size = data.held_bytes
    for architecture, gains in (("mlp", True), ("cnn", False)):
        model = architectures.build_network(small.params({"model.architecture": architecture}).model, IMAGE_SHAPE, 10)
        for device in ("/cpu:0", "/gpu:0"):
            place = strategies.OpenedStrategy("none", (device,), fused=True)
            assert fused.can_fuse(model, place, data) is (gains or device == "/gpu:0")
            assert not fused.can_fuse(model, dataclasses.replace(place, fused=False), data)
            for limit, fits in ((4 * size, gains or device == "/gpu:0"), (4 * size - 4, False)):
                with monkeypatch.context() as patched:
                    patched.setattr(frameworks, "memory_limit", lambda limit=limit: limit)
                    assert not fused.can_fuse(model, place, data)  # too little for the compiler
                    patched.setattr(fused, "LEAST_MEMORY", 0)
                    assert fused.can_fuse(model, place, data) is fits
                with monkeypatch.context() as patched:  # a GPU has less memory than its machine
                    patched.setattr(frameworks, "device_memory", lambda backend, limit=limit: limit)
                    assert fused.can_fuse(model, place, data) is fits


def test_the_strategies_that_can() -> None:
    from keras_pipeline.distribution import strategies

    for changes, fused in (
        ({}, True),
        ({"train.strategy": "one_device"}, True),
        ({"train.fused": False}, False),
        ({"train.strategy": "multi_worker"}, False),
    ):
        plan = strategies.plan_training(small.params(changes).train, {"train": 1200, "validation": 100}, {})
        with strategies.open_strategy(plan) as strategy:
            assert strategy.fused is fused
