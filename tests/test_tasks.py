"""The tasks beside the choice of a class: what decides which it is, what is refused, and their data and numbers."""

import csv
import hashlib
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import small
from keras_pipeline.config import datasets, tasks
from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.data import task_spec
from keras_pipeline.data.scaling import Scaling, fit_columns
from keras_pipeline.data.splits import read_split
from keras_pipeline.data.statistics import read_statistics
from keras_pipeline.data.task_spec import TaskSpec
from keras_pipeline.sources import formats, made
from keras_pipeline.stages import fetch, normalize

BINARY = {"normalize.positive_class": 3, "model.output_activation": "sigmoid", "train.loss": "binary_crossentropy"}
LINE = {
    "fetch.dataset": "line",
    "normalize.scaling": "standard",
    "model.hidden_units": [],
    "model.output_activation": "linear",
    "train.loss": "mean_squared_error",
}


def normalized(folder: Path, changes: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """What `fetch` and `normalize` leave with these params: the folder, and statistics.json."""
    chosen = small.params(changes)
    fetch.fetch_dataset(chosen, folder / "raw", folder / "downloads")
    normalize.normalize_dataset(chosen, folder / "raw", folder / "normalized")
    statistics = read_statistics(folder / "normalized")
    return folder / "normalized", statistics


# Which task it is.


@pytest.mark.parametrize(
    ("changes", "name"),
    [({}, "classes"), (BINARY, "binary"), ({**BINARY, "normalize.positive_class": 0}, "binary"), (LINE, "regression")],
)
def test_the_data_and_the_positive_class_decide(changes: dict[str, Any], name: str) -> None:
    assert small.params(changes).task is tasks.TASKS[name]


def faults(changes: dict[str, Any]) -> list[str]:
    """The refusals of these changes, without their places."""
    with pytest.raises(ParamsError) as refused:
        small.params(changes)
    *lines, last = str(refused.value).split("\n")
    assert last == "Nothing was changed."
    return [line.split(": ", 1)[1] for line in lines]


ONE = "one class against the rest (normalize.positive_class)"
NUMBER = "the prediction of a number"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # everything that does not fit is said at once
        ({"normalize.positive_class": 3}, [
            f"model.output_activation: 'softmax' does not fit {ONE}. Use sigmoid.",
            f"train.loss: 'categorical_crossentropy' does not fit {ONE}. "
            "Use binary_crossentropy or mean_squared_error or mean_absolute_error.",
        ]),
        ({**BINARY, "model.output_activation": "linear"}, [
            f"model.output_activation: 'linear' does not fit {ONE}. Use sigmoid."]),
        ({**BINARY, "model.architecture": "softmax_regression"}, [
            f"model.architecture: 'softmax_regression' does not fit {ONE}. Use mlp or cnn or layers."]),
        ({"train.loss": "binary_crossentropy"}, [
            "model.output_activation: 'softmax' makes one answer of all outputs, where train.loss: binary_crossentropy "
            "judges each by itself. Use sigmoid, or another loss."]),
        ({"model.output_activation": "linear"}, [
            "model.output_activation: 'linear' does not fit a choice of several classes. Use softmax."]),
        ({**LINE, "model.output_activation": "softmax"}, [
            f"model.output_activation: 'softmax' does not fit {NUMBER}. Use linear."]),
        ({**LINE, "train.loss": "categorical_crossentropy"}, [
            f"train.loss: 'categorical_crossentropy' does not fit {NUMBER}. "
            "Use mean_squared_error or mean_absolute_error."]),
        ({**LINE, "model.architecture": "cnn"}, [
            f"model.architecture: 'cnn' does not fit {NUMBER}. Use mlp or layers."]),
        ({**LINE, "normalize.positive_class": 3}, [
            "normalize.positive_class: the dataset 'line' has no classes: a number is predicted. "
            "Use none, or a dataset of images."]),
        ({**LINE, "train.early_stopping.monitor": "val/accuracy"}, [
            "train.early_stopping.monitor: a number is predicted from the dataset 'line', and none is right or wrong. "
            "Use val/loss."]),
        ({**LINE, "train.class_weights": "balanced"}, [
            "train.class_weights: the dataset 'line' has no classes. Use none."]),
        ({**LINE, "train.augmentation.shift": 1.0}, [
            "train.augmentation: images are deformed, and the dataset 'line' is a table. "
            "Use 0 for shift, rotation, scale and elastic."]),
        ({**LINE, "model.architecture": "layers", "model.layers": [{"layer": "MaxPooling2D"}]}, [
            "model.layers[0]: MaxPooling2D needs (height, width, channels), but gets 1 values. "
            "Put it before Flatten."]),
        ({"normalize.positive_class": 10}, [
            "normalize.positive_class: 10 is not accepted. Expected: a whole number, 0 <= value <= 9 or none."]),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], expected: list[str]) -> None:
    assert faults(changes) == expected


