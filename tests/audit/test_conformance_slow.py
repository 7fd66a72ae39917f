"""The conformance check for real: a strategy that is right, and one that is not."""

import os
import subprocess
from pathlib import Path

import pytest

import conformance_table
import small
from keras_pipeline.audit import conformance
from places import PROGRAM

pytestmark = pytest.mark.slow


def test_replicas_train_what_one_device_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all strategies, more replicas and all features see tests/proofs."""
    few = [place for place in conformance.PLACEMENTS if place.replicas <= 2]
    monkeypatch.setattr(conformance, "PLACEMENTS", few)
    (tmp_path / "params.yaml").write_bytes(small.params_text({}))
    command = [str(PROGRAM), "conformance", "--work"]
    features = ["plain", "per_replica"]
    printed, good = conformance.check_conformance(
        tmp_path / "params.yaml", None, 3, ["none", "mirrored"], features, command
    )
    assert good
    table = conformance_table.read(printed, 2)
    plain, per_replica = (table[conformance.FEATURES[name].title] for name in features)
    for place in ("none, tensorflow, fused", "mirrored, 2 devices"):
        assert plain[place].startswith("equal")
        assert per_replica[place].startswith("differs, as it must" if place.startswith("mirrored") else "equal")


@pytest.mark.needs_jax
def test_fused_steps_of_jax_train_what_one_device_does(tmp_path: Path) -> None:
    conformance_table.check_strategies(tmp_path, "jax", "none")


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
    elsewhere = tmp_path / "modules"  # the current folder is no place for modules
    elsewhere.mkdir()
    (elsewhere / "sitecustomize.py").write_text(FAULTS)  # which each process of the command imports when it starts
    options = ["--strategy", "ddp", "--strategy", "multi_worker", "--feature", "plain", "--feature", "synchronized"]
    done = subprocess.run(
        [PROGRAM, "conformance", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(elsewhere)},
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
