"""What `params check` accepts can be trained, and no key is left out of what is tried."""

import subprocess
import sys

import pytest

import extreme_params
import small
from keras_pipeline.config.params import flatten
from places import SUPPORT

pytestmark = pytest.mark.slow


def test_what_the_check_accepts_is_trained_and_evaluated_or_diverges() -> None:
    """A few of the draws of tests/proofs/test_params.py."""
    command = [sys.executable, str(SUPPORT / "extreme_params.py"), "7", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_every_key_is_drawn() -> None:
    apart = ("train.optimizer.", "export.")  # exports have drawn networks of their own: tests/export
    keys = {key for key, _ in flatten(small.params()) if not key.startswith(apart)}
    assert {*extreme_params.ENDS, *extreme_params.DRAWN} == {*keys, "train.optimizer"}