def test_a_table_needs_no_flatten() -> None:
    own = {"model.architecture": "layers", "model.layers": [{"layer": "Dense", "units": 8, "activation": "relu"}]}
    assert small.params({**LINE, **own}).model.layers


# Their data.


def test_tables_survive_the_disk_exactly() -> None:
    rows = np.array([[0.1, 1 / 3], [-1e-300, 1e300], [5, -0.0]])
    content = formats.write_csv(("a", "b"), rows)
    assert content.startswith(b"a,b\n0.1,0.3333333333333333\n")
    assert formats.read_csv(content, "t", ("a", "b")).tobytes() == rows.tobytes()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "got the columns (none). Expected: a, b"),
        (b"a,c\n1,2\n", "got the columns a, c. Expected: a, b"),
        (b"a,b\n", "got no rows. Expected: one at least"),
        (b"a,b\n1,2\n3\n", "got 1 values in line 3. Expected: 2"),
        (b"a,b\n1,x\n", "got 'x' in line 2. Expected: a finite number"),
        (b"a,b\n1,nan\n", "got 'nan' in line 2. Expected: a finite number"),
        (b"\xff\xfe\x00", "Expected: a, b"),
    ],
)
def test_what_is_no_such_table_is_refused(content: bytes, fault: str) -> None:
    with pytest.raises(DataError) as refused:
        formats.read_csv(content, "data/raw/train.csv", ("a", "b"))
    assert str(refused.value).startswith("data/raw/train.csv: got ")
    assert fault in str(refused.value)


def test_the_line_is_the_same_bytes_everywhere_and_is_y_2x() -> None:
    arrays = made.line()
    digest = hashlib.sha256(b"".join(formats.write_csv(("x", "y"), rows) for rows in arrays.values())).hexdigest()
    assert digest == "bc5d394dfe61ef9c365c804eb19cfcbefa1a5aad5d2edb4825fb957bbaf93c9a"
    rows = np.concatenate(list(arrays.values()))
    slope, intercept = np.polyfit(rows[:, 0], rows[:, 1], 1)
    assert (slope, intercept) == pytest.approx((2, 0), abs=0.01)
    assert np.std(rows[:, 1] - 2 * rows[:, 0]) == pytest.approx(0.05, rel=0.1)


@pytest.mark.slow
def test_diabetes_are_scikit_learn_s_rows_unscaled() -> None:
    from sklearn.datasets import load_diabetes

    arrays = made.diabetes()
    assert [rows.shape for rows in arrays.values()] == [(353, 11), (89, 11)]
    bunch = load_diabetes(scaled=False)
    assert tuple(bunch.feature_names) == datasets.DATASETS["diabetes"].columns[:-1]
    whole = np.column_stack([bunch.data, bunch.target])
    assert sorted(np.concatenate(list(arrays.values())).tolist()) == sorted(whole.tolist())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", [[1, 10], [3, 10], [2, 10]]),
        ("unit", [[0, 0], [1, 0], [0.5, 0]]),
        ("symmetric", [[-1, 0], [1, 0], [0, 0]]),
        ("standard", [[-math.sqrt(1.5), 0], [math.sqrt(1.5), 0], [0, 0]]),
    ],
)
def test_each_column_has_constants_of_its_own(name: str, expected: list[list[float]]) -> None:
    rows = np.array([[1.0, 10.0], [3.0, 10.0], [2.0, 10.0]])
    scaling = fit_columns(name, rows)
    assert json.loads(json.dumps(vars(scaling))) == vars(scaling)
    scaled = scaling.apply(rows)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    np.testing.assert_allclose(scaling.undo(scaled), rows, rtol=1e-6)
    column = fit_columns(name, rows[:, 0])
    np.testing.assert_allclose(column.apply(rows[:, 0]), np.array(expected)[:, 0], rtol=1e-6)


