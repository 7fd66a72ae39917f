"""A format held against the evaluated network: what is counted, and what ends the stage."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.data.scaling import Scaling
from keras_pipeline.evaluation.multiclass import wilson_interval
from keras_pipeline.export import agreement
from keras_pipeline.export.agreement import Reference, Row, check_agreement, hold_against
from keras_pipeline.export.runtimes import Answers

OUTPUTS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5], [0.4, 0.4, 0.2]], np.float32)
CLASSES = Reference(OUTPUTS, np.array([0, 1, 0, 1]), ["cat", "dog", "\u2028"], 1, "image")
NUMBERS = Reference(np.array([[100.0], [250.0], [-3.0]], np.float32), np.array([101.0, 240.0, 0.0]), [], 1, "row")
TWO = Reference(np.array([[0.9], [0.5], [0.2]], np.float32), np.array([1, 0, 1]), ["no", "yes"], 1, "image")


def changed(reference: Reference, row: int, *values: float) -> Any:
    outputs = reference.outputs.copy()
    outputs[row] = values
    return outputs


def checked(name: str, outputs: Any, reference: Reference, accuracy_loss: float = 0.1) -> None:
    evaluated = hold_against(reference.outputs, reference)
    found = hold_against(outputs, reference)
    check_agreement(name, found, outputs, reference, evaluated, accuracy_loss)


def test_the_network_agrees_with_itself() -> None:
    for reference in (CLASSES, NUMBERS, TWO):
        found = hold_against(reference.outputs, reference)
        assert (found.largest_difference, found.flipped) == (0, ())
        checked("onnx", reference.outputs, reference)
    found = hold_against(CLASSES.outputs, CLASSES)
    assert (found.score, found.low, found.high) == (0.5, *wilson_interval(2, 4))


def test_the_largest_difference_has_its_place() -> None:
    found = hold_against(changed(CLASSES, 2, 0.2, 0.3, 0.500003), CLASSES)
    assert found.at == 2
    assert found.largest_difference == pytest.approx(3e-6, rel=0.05)
    assert found.flipped == ()


@pytest.mark.parametrize(
    ("name", "outputs", "reference", "message"),
    [
        ("onnx", changed(CLASSES, 1, 0.1, 0.79998, 0.1), CLASSES,
         r"onnx: got 0 of 4 labels flipped, a largest difference of 2e-05; test image 1: 'dog' \(0\.79998\d\d\), of "
         r"the evaluated network 'dog' \(0\.8000000\)\. Expected: no label flipped, 1e-05 at most"),
        ("javascript", changed(CLASSES, 2, 0.5, 0.3, 0.2), CLASSES,
         r"javascript: got 1 of 4 labels flipped, .*; test image 2: 'cat' \(0\.5000000\), of the evaluated network "
         r"'\\u2028' \(0\.5000000\)"),
        ("litert_float32", changed(TWO, 0, 0.4), TWO, "1 of 3 labels flipped, .* image 0: 'no' .* 'yes'"),
        ("onnx", changed(NUMBERS, 1, 250.01), NUMBERS,
         r"onnx: got a largest difference of 0\.01; test row 1: 250\.0\d+, of the evaluated network 250\. "
         r"Expected: 0\.0025 at most"),
    ],
)  # fmt: skip
def test_a_float_format_that_does_not_agree_is_refused_with_its_place(
    name: str, outputs: Any, reference: Reference, message: str
) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        checked(name, outputs, reference)
    assert "No package is left." in str(caught.value)
    assert "export.formats in params.yaml" in str(caught.value)


def test_a_number_may_differ_by_its_own_rounding() -> None:
    checked("onnx", NUMBERS.outputs + np.float32(0.002), NUMBERS)


def test_where_the_network_gives_two_classes_the_same_no_label_is_flipped() -> None:
    tie = changed(CLASSES, 3, 0.4, 0.4 + 1e-6, 0.2)
    assert tie[3].argmax() == 1 != CLASSES.outputs[3].argmax()
    assert hold_against(tie, CLASSES).flipped == ()
    checked("onnx", tie, CLASSES)
    near = replace(CLASSES, outputs=changed(CLASSES, 3, 0.400001, 0.4, 0.2))
    assert hold_against(tie, near).flipped == (3,)
    half = changed(TWO, 1, 0.5000005)
    assert hold_against(half, TWO).flipped == ()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(ModelFileError, match=r"test image 2: got the outputs .*Expected: finite numbers"):
        hold_against(changed(CLASSES, 2, 0, 0, value), CLASSES)


def test_int8_may_lose_so_many_points_and_no_more() -> None:
    worse = changed(CLASSES, 0, 0.1, 0.8, 0.1)
    checked("litert_int8", worse, CLASSES, 25)
    with pytest.raises(
        ModelFileError, match=r"litert_int8: got the accuracy 0\.2500, 25\.00 .* Expected: 24\.9 at most"
    ):
        checked("litert_int8", worse, CLASSES, 24.9)
    better = changed(CLASSES, 2, 0.5, 0.3, 0.2)
    checked("litert_dynamic_int8", better, CLASSES, 0)
    with pytest.raises(ModelFileError, match="r2"):
        checked("litert_dynamic_int8", changed(NUMBERS, 1, 50), NUMBERS)


def test_a_number_is_compared_in_its_own_units() -> None:
    target = Scaling("standard", 150.0, 77.0)
    scaled = np.array([[0.0], [1.0]], np.float32)
    assert agreement.in_units(scaled, target).tolist() == [[150.0], [227.0]]
    assert agreement.in_units(scaled, None) is scaled


def rows(reference: Reference) -> list[Row]:
    measured = Answers(reference.outputs, 0.000125, 0.001, 0.5, 123_456_789)
    found = hold_against(reference.outputs, reference)
    return [Row("evaluated", found, 1000), Row("onnx", found, 900, measured), Row("litert_int8", found, 300, measured)]


def test_metrics_are_of_agreement_and_times_stand_apart() -> None:
    metrics = agreement.agreement_metrics(rows(CLASSES), CLASSES, 42)
    assert metrics["export/parameters"] == 42
    assert [key for key in metrics if "/onnx/" in key] == [
        f"export/onnx/{name}"
        for name in ("largest_difference", "labels_flipped", "accuracy", "accuracy_low", "accuracy_high", "bytes")
    ]
    assert not any("latency" in key or "second" in key for key in metrics)
    times = agreement.time_metrics(rows(CLASSES))
    assert times["export/onnx/latency_median_ms"] == 0.125
    assert times["export/litert_int8/inputs_per_second"] == 8
    assert times["export/onnx/peak_memory_mb"] == 123.5
    of_numbers = agreement.agreement_metrics(rows(NUMBERS), NUMBERS, 42)
    assert "export/onnx/r2" in of_numbers
    assert "export/onnx/labels_flipped" not in of_numbers


def test_the_table_has_a_row_for_the_network_and_each_format() -> None:
    network, onnx, _ = agreement.table(rows(CLASSES), CLASSES, 42)
    assert (network["format"], network["bytes"], network["latency_median_ms"]) == ("evaluated", 1000, "")
    assert (onnx["format"], onnx["bytes"], onnx["parameters"], onnx["peak_memory_mb"]) == ("onnx", 900, 42, 123.5)
    assert list(network) == list(onnx)
