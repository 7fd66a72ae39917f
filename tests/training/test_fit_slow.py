"""The fit against stock Keras and itself: plateaus, early stopping, divergence, learning."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.core.errors import DivergedError
from keras_pipeline.data.splits import Split, read_split
from keras_pipeline.models import architectures
from small import IMAGE_SHAPE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def splits(normalized: Path) -> dict[str, Split]:
    from keras_pipeline.core import json_files

    statistics = json_files.parse_json((normalized / "statistics.json").read_bytes())
    return {name: read_split(normalized, name, statistics) for name in ("train", "validation")}


def fitted(changes: dict[str, Any], splits: dict[str, Split]) -> tuple[Any, list[dict[str, float]]]:
    """A network trained with these params, and its history without times."""
    from keras_pipeline.training import fit

    training = small.training(small.params(changes), list(splits.values()), fused=False)
    progress = fit.Progress()
    fit.fit_network(training, progress, quiet=True)
    return training.model, [{name: row[name] for name in row if name != "time"} for row in progress.history]


@pytest.mark.parametrize("fused", [False, True])
def test_a_metric_that_is_added_in_one_place_is_told_of_every_epoch(
    fused: bool, splits: dict[str, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    from keras_pipeline.data.history import read_history, write_history
    from keras_pipeline.tracking import runs
    from keras_pipeline.training import compilation, fit

    made = compilation.make_metrics
    top = {"name": "top_2", "k": 2}
    more = lambda task_spec: [*made(task_spec), keras.metrics.TopKCategoricalAccuracy(**top)]  # noqa: E731
    monkeypatch.setattr(compilation, "make_metrics", more)
    progress = fit.Progress()
    training = small.training(small.params(), list(splits.values()), fused=fused)
    fit.fit_network(training, progress, quiet=True)
    write_history(tmp_path / "history.csv", progress.history)
    for row in read_history(tmp_path / "history.csv"):
        assert row["train/accuracy"] <= row["train/top_2"] <= 1
        assert row["val/accuracy"] < row["val/top_2"] <= 1
    assert runs.epoch_metrics(progress.history[0]) == (
        "val/accuracy", "val/loss", "val/top_2", "train/accuracy", "train/loss", "train/top_2", "train/learning_rate",
    )  # fmt: skip


def test_the_fit_is_stock_keras_on_the_same_batches(splits: dict[str, Split]) -> None:
    """Three epochs against `train_on_batch` of the same network on batches cut by NumPy."""
    import keras

    from keras_pipeline.models import frameworks
    from keras_pipeline.training import batches, compilation

    changes = {"train.epochs": 3, "train.schedule.name": "constant", "model.dropout": 0.0}
    model, history = fitted(changes, splits)
    chosen = small.params(changes)
    frameworks.seed_everything(chosen.seed, "float32")
    stock = architectures.build_network(chosen.model, IMAGE_SHAPE, 10)
    compilation.draw_weights(stock, chosen.seed)
    stock.compile(keras.optimizers.Adam(0.003), "categorical_crossentropy", metrics=["accuracy"])
    targets = np.eye(10, dtype=np.float32)[splits["train"].targets]
    for epoch in range(3):
        order = batches.batch_order(len(targets), chosen.seed, epoch)
        seen = np.zeros(2)
        for start in range(0, len(order), 100):
            indices = order[start : start + 100]
            stock.reset_metrics()
            one = stock.train_on_batch(splits["train"].scaled(indices), targets[indices], return_dict=True)
            seen += np.array([one["loss"], one["accuracy"]]) * len(indices) / len(order)
        assert history[epoch]["train/loss"] == pytest.approx(seen[0], rel=1e-5)
        assert history[epoch]["train/accuracy"] == pytest.approx(seen[1], rel=1e-5)
    for ours, theirs in zip(model.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    loss, accuracy = stock_scores(stock, splits["validation"])
    assert history[-1]["val/loss"] == pytest.approx(loss, rel=1e-5)
    assert history[-1]["val/accuracy"] == pytest.approx(accuracy, rel=1e-6)


def stock_scores(model: Any, split: Split) -> tuple[float, float]:
    """Loss and accuracy as Keras' own evaluate has them, compiled as in any tutorial."""
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(split.scaled(), np.eye(10)[split.targets], verbose=0)
    return loss, accuracy


