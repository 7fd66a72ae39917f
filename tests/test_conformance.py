"""The conformance check: that it tells right from wrong, and that every strategy is right."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small
from keras_pipeline.audit import conformance, conformance_report, determinism
from keras_pipeline.audit.conformance import FEATURES, PLACEMENTS, Placement
from keras_pipeline.audit.conformance_report import Tolerance
from keras_pipeline.core.errors import ParamsError

PROGRAM = Path(sys.executable).parent / "keras-pipeline"


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


def test_the_matrix_gives_the_same_bytes_the_same_letter() -> None:
    one, two = Placement("none", "tensorflow"), Placement("ddp", "torch", workers=2)
    cells: determinism.Cells = {
        (one, "on", 1): ["x", "x"],
        (one, "on", 2): ["x", "y"],
        (one, "off", 1): ["z", "z"],
        (one, "off", 2): ["y", "y"],
        (two, "-", 1): ["x", "x"],
        (two, "-", 2): [],
    }
    assert list(determinism._table(cells))[2:] == [
        "| none, tensorflow | on | 2 runs: A | 2 runs: A, B |",
        "| none, tensorflow | off | 2 runs: C | 2 runs: B |",
        "| ddp, 2 workers | - | 2 runs: A | not installed |",
    ]


BACKENDS = [
    "tensorflow",
    pytest.param("jax", marks=pytest.mark.needs_jax),
    pytest.param("torch", marks=pytest.mark.needs_torch),
]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_strategy_trains_what_one_device_does(backend: str, tmp_path: Path) -> None:
    """The other backends are hidden: their cells say so, and cost no training."""
    (tmp_path / "params.yaml").write_bytes(small.params_text({}))
    features = ("plain", "dropout", "synchronized", "per_replica", "one_more")
    strategies = dict.fromkeys(place.strategy for place in PLACEMENTS if place.backend == backend)
    asked = [option for name in features for option in ("--feature", name)]
    asked += [option for name in strategies for option in ("--strategy", name)]
    done = subprocess.run(
        [PROGRAM, "conformance", "--epochs", "3", *asked],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    head, _, *rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")][:7]
    table = {row[0]: dict(zip(head[2:], row[2:], strict=True)) for row in rows}
    assert set(table) == {FEATURES[name].title for name in features}
    for place in PLACEMENTS:
        if place.strategy not in strategies:
            assert not any(place.name in row for row in table.values())
            continue
        plain, dropout, synchronized, per_replica, one_more = (
            table[FEATURES[name].title][place.name] for name in features
        )
        if place.backend not in (backend, "tensorflow"):
            assert {plain, dropout} == {f"not installed: pip install -e '.[{place.backend}]'"}
            continue
        assert plain.startswith("equal")
        assert synchronized.startswith("refused" if place.strategy == "ddp" else "equal")
        alike = place.replicas == 1 or place.strategy == "data_parallel"
        assert dropout.startswith("equal" if alike else "differs, as it must")
        if place.strategy == "one_device":
            assert {plain, dropout, synchronized, per_replica, one_more} == {"equal 0 · 0 · 0"}
        elif place.fused:
            assert per_replica.startswith("equal")
            assert one_more.startswith("equal")
        else:
            assert per_replica.startswith("refused" if place.strategy == "data_parallel" else "differs, as it must")
            assert one_more.startswith("refused")


FAULTS = """\
from dataclasses import replace
from keras_pipeline.models import architectures; from keras_pipeline.distribution import strategies

ddp, build = strategies.STRATEGIES["ddp"], architectures.build_network
# Each process takes the mean over its own share for that over the batch.
strategies.STRATEGIES["ddp"] = replace(
    ddp, open=lambda devices, cluster: replace(ddp.open(devices, cluster), loss_parts=1)
)
# Statistics are of each replica, whatever the params say.
architectures.build_network = lambda *values, synchronized=False, **others: build(*values, **others)
"""


@pytest.mark.slow
@pytest.mark.needs_torch
def test_a_strategy_that_trains_something_else_is_found(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(small.params_text({}))
    (tmp_path / "sitecustomize.py").write_text(FAULTS)  # which each process of the command imports when it starts
    options = ["--strategy", "ddp", "--strategy", "multi_worker", "--feature", "plain", "--feature", "synchronized"]
    done = subprocess.run(
        [PROGRAM, "conformance", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr[-3000:]
    plain, synchronized = (line.strip("| ").split(" | ")[2:] for line in done.stdout.splitlines()[4:6])
    assert plain[0].startswith("equal")
    assert plain[1].startswith("**DIFFERS** ")
    assert synchronized[0].startswith("**DIFFERS** ")
    assert synchronized[1] == "refused (1)"


@pytest.mark.slow
def test_a_training_repeated_in_one_process_gives_the_same_bytes(tmp_path: Path) -> None:
    values = json.loads(small.params_text({}))
    for key, value in {**conformance.PLAIN, **conformance.SMALL, "model.dropout": 0.3, "train.epochs": 2}.items():
        conformance.set_value(values, key, value)
    place = Placement("none", "tensorflow")
    job = conformance.make_job(values, place, FEATURES["synchronized"], 1, conformance.SMALL_IMAGES)
    data = conformance.write_small_images(tmp_path)
    task = {"data": str(data), "job": vars(job), "runs": 3}
    (tmp_path / "task.json").write_text(json.dumps(task))
    subprocess.run(
        [PROGRAM, "determinism", "--work", tmp_path], check=True, capture_output=True, timeout=300, env=os.environ
    )
    digests = json.loads((tmp_path / "digests.json").read_text())
    assert len(digests) == 3
    assert len(set(digests)) == 1
    assert re.fullmatch("[0-9a-f]{64}", digests[0])
