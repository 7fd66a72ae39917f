"""The network written out in NumPy against finite differences, TensorFlow's gradients, and whole trainings of Keras."""

import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.checks import numpy_limits
from keras_pipeline.checks.params import CheckedParams
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.strict_yaml import reader
from keras_pipeline.training.engines import from_scratch
from keras_pipeline.training.engines.from_scratch import Layer, Network
from real_workspace import wait_until

ACTIVATIONS = ("linear", "sigmoid", "tanh", "relu")
HEADS = (
    ("categorical_crossentropy", "softmax"), ("mean_squared_error", "softmax"), ("mean_squared_error", "sigmoid"),
    ("mean_absolute_error", "softmax"), ("mean_absolute_error", "sigmoid"),
)  # fmt: skip
SIZES = (6, 5, 4, 3)
SGD = {"name": "sgd", "learning_rate": 0.1}
PLAIN: dict[str, Any] = {
    "train.engine": "numpy",
    "model.dropout": 0.0,
    "model.batch_normalization": False,
    "train.optimizer": SGD,
    "train.schedule.name": "constant",
}
"""What the shipped params have to become for NumPy."""


def network(loss: str, output: str, activation: str, sizes: tuple[int, ...] = SIZES, l2: float = 0.0) -> Network:
    """Random weights and biases in float64; L2 on all layers but the last, as in the pipeline."""
    chance = np.random.default_rng(len(loss) + 7 * len(activation))
    layers = [
        Layer(chance.normal(size=pair), chance.normal(size=pair[1]), activation, l2)
        for pair in itertools.pairwise(sizes)
    ]
    layers[-1] = dataclasses.replace(layers[-1], activation=output, l2=0.0)
    return Network(layers, loss)


def batch(images: int = 7, pixels: int = SIZES[0], classes: int = SIZES[-1]) -> tuple[Any, Any]:
    chance = np.random.default_rng(3)
    return chance.normal(size=(images, pixels)), np.eye(classes)[chance.integers(classes, size=images)]


def loss_of(one: Network, images: Any, targets: Any) -> float:
    return from_scratch.evaluate(one, images, targets)[0]


# The mathematics, in float64 and without any framework.


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("loss", "output"), HEADS)
@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_gradients_are_finite_differences(loss: str, output: str, activation: str, l2: float) -> None:
    one = network(loss, output, activation, l2=l2)
    images, targets = batch()
    gradients, value, outputs = from_scratch.backpropagation(one, images, targets)
    assert value == loss_of(one, images, targets)
    assert outputs.shape == targets.shape
    small_step = 1e-6
    for parameter, gradient in zip(one.parameters, gradients, strict=True):
        assert gradient.shape == parameter.shape
        for place in np.ndindex(parameter.shape):
            before = parameter[place]
            parameter[place] = before + small_step
            above = loss_of(one, images, targets)
            parameter[place] = before - small_step
            below = loss_of(one, images, targets)
            parameter[place] = before
            assert gradient[place] == pytest.approx((above - below) / (2 * small_step), rel=1e-5, abs=1e-8)


def test_a_network_without_hidden_layer_has_the_gradient_of_the_textbook() -> None:
    one = network("categorical_crossentropy", "softmax", "linear", sizes=(6, 3))
    images, targets = batch()
    (weights, biases), value, outputs = from_scratch.backpropagation(one, images, targets)
    np.testing.assert_allclose(weights, images.T @ (outputs - targets) / 7, rtol=1e-12)
    np.testing.assert_allclose(biases, (outputs - targets).mean(axis=0), rtol=1e-12)
    assert value == pytest.approx(-np.log(outputs[targets == 1]).mean(), rel=1e-12)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-12)


