"""Which trainings the conformance check compares, and what it says of those that cannot be had."""

import json
from typing import Any

import pytest

import small
from keras_pipeline.audit import conformance, conformance_report
from keras_pipeline.audit.conformance import PLACEMENTS


def planned(*names: str) -> tuple[Any, Any]:
    values = json.loads(small.params_text({}))
    for key, value in {**conformance.PLAIN, **conformance.SMALL}.items():
        conformance.set_value(values, key, value)
    images = {"train": conformance.SMALL_IMAGES, "validation": conformance.SMALL_VALIDATION}
    return conformance.plan_cells(values, PLACEMENTS, names, images)


@pytest.mark.usefixtures("installed")
def test_one_device_is_trained_first_and_what_is_refused_not_at_all() -> None:
    cells, tasks = planned("plain", "per_replica", "synchronized", "one_more")
    assert [place.strategy for place in list(tasks)[:3]] == ["none"] * 3
    refused = {(name, place.strategy) for name, place in cells}
    assert ("synchronized", "ddp") in refused
    assert ("per_replica", "data_parallel") in refused
    assert {strategy for name, strategy in refused if name == "one_more"} == {
        "mirrored", "multi_worker", "data_parallel", "ddp",
    }  # fmt: skip
    assert not any(cell.wrong for cell in cells.values())
    assert not any(name == "plain" for name, _ in refused)


@pytest.mark.usefixtures("installed")
def test_a_refusal_is_said_once_below_the_table() -> None:
    cells, _ = planned("per_replica", "synchronized")
    places = [place for place in PLACEMENTS if place.strategy in ("data_parallel", "ddp")]
    cells |= {
        (name, place): conformance_report.Cell("equal 0")
        for name in ("per_replica", "synchronized")
        for place in places
    } | cells
    lines = list(conformance._strategies(["per_replica", "synchronized"], places, cells))
    assert [line.split(" | ", 2)[2] for line in lines[2:4]] == [
        "refused (1) | refused (1) | refused (1) | equal 0 |",
        "equal 0 | equal 0 | equal 0 | refused (2) |",
    ]
    assert lines[-2:] == [
        "1. train.batch_statistics: 'per_replica' does not work with strategy 'data_parallel'.",
        "2. train.batch_statistics: 'synchronized' does not work with strategy 'ddp'.",
    ]


def test_a_backend_that_is_not_installed_is_said_and_no_failure(installed: set[str]) -> None:
    installed.remove("jax")
    cells, tasks = planned("plain", "synchronized")
    assert {place.backend for place in tasks} == {"tensorflow", "torch"}
    absent = {cell for (_, place), cell in cells.items() if place.backend == "jax"}
    assert absent == {conformance_report.Cell("not installed: pip install -e '.[jax]'")}


def test_every_several_of_the_strategies_is_checked() -> None:
    assert [place.name for place in PLACEMENTS if place.fused] == ["none, tensorflow, fused", "none, jax, fused"]
    assert {place.strategy for place in PLACEMENTS if not place.fused} == {
        "one_device", "mirrored", "multi_worker", "data_parallel", "ddp",
    }  # fmt: skip
    assert {place.replicas for place in PLACEMENTS if place.strategy in ("mirrored", "data_parallel")} == {2, 4}
