"""The tasks beside the choice of a class: what decides which it is, what is refused, and their names."""

from typing import Any

import pytest

import small
from keras_pipeline.checks import network_fit
from keras_pipeline.config import layers, tasks
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.models import architectures
from small_tasks import BINARY, LINE

# What is said of scores.


@pytest.mark.parametrize(
    ("values", "said"),
    [([0.0, 0.01], ""), ([0.5], ", no better than a constant answer"), ([], ""),
     ([0.5, 1.0], ", no better than a constant answer"), ([0.0, 1.0], ", 1 of 2 no better than a constant answer")],
)  # fmt: skip
def test_how_many_are_of_no_use(values: list[float], said: str) -> None:
    assert tasks.describe_useless([{"test/p_no_better_than_constant": one} for one in values]) == said


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [(0.98765, "", "0.9877"), (-2.0, "", "-2.0000"), (0.5, "+", "+0.5000"), (8.9e9, "", "8.9e+09"),
     (-1.9538145703719e19, "+", "-1.954e+19")],
)  # fmt: skip
def test_an_exploded_loss_can_still_be_read(value: float, sign: str, text: str) -> None:
    assert tasks.format_score(value, sign) == text


# Which task it is.


def test_of_two_classes_the_second_is_against_the_rest() -> None:
    assert tasks.select_task(("cat", "dog"), "none").name == "binary"
    assert tasks.select_task(("cat", "dog", "cow"), "none").name == "classes"
    assert tasks.select_task(("cat", "dog", "cow"), 2).name == "binary"


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
            "model.architecture: 'cnn' is for images, and the dataset is a table. Use mlp or layers."]),
        ({**LINE, "normalize.positive_class": 3}, [
            "normalize.positive_class: the dataset 'line' has no classes: a number is predicted. "
            "Use none, or a dataset with classes."]),
        ({**LINE, "train.early_stopping.monitor": "val/accuracy"}, [
            "train.early_stopping.monitor: a number is predicted from the dataset 'line', and none is right or wrong. "
            "Use val/loss."]),
        ({**LINE, "train.class_weights": "balanced"}, [
            "train.class_weights: the dataset 'line' has no classes. Use none."]),
        ({**LINE, "train.augmentation.shift": 1.0}, [
            "train.augmentation: images are deformed, and the dataset 'line' is a table. "
            "Use 0 for shift, rotation, scale and elastic, and horizontal_flip: false."]),
        ({**LINE, "model.architecture": "layers", "model.layers": [{"layer": "MaxPooling2D"}]}, [
            "model.layers[0]: MaxPooling2D needs (height, width, channels), but gets 1 values. "
            "Put it before Flatten."]),
        ({**BINARY, "normalize.positive_class": 10}, [
            "normalize.positive_class: '10' is no class of the dataset. Its 10 classes are '0', '1', '2', '3', '4', "
            "'5', '6', '7', '8', '9'. Use one of them, its number 0 … 9, or none. Did you mean '1'?"]),
        ({**BINARY, "fetch.dataset": "fashion_mnist", "normalize.positive_class": "Trousers"}, [
            "normalize.positive_class: 'Trousers' is no class of the dataset. Its 10 classes are 'T-shirt/top', "
            "'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'. Use one of "
            "them, its number 0 … 9, or none. Did you mean 'Trouser'?"]),
        ({"model.architecture": "cnn", "model.filters": [4] * 5}, [
            "model.filters: each of 5 is followed by a pooling that halves the image, and images of 28 × 28 can be "
            "halved 4 times. Use 4 filters at most."]),
        ({"train.augmentation.shift": 15.0, "train.augmentation.smoothness": 20.0}, [
            "train.augmentation.shift: 15 pixels are more than half of the smaller side of images of 28 × 28. "
            "Use 14 at most."]),
        ({"train.augmentation.elastic": 14.5, "train.augmentation.smoothness": 20.0}, [
            "train.augmentation.elastic: 14.5 pixels are more than half of the smaller side of images of 28 × 28. "
            "Use 14 at most.",
            "train.augmentation.smoothness: 20 pixels are more than half of the smaller side of images of 28 × 28. "
            "Use 14 at most."]),
        ({**LINE, "train.augmentation.horizontal_flip": True}, [
            "train.augmentation: images are deformed, and the dataset 'line' is a table. "
            "Use 0 for shift, rotation, scale and elastic, and horizontal_flip: false."]),
        ({**LINE, "export.formats": ["onnx", "litert_int8"]}, [
            "export.formats[1]: 'litert_int8' has one scale of 256 steps for all columns of a table, and the dataset "
            "'line' is one. Use litert_dynamic_int8."]),
        ({"export.formats": ["onnx", "onnx"]}, ["export.formats: 'onnx' stands there twice. Expected: each once."]),
        ({"normalize.positive_class": -1}, [
            "normalize.positive_class: -1 is not accepted. Expected: a whole number, 0 <= value or the name of a class "
            "in one line, or none."]),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], expected: list[str]) -> None:
    assert faults(changes) == expected


def test_a_table_needs_no_flatten() -> None:
    own = {"model.architecture": "layers", "model.layers": [{"layer": "Dense", "units": 8, "activation": "relu"}]}
    assert small.params({**LINE, **own}).model.layers


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


@pytest.mark.parametrize(
    ("names", "asked", "found"),
    [
        (("cat", "dog", "7"), "dog", 1),
        (("cat", "dog", "7"), 7, 2),  # a number is a name first
        (("cat", "dog", "7"), 0, 0),
        (("cat", "dog"), "none", None),
        (("cat", "none"), "none", None),
    ],
)
def test_a_class_is_found_by_its_name_or_its_number(
    names: tuple[str, ...], asked: int | str, found: int | None
) -> None:
    assert tasks.find_class(names, asked) == found


def test_of_many_classes_a_message_lists_some() -> None:
    with pytest.raises(ValueError, match=r"Its 1,000 classes are 'c0', .*'c11', 988 more\. Use one of them") as refused:
        tasks.find_class([f"c{number}" for number in range(1000)], "C999")
    assert str(refused.value).endswith("Did you mean 'c999'?")


def test_limits_of_deformations_follow_the_images() -> None:
    small_field = small.params({"train.augmentation.elastic": 1.0}).train.augmentation
    assert not [*small_field.size_faults((28, 28, 1))]
    assert [str(fault) for fault in small_field.size_faults((96, 120, 3))] == [
        "4 pixels are less than a twentieth of the smaller side of images of 96 × 120. Use 4.8 at least, or elastic: 0."
    ]
    assert [fault.key[-1] for fault in small_field.model_copy(update={"shift": 3.0}).size_faults((5, 40, 1))] == [
        "shift", "smoothness",
    ]  # fmt: skip


@pytest.mark.parametrize(("shape", "most"), [((8, 8, 3), 3), ((8, 7, 1), 2), ((256, 300, 1), 8), ((1, 9, 1), 0)])
def test_poolings_fit_as_often_as_the_image_can_be_halved(shape: tuple[int, ...], most: int) -> None:
    of_images = small.params({"model.architecture": "cnn", "model.filters": [2]}).model
    for count in range(1, 9):
        chosen = of_images.model_copy(update={"filters": (2,) * count})
        faults = [*network_fit.network_faults(chosen, shape)]
        assert bool(faults) == (count > most)
        if not faults:
            layers.shapes(architectures.hidden_layers(chosen), shape)
        else:
            way_out = f"Use {most} filters at most" if most else "Use another architecture"
            assert str(faults[0]).endswith(f"{way_out}.")
