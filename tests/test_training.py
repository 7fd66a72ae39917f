"""The fit against stock Keras, closed forms and itself: batches, schedules, early stopping, divergence, learning."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline import architectures
from keras_pipeline.errors import DivergedError
from keras_pipeline.params import IMAGE_SHAPE
from keras_pipeline.preprocessing import Split, read_split
from keras_pipeline.stages import train as stage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def splits(normalized: Path) -> dict[str, Split]:
    from keras_pipeline import files

    statistics = files.read_json(normalized / "statistics.json", "normalize")
    return {name: read_split(normalized, name, statistics) for name in ("train", "validation")}


def fitted(changes: dict[str, Any], splits: dict[str, Split]) -> tuple[Any, list[dict[str, float]]]:
    """A network trained with these params, and its history."""
    from keras_pipeline import training

    chosen = small.params(changes)
    size = len(splits["train"].labels) if chosen.train.batch_size == "full" else chosen.train.batch_size
    steps = math.ceil(len(splits["train"].labels) / size)
    training.seed_everything(chosen.seed, chosen.train.precision)
    model = architectures.build(chosen.model, IMAGE_SHAPE, 10)
    training.compile_model(model, chosen.train, steps)
    history: list[dict[str, float]] = []
    batches = training.batches(splits["train"], 10, size, chosen.seed)
    validation = training.in_order(splits["validation"], 10, replicas=1)
    training.fit(model, batches, validation, chosen.train, steps, history.append)
    return model, history


def test_batch_order_is_a_new_permutation_in_every_epoch() -> None:
    from keras_pipeline.training import batch_order

    orders = [batch_order(1000, seed, epoch) for seed in (1, 2) for epoch in (0, 1, 2)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert len({order.tobytes() for order in orders}) == 6
    np.testing.assert_array_equal(orders[4], batch_order(1000, 2, 1))


def test_batches_are_the_images_in_that_order_with_a_smaller_last_one() -> None:
    from keras_pipeline.training import batch_order, batches

    images = np.arange(25, dtype=np.float32).reshape(-1, 1, 1, 1)
    split = Split(images, np.arange(25) % 3)
    taken = list(batches(split, 3, 10, seed=5).take(6).as_numpy_iterator())
    assert [len(labels) for _, labels in taken] == [10, 10, 5, 10, 10, 5]
    for epoch in (0, 1):
        order = batch_order(25, 5, epoch)
        three = taken[3 * epoch : 3 * epoch + 3]
        np.testing.assert_array_equal(np.concatenate([one for one, _ in three]).ravel(), order)
        np.testing.assert_array_equal(np.concatenate([one for _, one in three]), np.eye(3)[order % 3])


def test_the_fit_is_stock_keras_on_the_same_batches(splits: dict[str, Split]) -> None:
    """Three epochs against `train_on_batch` of the same network on batches cut by NumPy."""
    import keras

    from keras_pipeline import training

    changes = {"train.epochs": 3, "train.schedule.name": "constant", "model.dropout": 0.0}
    model, history = fitted(changes, splits)
    chosen = small.params(changes)
    training.seed_everything(chosen.seed, "float32")
    stock = architectures.build(chosen.model, IMAGE_SHAPE, 10)
    stock.compile(keras.optimizers.Adam(0.003), "categorical_crossentropy")
    targets = np.eye(10, dtype=np.float32)[splits["train"].labels]
    for epoch in range(3):
        order = training.batch_order(len(targets), chosen.seed, epoch)
        for start in range(0, len(order), 100):
            indices = order[start : start + 100]
            stock.train_on_batch(splits["train"].images[indices], targets[indices])
    for ours, theirs in zip(model.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    validation = splits["validation"]
    expected = stock.evaluate(validation.images, np.eye(10)[validation.labels], verbose=0)
    assert history[-1]["val/loss"] == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_one_others(splits: dict[str, Split]) -> None:
    (one, first), (two, second), (other, _) = (fitted({"seed": seed}, splits) for seed in (1, 1, 2))
    assert first == second
    for left, right in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert (one.get_weights()[0] != other.get_weights()[0]).any()


def test_a_network_learns_its_training_images_by_heart(splits: dict[str, Split]) -> None:
    few = {"train": Split(splits["train"].images[:50], splits["train"].labels[:50]), "validation": splits["validation"]}
    changes = {
        "train.epochs": 60,
        "train.batch_size": 10,
        "model.dropout": 0.0,
        "model.hidden_units": [64],
        "train.early_stopping.patience": 0,
    }
    _, history = fitted(changes, few)
    assert history[-1]["train/accuracy"] == 1.0
    assert history[-1]["train/loss"] < 0.1 * history[0]["train/loss"]


def test_schedules_follow_their_formulas() -> None:
    from keras_pipeline.training import learning_rate

    def rates(epochs: int = 10, **changes: Any) -> list[float]:
        schedule = small.params(
            {f"train.schedule.{key}": value for key, value in changes.items()} | {"train.epochs": 10}
        )
        rate = learning_rate(schedule.train.schedule, 0.4, epochs, steps=5)
        return [float(rate(step)) for step in range(51)] if callable(rate) else [rate] * 51

    steps = np.arange(51)
    cosine = 0.4 * 0.5 * (1 + np.cos(np.pi * (steps - 10) / 40))
    warm = np.where(steps < 10, 0.4 * steps / 10, cosine)
    np.testing.assert_allclose(rates(name="cosine", warmup_epochs=2), warm, atol=1e-7)
    whole = 0.4 * 0.5 * (1 + np.cos(np.pi * steps / 50))
    np.testing.assert_allclose(rates(name="cosine", warmup_epochs=0), whole, atol=1e-7)
    np.testing.assert_allclose(rates(name="exponential", decay_rate=0.5), 0.4 * 0.5 ** (steps / 5), rtol=1e-6)
    assert set(rates(name="constant")) == {0.4}


def test_the_learning_rate_falls_on_a_plateau(splits: dict[str, Split]) -> None:
    changes = {
        "train.schedule": {
            "name": "reduce_on_plateau",
            "warmup_epochs": 0,
            "decay_rate": 0.9,
            "factor": 0.1,
            "patience": 1,
        },
        "train.epochs": 6,
        "train.optimizer.learning_rate": 1e-12,
        "model.batch_normalization": False,
    }
    rates = [row["train/learning_rate"] for row in fitted(changes, splits)[1]]
    assert rates[0] == pytest.approx(1e-12)
    assert rates[-1] < 1e-14


@pytest.mark.parametrize("monitor", ["val/loss", "val/accuracy"])
def test_early_stopping_leaves_the_weights_of_the_best_epoch(splits: dict[str, Split], monitor: str) -> None:
    from keras_pipeline.training import best_epoch

    changes = {
        "train.epochs": 40,
        "train.batch_size": 32,
        "model.hidden_units": [128],
        "train.schedule.name": "constant",
        "train.optimizer.learning_rate": 0.02,
        "train.early_stopping.monitor": monitor,
        "train.early_stopping.patience": 2,
    }
    model, history = fitted(changes, splits)
    assert len(history) < 40
    best = best_epoch(history, small.params(changes).train.early_stopping)
    assert len(history) == best + 2
    validation = splits["validation"]
    loss, accuracy = model.evaluate(validation.images, np.eye(10)[validation.labels], verbose=0)
    assert loss == pytest.approx(history[best - 1]["val/loss"], rel=1e-4)
    assert accuracy == pytest.approx(history[best - 1]["val/accuracy"], rel=1e-6)


def test_without_early_stopping_the_last_epoch_counts(splits: dict[str, Split]) -> None:
    from keras_pipeline.training import best_epoch

    rule = small.params({"train.early_stopping.patience": 0}).train.early_stopping
    rows = [{"val/loss": 0.1, "val/accuracy": 0.9}, {"val/loss": 0.5, "val/accuracy": 0.8}]
    assert best_epoch(rows, rule) == 2


def test_divergence_stops_at_the_step(splits: dict[str, Split]) -> None:
    changes = {
        "train.optimizer": {"name": "sgd", "learning_rate": 1000.0},
        "train.schedule.name": "constant",
        "model.batch_normalization": False,
        "model.hidden_units": [16, 16],
        "train.loss": "mean_squared_error",
        "model.output_activation": "softmax",
        "model.activation": "exponential",
        "train.epochs": 5,
    }
    with pytest.raises(
        DivergedError, match=r"training diverged: train/loss is nan at step \d+ of epoch 1, learning rate"
    ):
        fitted(changes, splits)


@pytest.mark.parametrize("batch_size", [1, 1293, "full"])
def test_batch_sizes_from_one_image_to_all(splits: dict[str, Split], batch_size: Any) -> None:
    few = (
        splits
        if batch_size != 1
        else {**splits, "train": Split(*(part[:30] for part in vars(splits["train"]).values()))}
    )
    _, history = fitted({"train.batch_size": batch_size, "train.epochs": 2}, few)
    assert len(history) == 2
    assert all(math.isfinite(value) for row in history for value in row.values())


class Witness:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def started(self, run: dict[str, Any]) -> None:
        self.told.append("started")

    def epoch(self, row: dict[str, float]) -> None:
        self.told.append(f"epoch {row['epoch']}")

    def ended(self, status: str, run: dict[str, Any], model: Any) -> None:
        self.told.append(f"{status} {'with' if model else 'without'} model")


def test_the_stage_tells_its_observer_and_writes_the_contract(normalized: Path, tmp_path: Path) -> None:
    from keras_pipeline import files

    witness = Witness()
    stage.run(small.params(), normalized, tmp_path, witness)
    assert witness.told == ["started", "epoch 1", "epoch 2", "FINISHED with model"]
    record = files.read_json(tmp_path / "run.json", "train")
    assert record["sha256"]["model"] == files.sha256(tmp_path / "model.keras")
    assert record["sha256"]["data"] == files.sha256(normalized / "statistics.json")
    assert record["params"]["train.optimizer.name"] == "adam"
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,train/loss,train/accuracy,val/loss,val/accuracy,train/learning_rate"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2"]


def test_a_training_that_fails_is_told_as_failed(
    normalized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, status in ((RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")):
        witness = Witness()

        def fail(*arguments: object, error: type[BaseException] = error) -> None:
            raise error

        monkeypatch.setattr("keras_pipeline.training.fit", fail)
        with pytest.raises(error):
            stage.run(small.params(), normalized, tmp_path, witness)
        assert witness.told == ["started", f"{status} without model"]
        assert not (tmp_path / "model.keras").exists()


def test_a_network_beyond_this_machine_is_refused() -> None:
    from keras_pipeline.errors import MachineError

    huge = small.params({"model.hidden_units": [65536] * 20})
    with pytest.raises(MachineError, match=r"params.yaml: model: a training step needs at least [\d.]+ GB of memory"):
        stage.check_memory(huge, 100)
