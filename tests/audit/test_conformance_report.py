"""What the conformance check says: that it tells right from wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_pipeline.audit import conformance_report
from keras_pipeline.audit.conformance_report import Tolerance
from keras_pipeline.core.errors import ParamsError


def results(**changes: Any) -> dict[str, Any]:
    made = {
        "train/loss": np.array([1.0, 0.5, 0.3]),
        "val/loss": np.array([0.9, 0.6, 0.4]),
        "val/accuracy": np.array([0.6, 0.8, 0.9]),
        "train/learning_rate": np.array([0.1, 0.1, 0.1]),
        "weights/0": np.zeros((2, 3)),
        "weights/1": np.ones(3),
    }
    return {**made, **changes}


def verdict(found: dict[str, Any], *, may_differ: bool = False, reference: dict[str, Any] | None = None) -> Any:
    return conformance_report.compare_results(reference or results(), found, Tolerance(), may_differ=may_differ)


def test_the_same_is_equal_and_rounding_too() -> None:
    assert verdict(results()) == conformance_report.Cell("equal 0 · 0 · 0")
    almost = results(**{"train/loss": np.array([1.0, 0.5, 0.300003]), "weights/1": np.full(3, 1.00005)})
    assert verdict(almost).text == "equal 3e-6 · 0 · 5e-5"


@pytest.mark.parametrize(
    "changes",
    [
        {"train/loss": np.array([1.0, 0.5, 0.30002])},
        {"val/loss": np.array([0.9, 0.60002, 0.4])},
        {"weights/0": np.full((2, 3), 2e-4)},
        {"weights/0": np.zeros((3, 2))},
        {"weights/1": np.array([1.0, np.nan, 1.0])},
        {"train/loss": np.array([1.0, 0.5])},
        {"train/learning_rate": np.array([0.1, 0.05, 0.05])},
    ],
)
def test_whatever_is_not_as_on_one_device_is_wrong(changes: dict[str, Any]) -> None:
    cell = verdict(results(**changes))
    assert cell.wrong
    assert cell.text.startswith("**DIFFERS**")


def test_weights_that_are_missing_or_too_many_are_wrong() -> None:
    fewer = results()
    del fewer["weights/1"]
    assert verdict(fewer).wrong
    assert verdict(results(**{"weights/2": np.ones(3)})).wrong
    assert verdict(results(), reference=results(**{"best/0": np.ones(3)})).wrong


def test_what_may_differ_must_be_finite_and_learn_alike() -> None:
    other = {"train/loss": np.array([1.1, 0.6, 0.35]), "val/accuracy": np.array([0.5, 0.8, 0.81])}
    assert verdict(results(**other), may_differ=True).text.startswith("differs, as it must: ")
    assert not verdict(results(**other), may_differ=True).wrong
    assert verdict(results(**other)).wrong
    assert verdict(results(**{**other, "train/loss": np.array([1.1, 1.1, 1.1])}), may_differ=True).wrong
    assert verdict(results(**{**other, "val/accuracy": np.array([0.6, 0.8, 0.79])}), may_differ=True).wrong
    assert verdict(results(**{**other, "weights/1": np.full(3, np.inf)}), may_differ=True).wrong


def test_backends_are_compared_up_to_where_they_part() -> None:
    assert conformance_report.agreement(results(), results()) == "3 of 3 epochs, 0"
    parted = results(**{"val/loss": np.array([0.9, 0.600001, 0.41])})
    assert conformance_report.agreement(results(), parted) == "2 of 3 epochs, 1e-6; then 1e-2"


def test_a_page_is_changed_between_its_comments_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- conformance: x -->\nold\n<!-- end of conformance: x -->\nafter\n")
    conformance_report.replace_section(page, "x", "new")
    conformance_report.replace_section(page, "x", "newer")
    assert page.read_text() == ("before\n<!-- conformance: x -->\n\nnewer\n\n<!-- end of conformance: x -->\nafter\n")
    with pytest.raises(ParamsError, match="has no lines '<!-- conformance: y -->' and"):
        conformance_report.replace_section(page, "y", "new")