def test_normalize_writes_scaled_features_and_targets(tmp_path: Path) -> None:
    folder, statistics = normalized(tmp_path, LINE)
    assert (statistics["task"], statistics["shape"], statistics["class_names"]) == ("regression", [1], [])
    assert statistics["images"] == {"train": 720, "validation": 80, "test": 200}
    splits = {name: read_split(folder, name, statistics) for name in ("train", "validation", "test")}
    train = splits["train"]
    assert {path.name for path in folder.glob("*.npy")} == {
        f"{split}_{kind}.npy" for split in splits for kind in ("features", "targets")
    }
    assert (train.inputs.dtype, train.inputs.shape) == (np.float32, (720, 1))
    assert (train.targets.dtype, train.targets.shape) == (np.float32, (720,))
    assert (train.inputs.mean(), train.targets.mean()) == pytest.approx((0, 0), abs=1e-6)
    assert (train.inputs.std(), train.targets.std()) == pytest.approx((1, 1), abs=1e-6)
    inputs, target = Scaling(**statistics["scaling"]), Scaling(**statistics["target"])
    with (tmp_path / "raw" / "test.csv").open() as file:
        rows = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    test = splits["test"]
    back = np.column_stack([inputs.undo(test.inputs)[:, 0], target.undo(test.targets)])
    np.testing.assert_allclose(back, rows, atol=1e-6)
    question = task_spec.task_spec_from(statistics)
    assert question == TaskSpec("regression", (1,), 1, target)
    assert question.outputs == 1


def test_a_damaged_table_is_noticed_and_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = small.params(LINE)
    fetch.fetch_dataset(chosen, tmp_path / "raw", tmp_path / "downloads")
    before = (tmp_path / "raw" / "train.csv").read_bytes()
    (tmp_path / "raw" / "train.csv").write_bytes(before.replace(b"1", b"2"))
    with pytest.raises(DataError, match="not the file that the stage 'fetch' wrote"):
        normalize.normalize_dataset(chosen, tmp_path / "raw", tmp_path / "normalized")
    fetch.fetch_dataset(chosen, tmp_path / "raw", tmp_path / "downloads")
    assert "not as fetch wrote it (train.csv). It is made anew." in capsys.readouterr().out
    assert (tmp_path / "raw" / "train.csv").read_bytes() == before


@pytest.mark.slow
def test_another_dataset_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    for changes, names in (
        (LINE, {"train.csv", "test.csv"}),
        ({}, {*fetch._IMAGES}),
        (LINE, {"train.csv", "test.csv"}),
    ):
        fetch.fetch_dataset(small.params(changes), tmp_path / "raw", tmp_path / "downloads")
        assert {path.name for path in (tmp_path / "raw").iterdir()} == {*names, "dataset.json"}


@pytest.mark.slow
def test_one_class_against_the_rest_has_the_images_of_all_classes(tmp_path: Path) -> None:
    own, statistics = normalized(tmp_path / "binary", BINARY)
    every, of_all = normalized(tmp_path / "classes", {})
    assert (statistics["task"], statistics["class_names"]) == ("binary", ["not 3", "3"])
    assert task_spec.task_spec_from(statistics) == TaskSpec("binary", (28, 28, 1), 2)
    assert task_spec.task_spec_from(statistics).outputs == 1
    for name in ("train", "validation", "test"):
        one, other = read_split(own, name, statistics), read_split(every, name, of_all)
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.targets, other.targets == 3)
        assert statistics["class_counts"][name] == [(one.targets == 0).sum(), (one.targets == 1).sum()]


def test_targets_and_what_outputs_mean() -> None:
    labels = np.array([2, 0, 1])
    np.testing.assert_array_equal(task_spec.make_targets(labels, 3), np.eye(3)[labels])
    np.testing.assert_array_equal(task_spec.make_targets(labels[1:], 2), [[0], [1]])
    np.testing.assert_array_equal(task_spec.make_targets(np.array([0.5, -2], np.float32), 1), [[0.5], [-2]])
    for classes in (1, 2, 3):
        assert task_spec.make_targets(labels[1:], classes).dtype == np.float32
    assert task_spec.predicted_classes(task_spec.make_targets(labels, 3)).tolist() == [2, 0, 1]
    assert task_spec.predicted_classes(np.array([[0.5], [0.51], [0.0]])).tolist() == [0, 1, 0]