def test_the_plateau_rule_is_keras_own() -> None:
    """Against keras.callbacks.ReduceLROnPlateau, fed with the same losses."""
    import keras

    from keras_pipeline.training.fit import is_on_plateau

    random = np.random.default_rng(0)
    for patience in (1, 2, 3):
        for _ in range(50):
            losses = np.round(random.choice([0.5, 0.49995, 0.4, 0.3, 0.6], 12) + random.choice([0, 1e-5], 12), 6)
            model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
            model.compile(keras.optimizers.SGD(1.0), "mse")
            stock = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=patience)
            stock.set_model(model)
            stock.on_train_begin()
            rate, rows = 1.0, []
            for epoch, loss in enumerate(losses):
                rows.append({"val/loss": float(loss)})
                stock.on_epoch_end(epoch, {"val_loss": float(loss)})
                rate *= 0.5 if is_on_plateau(rows, patience) else 1
                assert float(model.optimizer.learning_rate) == rate, (losses, epoch)


@pytest.mark.parametrize("monitor", ["val/loss", "val/accuracy"])
def test_the_end_by_early_stopping_is_keras_own(monitor: str) -> None:
    """Against keras.callbacks.EarlyStopping, fed with the same values."""
    import keras

    from keras_pipeline.training.fit import best_epoch, is_finished

    random = np.random.default_rng(1)
    for patience in (1, 2, 4):
        train = small.params(
            {"train.early_stopping": {"monitor": monitor, "patience": patience}, "train.epochs": 30}
        ).train
        for _ in range(50):
            values = random.choice([0.1, 0.2, 0.3, 0.4, 0.5], 30)
            model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
            stock = keras.callbacks.EarlyStopping(
                "value", patience=patience, mode="min" if monitor == "val/loss" else "max", restore_best_weights=True
            )
            stock.set_model(model)
            stock.on_train_begin()
            model.stop_training, rows = False, []
            for epoch, value in enumerate(values):
                rows.append({"val/loss": value, "val/accuracy": value})
                stock.on_epoch_end(epoch, {"value": value})
                assert is_finished(rows, train) == (model.stop_training or epoch == 29)
                if model.stop_training:
                    break
            assert best_epoch(rows, train.early_stopping) == stock.best_epoch + 1


def test_the_same_seed_gives_the_same_weights_and_another_one_others(splits: dict[str, Split]) -> None:
    (one, first), (two, second), (other, _) = (fitted({"seed": seed}, splits) for seed in (1, 1, 2))
    assert first == second
    for left, right in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert (one.get_weights()[0] != other.get_weights()[0]).any()


def test_a_network_learns_its_training_images_by_heart(splits: dict[str, Split]) -> None:
    few = {
        "train": splits["train"].part(slice(50)),
        "validation": splits["validation"],
    }
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
    from keras_pipeline.training.fit import best_epoch

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
    loss, accuracy = stock_scores(model, validation)
    assert loss == pytest.approx(history[best - 1]["val/loss"], rel=1e-4)
    assert accuracy == pytest.approx(history[best - 1]["val/accuracy"], rel=1e-6)


def test_without_early_stopping_the_last_epoch_counts(splits: dict[str, Split]) -> None:
    from keras_pipeline.training.fit import best_epoch

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
    few = splits if batch_size != 1 else {**splits, "train": splits["train"].part(slice(30))}
    changes = {"train.batch_size": batch_size, "train.epochs": 2}
    if batch_size == 1:  # over which BatchNormalization has no variance
        changes["model.batch_normalization"] = False
    _, history = fitted(changes, few)
    assert len(history) == 2
    assert all(math.isfinite(value) for row in history for value in row.values())
