"""The conformance check for real: every strategy is right, and one that is not is found."""

import os
import subprocess
from pathlib import Path

import pytest

import small
from keras_pipeline.audit.conformance import FEATURES, PLACEMENTS
from places import PROGRAM

pytestmark = pytest.mark.slow

BACKENDS = [
    "tensorflow",
    pytest.param("jax", marks=pytest.mark.needs_jax),
    pytest.param("torch", marks=pytest.mark.needs_torch),
]


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