# Their names.


def test_the_headline_is_of_the_metrics_that_are_there() -> None:
    accuracy = {"test/loss": 1.0, "test/accuracy": 0.5, "test/accuracy_low": 0.4, "test/accuracy_high": 0.6}
    assert tasks.format_headline(accuracy) == "test/accuracy 0.5000 [0.4000, 0.6000]"
    assert tasks.format_headline({**accuracy, "test/roc_auc": 0.75}).endswith("0.6000], test/roc_auc 0.7500")
    number = {"test/r2": 0.5, "test/mean_absolute_error": 2.0, "test/mean_squared_error": 9.0}
    assert tasks.format_headline(number) == "test/r2 0.5000, test/mean_absolute_error 2.0000"


@pytest.mark.parametrize("metric", ["accuracy", "mean_absolute_error"])
def test_the_history_tells_its_metric(metric: str) -> None:
    columns = ["epoch", "train/loss", f"train/{metric}", "val/loss", f"val/{metric}", "train/learning_rate"]
    assert tasks.metric_beside_loss(dict.fromkeys(columns)) == metric


# Their numbers, against scikit-learn.


def drawn(count: int = 400) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Outputs of a network that knows something, and the labels."""
    random = np.random.default_rng(0)
    labels = (random.random(count) < 0.2).astype(np.int64)
    outputs = 1 / (1 + np.exp(-(2 * labels - 1 + random.normal(0, 1.5, count))))
    return outputs.astype(np.float32)[:, np.newaxis], labels


@pytest.mark.slow
def test_binary_scores_are_scikit_learn_s() -> None:
    from sklearn import metrics as reference

    from keras_pipeline.evaluation import binary

    outputs, labels = drawn()
    share, said = outputs[:, 0].astype(float), outputs[:, 0] > 0.5
    scores = binary.binary_scores(outputs, labels, "binary_crossentropy", 0.25, 10)
    expected = {
        "accuracy": reference.accuracy_score(labels, said),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, said),
        "precision": reference.precision_score(labels, said),
        "recall": reference.recall_score(labels, said),
        "f1": reference.f1_score(labels, said),
        "roc_auc": reference.roc_auc_score(labels, share),
        "average_precision": reference.average_precision_score(labels, share),
        "log_loss": reference.log_loss(labels, share),
        "brier_score": np.mean((share - labels) ** 2),
        "loss": reference.log_loss(labels, share) + 0.25,
    }
    for name, value in expected.items():
        assert scores[f"test/{name}"] == pytest.approx(value, rel=1e-6), name
    assert 0 < scores["test/calibration_error"] < 1
    assert scores["test/accuracy_low"] < scores["test/accuracy"] < scores["test/accuracy_high"]
    squared = binary.binary_scores(outputs, labels, "mean_squared_error", 0.0, 10)
    assert squared["test/loss"] == pytest.approx(squared["test/brier_score"], rel=1e-6)


@pytest.mark.slow
def test_the_curves_enclose_the_areas() -> None:
    from keras_pipeline.evaluation import binary

    outputs, labels = drawn()
    scores = binary.binary_scores(outputs, labels, "binary_crossentropy", 0.0, 10)
    roc = binary.roc_curve(outputs, labels)
    false, true = ([row[key] for row in roc] for key in ("false_positive_rate", "true_positive_rate"))
    assert ((false[0], true[0]), (false[-1], true[-1])) == ((0, 0), (1, 1))
    assert np.trapezoid(true, false) == pytest.approx(scores["test/roc_auc"], abs=1e-12)
    curve = binary.precision_recall_curve(outputs, labels)
    recall, precision = (np.array([row[key] for row in curve]) for key in ("recall", "precision"))
    area = -np.sum(np.diff(recall) * precision[:-1])
    assert area == pytest.approx(scores["test/average_precision"], abs=1e-12)
    assert (roc[0]["threshold"], curve[-1]["threshold"]) == (None, None)
    json.dumps([roc, curve], allow_nan=False)
    many = drawn(20_000)
    assert len(binary.precision_recall_curve(*many)) == binary.MOST_POINTS


@pytest.mark.slow
def test_binary_intervals_hold_what_other_images_would_give() -> None:
    """Of 200 test splits of one network, about 95 % have an interval around the network's own value."""
    from keras_pipeline.evaluation import binary

    many, labels = drawn(100_000)
    truth = binary.binary_scores(many, labels, "binary_crossentropy", 0.0, 10)
    random = np.random.default_rng(1)
    held: dict[str, list[bool]] = {}
    for _ in range(200):
        chosen = random.integers(len(labels), size=300)
        for name, (low, high) in binary.binary_intervals(many[chosen], labels[chosen]).items():
            held.setdefault(name, []).append(low <= truth[name] <= high)
    assert set(held) == {
        f"test/{name}" for name in ("accuracy", "precision", "recall", "roc_auc", "log_loss", "brier_score")
    }
    for name, each in held.items():
        assert 0.88 <= np.mean(each) <= 1, name


