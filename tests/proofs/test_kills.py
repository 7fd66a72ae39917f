"""Trainings that are killed at many moments."""

import pytest

from programs import run_program

pytestmark = [pytest.mark.proof, pytest.mark.own_processes]


@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_a_training_killed_at_random_moments_ends_in_the_same_bytes(strategy: str) -> None:
    """Trainings killed 20 times at random moments end in the bytes of one that nobody disturbs."""
    printed = run_program("kill_loop.py", "--kills", "20", "--strategy", strategy)
    assert printed.endswith("0 results differ\n"), printed


def test_dvc_repro_killed_at_its_critical_moments_ends_as_if_undisturbed() -> None:
    """`dvc repro` killed around the end of its training and the first moments of its store, 6 times each, ends with the
    same bytes and one run in MLflow that has every epoch once."""
    printed = run_program("kill_loop.py", "--end", "6", "--store", "6")
    assert printed.endswith("0 results differ\n"), printed


@pytest.mark.needs_jax
@pytest.mark.needs_torch
def test_the_death_of_a_worker_ends_all_of_them() -> None:
    """Two workers of each backend, of which one is killed while they start or train: all end within a minute, and say
    which died; 12 times."""
    printed = run_program("kill_workers.py", "--kills", "12")
    assert "12 of 12 as they have to be" in printed


def test_dvc_repro_killed_at_random_moments_from_fetch_to_track_ends_as_if_undisturbed() -> None:
    """`dvc repro` killed 20 times at moments drawn from fetch to track (all of it, DVC alone, or the stage alone; one
    device or two, fused or step by step) ends with the same bytes, one run in MLflow, and nothing left over."""
    printed = run_program("kill_anywhere.py", "--kills", "20", seconds=1800)
    assert printed.endswith("0 results differ\n"), printed


def test_commands_of_many_processes_asked_to_end_at_random_moments_leave_nothing_and_go_on() -> None:
    """`study run`, `search run`, `certify`, `debug` and `train` get 12 requests, single or double, to one process or to
    its group: no traceback, no process and no file is left, and what goes on does."""
    printed = run_program("signalled.py", "--count", "12", seconds=1800)
    assert "12 requests, 0 ends are bad" in printed, printed
