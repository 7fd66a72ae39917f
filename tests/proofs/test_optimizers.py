"""Optimizers at the edges of what params.yaml may say."""

import pytest

from keras_pipeline.config.optimizers import OPTIMIZERS
from validated_optimizers import covering, made, steps, validated

pytestmark = pytest.mark.proof


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_the_check_lets_through_keras_takes_in_pairs(name: str) -> None:
    """What the check of params.yaml lets through of an optimizer, Keras takes: every pair of edges of two ranges."""
    for arguments in covering(name):
        steps(made(validated(name, **arguments)))  # together extremes may grow without end; Keras must take them