@pytest.mark.slow
@pytest.mark.parametrize("value", [0, 1])
def test_a_test_split_of_one_class_is_refused(value: int) -> None:
    from keras_pipeline.evaluation import binary

    with pytest.raises(DataError, match=f"all 5 test images are of class {value}; expected both"):
        binary.binary_scores(np.full((5, 1), 0.5, np.float32), np.full(5, value), "binary_crossentropy", 0.0, 10)


@pytest.mark.slow
def test_regression_scores_are_scikit_learn_s() -> None:
    from sklearn import metrics as reference

    from keras_pipeline.evaluation import regression

    random = np.random.default_rng(0)
    true = random.normal(5, 3, 500)
    predicted = true + random.normal(0, 1, 500)
    scores = regression.regression_scores(predicted, true)
    assert scores == pytest.approx(
        {
            "test/r2": reference.r2_score(true, predicted),
            "test/mean_squared_error": reference.mean_squared_error(true, predicted),
            "test/root_mean_squared_error": reference.mean_squared_error(true, predicted) ** 0.5,
            "test/mean_absolute_error": reference.mean_absolute_error(true, predicted),
        },
        rel=1e-12,
    )
    intervals = regression.regression_intervals(predicted, true, seed=1)
    assert set(intervals) == set(scores)
    for name, (low, high) in intervals.items():
        assert low < scores[name] < high, name
    assert intervals == regression.regression_intervals(predicted, true, seed=1)
    assert intervals["test/r2"][1] - intervals["test/r2"][0] < 0.1


@pytest.mark.slow
def test_regression_without_numbers_or_spread_is_refused() -> None:
    from keras_pipeline.core.errors import DivergedError
    from keras_pipeline.evaluation import regression

    with pytest.raises(DivergedError, match="1 of 3 predictions are not finite"):
        regression.regression_scores(np.array([1, np.nan, 2]), np.arange(3.0))
    with pytest.raises(DataError, match="the 3 test targets do not differ"):
        regression.regression_scores(np.arange(3.0), np.ones(3))


@pytest.mark.slow
def test_the_figures_say_what_is_in_them() -> None:
    from keras_pipeline.evaluation import binary, figures

    outputs, labels = drawn()
    random = np.random.default_rng(0)
    true = random.normal(5, 3, 50)
    drawings = {
        "ROC curve of '$x$ & y' against the rest: area 0.9000": figures.draw_roc(
            binary.roc_curve(outputs, labels), 0.9, "$x$ & y"
        ),
        "average precision 0.8000": figures.draw_precision_recall(
            binary.precision_recall_curve(outputs, labels), 0.8, 0.2, "3"
        ),
        "R² 0.5000": figures.draw_predicted(true + 1, true, "y", 0.5),
        "over 50 test rows": figures.draw_residuals(true + random.normal(0, 1, 50), true, "y"),
    }
    for text, figure in drawings.items():
        titles = [axes.get_title() for axes in figure.axes] + [figure.get_suptitle()]
        assert any(text in title for title in titles), titles
        content = io.BytesIO()
        figure.savefig(content, dpi=figures.DOTS_PER_INCH)
        assert len(content.getvalue()) > 10_000


def test_an_architecture_that_cannot_take_the_inputs_is_refused_also_where_no_task_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(tasks.TASKS, "regression", replace(tasks.TASKS["regression"], unsuitable_architectures=()))
    with pytest.raises(
        ParamsError, match=r"model\.architecture: 'cnn' does not fit the dataset: Conv2D needs \(height"
    ):
        small.params({**LINE, "model.architecture": "cnn"})