def test_losses_are_means_over_images_and_classes() -> None:
    z, outputs = np.zeros((2, 4)), np.full((2, 4), 0.25)
    targets = np.eye(4)[[0, 3]]
    expected = {
        "categorical_crossentropy": np.log(4),
        "mean_squared_error": (0.75**2 + 3 * 0.25**2) / 4,
        "mean_absolute_error": (0.75 + 3 * 0.25) / 4,
    }
    for name, value in expected.items():
        penalized = Network(
            [Layer(np.full((2, 3), 2.0), np.ones(3), "linear", l2=0.5), network(name, "x", "x").layers[-1]], name
        )
        assert from_scratch.loss(penalized, z, outputs, targets) == pytest.approx(value + 0.5 * 6 * 4, rel=1e-12)
    assert from_scratch.right_answers(np.array([[1, 2, 0, 0], [4, 3, 2, 1]]), targets) == 0
    assert from_scratch.right_answers(np.array([[3, 2, 0, 0], [0, 3, 2, 4]]), targets) == 2


def test_no_number_is_too_large() -> None:
    """Warnings are errors here."""
    z = np.array([[-1e4, 0.0, 1e4]], np.float32)
    np.testing.assert_array_equal(from_scratch.sigmoid(z), [[0, 0.5, 1]])
    np.testing.assert_array_equal(from_scratch.softmax(z), [[0, 0, 1]])
    np.testing.assert_array_equal(from_scratch.log_softmax(z), [[-2e4, -1e4, 0]])
    assert from_scratch.softmax(z).dtype == np.float32


def test_momentum_is_a_running_sum_of_gradients() -> None:
    """After steps with gradients g1, g2: V = -rate (momentum g1 + g2), and W has moved by both V."""
    one = Network([Layer(np.zeros((1, 1)), np.zeros(1), "linear")], "mean_squared_error")
    velocities = [np.zeros_like(parameter) for parameter in one.parameters]
    for gradient in (2.0, 10.0):
        from_scratch.descend(one, velocities, [np.full((1, 1), gradient), np.full(1, gradient)], 0.1, 0.5)
    for parameter, velocity in zip(one.parameters, velocities, strict=True):
        assert velocity.item() == pytest.approx(-0.1 * (0.5 * 2 + 10))
        assert parameter.item() == pytest.approx(-0.1 * 2 - 0.1 * (0.5 * 2 + 10))


def test_steps_learn_without_any_framework() -> None:
    """In a process of its own: nothing else is imported, and the loss of a batch falls as far as it can."""
    program = """
import sys
import numpy as np
from keras_pipeline.training.engines import from_scratch
from keras_pipeline.training.engines.from_scratch import Layer, Network
chance = np.random.default_rng(1)
layers = [Layer(chance.normal(size=(20, 16)) / 4, np.zeros(16), "relu"),
          Layer(chance.normal(size=(16, 4)) / 4, np.zeros(4), "softmax")]
network = Network(layers, "categorical_crossentropy")
images, targets = chance.normal(size=(12, 20)), np.eye(4)[np.arange(12) % 4]
velocities = [np.zeros_like(one) for one in network.parameters]
steps = [from_scratch.step(network, velocities, images, targets, 0.1, 0.9) for _ in range(100)]
print(steps[0][0] > 1, steps[-1][0] < 0.01, steps[-1][1] == 12)
print({"keras", "tensorflow", "jax", "torch"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True True True\nset()\n"


# What is refused.


def refused(changes: dict[str, Any]) -> list[str]:
    with pytest.raises(ParamsError) as error:
        reader.parse_yaml(small.params_text(changes), "params.yaml", CheckedParams)
    return [line.partition(": ")[2] for line in str(error.value).splitlines()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.architecture": "cnn"}, "model.architecture: cnn {} Use softmax_regression or mlp, or {}"),
        ({"model.activation": "gelu"}, "model.activation: gelu {} Use linear, sigmoid, tanh or relu, or {}"),
        ({"model.dropout": 0.25}, "model.dropout: 0.25 {} Use 0, or {}"),
        ({"model.batch_normalization": True}, "model.batch_normalization: true {} Use false, or {}"),
        ({"train.optimizer": {**SGD, "name": "adam"}}, "train.optimizer.name: adam {} Use sgd, or {}"),
        ({"train.optimizer": {**SGD, "nesterov": True}}, "train.optimizer.nesterov: true {} Use false, or {}"),
        ({"train.optimizer": {**SGD, "clipnorm": 1.0}}, "train.optimizer.clipnorm: 1 {} Take it out, or use {}"),
        ({"train.class_weights": "balanced"}, "train.class_weights: balanced {} Use none, or {}"),
        ({"train.augmentation.elastic": 1.5}, "train.augmentation.elastic: 1.5 {} Use 0, or {}"),
        ({"train.precision": "mixed_float16"}, "train.precision: mixed_float16 {} Use float32, or {}"),
        ({"train.backend": "jax"}, "train.backend: jax {} Use tensorflow, or {}"),
        ({"train.strategy": "mirrored"}, "train.strategy: mirrored {} Use none, or {}"),
        ({"train.device_type": "gpu"}, "train.device_type: gpu {} Use auto or cpu, or {}"),
    ],
)
def test_what_numpy_does_not_do_is_refused(changes: dict[str, Any], message: str) -> None:
    text = message.format("does not work with train.engine: numpy.", "train.engine: keras.")
    assert refused({**PLAIN, **changes})[0] == text
    small.params({**PLAIN, "model.batch_normalization": False, **changes, "train.engine": "keras"})


def test_all_is_refused_at_once_and_with_other_faults() -> None:
    found = refused(
        {
            **PLAIN,
            "model.dropout": 0.5,
            "model.output_activation": "sigmoid",
            "train.optimizer": {**SGD, "nesterov": True, "use_ema": True},
            "train.class_weights": "balanced",
        }
    )
    assert [line.partition(":")[0] for line in found if "." in line.partition(":")[0]] == [
        "model.dropout", "model.output_activation", "train.optimizer.nesterov", "train.optimizer.use_ema",
        "train.class_weights",
    ]  # fmt: skip


def test_what_is_not_used_is_not_refused() -> None:
    small.params(
        {**PLAIN, "model.architecture": "softmax_regression", "model.dropout": 0.5, "model.activation": "gelu"}
    )
    small.params({**PLAIN, "train.optimizer": {**SGD, "momentum": 0.9, "nesterov": False}})
    assert set(numpy_limits.NUMPY_OPTIMIZER) == {"momentum", "nesterov"}


# Against Keras.


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.normalized_digits(tmp_path_factory.mktemp("from_scratch"))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("loss", "output"), HEADS)
def test_gradients_are_tensorflow_s(loss: str, output: str, activation: str) -> None:
    """Of the network and the losses that the pipeline builds, on a batch of digits-like numbers, in float32."""
    import keras
    import tensorflow as tf

    from keras_pipeline.config.datasets import IMAGE_SHAPE
    from keras_pipeline.distribution import strategies
    from keras_pipeline.training import compilation
    from keras_pipeline.training.engines import numpy_engine

    changes = {"train.loss": loss, "model.output_activation": output, "model.activation": activation}
    chosen = small.params({**PLAIN, **changes, "model.l2": 0.01, "model.hidden_units": [30, 20]})
    place = strategies.Distribution("none", ("/cpu:0",))
    model = compilation.new_network(chosen.model, chosen.train, 1, place, 10, small.TEN_CLASSES)
    chance = np.random.default_rng(2)
    images = chance.random((50, *IMAGE_SHAPE), np.float32)
    targets = np.eye(10, dtype=np.float32)[chance.integers(10, size=50)]
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        value = model.compute_loss(images, targets, outputs, np.full(50, 1 / 50, np.float32))
    theirs = tape.gradient(value, model.trainable_variables)
    one = numpy_engine._network(model, loss)
    ours, wrong, answers = from_scratch.backpropagation(one, images.reshape(50, -1), targets)
    assert wrong == pytest.approx(float(value), rel=1e-6)
    np.testing.assert_allclose(answers, keras.ops.convert_to_numpy(outputs), rtol=1e-5, atol=1e-7)
    for gradient, other in zip(ours, theirs, strict=True):
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(gradient, other, rtol=0, atol=1e-5 * np.abs(other).max() + 1e-9)


class Trained:
    """A network trained in this process, with its rows and the weights after every step."""

    def __init__(self, normalized: Path, changes: dict[str, Any]) -> None:
        from keras_pipeline.core import files
        from keras_pipeline.data.splits import read_split
        from keras_pipeline.distribution import strategies
        from keras_pipeline.training import batches, compilation, fit

        chosen = small.params({**PLAIN, "train.checkpoint_steps": 1, "train.batch_size": 32, **changes})
        statistics = files.read_json(normalized / "statistics.json", "normalize")
        splits = [read_split(normalized, name, statistics) for name in ("train", "validation")]
        plan = strategies.plan_training(chosen.train, statistics["images"], {})
        place = strategies.open_strategy(plan)
        ones = np.ones(10, np.float32)
        data = batches.Data(*splits, ones, chosen.seed, plan.batch_size, plan.validation_batch)
        model = compilation.new_network(chosen.model, chosen.train, chosen.seed, place, data.steps, small.TEN_CLASSES)
        self.steps: list[Any] = []
        progress = fit.Progress()
        fit.fit_network(model, place, data, chosen.train, fit.FitHooks(self.keep, quiet=True), progress)
        self.rows, self.weights = progress.history, flat(model.get_weights())

    def keep(self, state: Any, progress: Any) -> None:
        self.steps.append(flat([one for name, one in state.items() if name.startswith("trainable/")]))


def flat(arrays: list[Any]) -> Any:
    return np.concatenate([one.ravel() for one in arrays])


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"model.architecture": "softmax_regression"}, id="softmax_regression"),
        pytest.param(
            {"model.activation": "tanh", "model.l2": 1e-3, "model.hidden_units": [30, 20],
             "train.optimizer": {**SGD, "learning_rate": 0.02, "momentum": 0.9}, "train.schedule.name": "cosine"},
            id="two layers, tanh, L2, momentum, cosine",
        ),
        pytest.param(
            {"model.activation": "sigmoid", "model.output_activation": "sigmoid", "train.loss": "mean_squared_error",
             "train.optimizer": {**SGD, "learning_rate": 5.0}, "train.schedule.name": "exponential"},
            id="sigmoid, squares, exponential",
        ),
        pytest.param(
            {"train.loss": "mean_absolute_error", "train.optimizer": {**SGD, "learning_rate": 0.5},
             "train.schedule": {"name": "reduce_on_plateau", "warmup_epochs": 0, "decay_rate": 0.9, "factor": 0.5,
                                "patience": 1},
             "train.early_stopping": {"monitor": "val/accuracy", "patience": 1}},
            id="relu, absolute errors, plateau, early stopping",
        ),
    ],
)  # fmt: skip
def test_a_training_is_that_of_keras(normalized: Path, changes: dict[str, Any], fused: bool) -> None:
    changes = {"train.epochs": 5, "train.fused": fused, **changes}
    ours, theirs = (Trained(normalized, {**changes, "train.engine": engine}) for engine in ("numpy", "keras"))
    assert len(ours.steps) == len(theirs.steps) >= 41
    largest = np.abs(theirs.weights).max()
    for steps, within in ((1, 5e-7), (10, 2e-6), (len(ours.steps), 1e-4)):
        np.testing.assert_allclose(ours.steps[steps - 1], theirs.steps[steps - 1], rtol=0, atol=within * largest)
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=0, atol=1e-4 * largest)
    assert np.abs(ours.weights - ours.steps[0]).max() > 0.01  # it was a training
    for row, other in zip(ours.rows, theirs.rows, strict=True):
        assert list(row) == list(other)
        for name in ("epoch", "train/learning_rate"):
            assert row[name] == other[name]
        for name in ("train/loss", "val/loss"):
            assert row[name] == pytest.approx(other[name], rel=1e-4)
        for name in ("train/accuracy", "val/accuracy"):
            assert row[name] == pytest.approx(other[name], abs=2 / 144)


@pytest.mark.slow
def test_it_goes_on_from_every_step_to_the_same_bytes(normalized: Path) -> None:
    changes = {
        **PLAIN,
        "train.optimizer": {**SGD, "momentum": 0.9},
        "train.schedule": {"name": "cosine", "warmup_epochs": 1, "decay_rate": 0.9, "factor": 0.5, "patience": 1},
        "train.epochs": 3, "train.batch_size": 16, "train.checkpoint_steps": 1,
    }  # fmt: skip
    program = Path(__file__).parent / "resume_everywhere.py"
    done = subprocess.run(
        [sys.executable, program, str(normalized), json.dumps(changes), "1"],
        cwd=program.parent,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "15 positions of 15, the same bytes" in done.stdout


# The stage, as a process.


class Stage:
    """A folder in which `train` runs with these changes."""

    def __init__(self, folder: Path, normalized: Path, changes: dict[str, Any]) -> None:
        folder.mkdir()
        self.folder, self.log = folder, folder / "log"
        self.program = [sys.executable, "-m", "keras_pipeline.cli.main"]
        self.options = ["--normalized", str(normalized)]
        (folder / "params.yaml").write_bytes(small.params_text({"fetch.dataset": "digits", **PLAIN, **changes}))

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        environ = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}
        with self.log.open("w") as log:
            return subprocess.Popen(
                [*self.program, *command, *self.options], cwd=self.folder, env=environ, stdout=log, stderr=log
            )

    def ended(self, *command: str) -> tuple[int, str]:
        return self.start(*command).wait(300), self.log.read_text()

    def bytes(self) -> list[bytes]:
        return [(self.folder / "models" / name).read_bytes() for name in ("model.keras", "history.csv")]


@pytest.mark.slow
def test_the_stage_leaves_the_same_files_and_interrupted_the_same_bytes(normalized: Path, tmp_path: Path) -> None:
    changes = {"model.hidden_units": [256], "train.epochs": 15, "train.batch_size": 16}
    whole, stopped = (Stage(tmp_path / name, normalized, changes) for name in ("whole", "stopped"))
    code, text = whole.ended("train")
    assert code == 0, text
    assert "train: numpy, strategy none on /cpu:0; batches of 16" in text
    assert len(re.findall(r"(?m)^Epoch \d+/15: train/loss 0\.\d{4}  train/accuracy ", text)) >= 10
    record = json.loads((whole.folder / "models/run.json").read_text())
    assert (record["strategy"]["backend"], record["strategy"]["fused"]) == ("numpy", False)
    assert record["params"]["train.engine"] == "numpy"
    code, text = whole.ended("evaluate")
    assert code == 0, text
    assert json.loads((whole.folder / "reports/metrics.json").read_text())["test/accuracy"] > 0.9

    process = stopped.start("train")
    wait_until(
        lambda: list(stopped.folder.glob(".checkpoints/*/*.checkpoint")) or process.poll() is not None,
        200,
        "a checkpoint",
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75, stopped.log.read_text()
    code, text = stopped.ended("train")
    assert code == 0, text
    assert "train: goes on from its checkpoint" in text
    assert stopped.bytes() == whole.bytes()


@pytest.mark.slow
def test_a_divergence_says_so(normalized: Path, tmp_path: Path) -> None:
    steep = {**SGD, "learning_rate": 1000.0, "momentum": 0.9}
    stage = Stage(tmp_path / "steep", normalized, {"model.activation": "linear", "train.optimizer": steep})
    code, text = stage.ended("train")
    assert code == 5, text
    found = re.search(r"training diverged: .* is (nan|inf|-inf) at step \d+ of epoch \d+, learning rate 1000", text)
    assert found, text
    assert "  cause: " in text
    assert "try: train.optimizer.learning_rate: 100;" in text
    assert "clipnorm" not in text  # nothing that this engine refuses
    assert "RuntimeWarning" not in text


@pytest.mark.slow
def test_a_profile_of_numpy_is_refused(normalized: Path, tmp_path: Path) -> None:
    code, text = Stage(tmp_path / "profile", normalized, {}).ended("debug", "profile")
    assert code == 2
    assert "params.yaml: train.engine: numpy, but debug profile measures the steps of Keras." in text
