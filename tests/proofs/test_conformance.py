"""Every strategy trains what one device does."""

from pathlib import Path

import pytest

import conformance_table
from keras_pipeline.audit.conformance import FEATURES

pytestmark = pytest.mark.proof

BACKENDS = [
    "tensorflow",
    pytest.param("jax", marks=pytest.mark.needs_jax),
    pytest.param("torch", marks=pytest.mark.needs_torch),
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_strategy_trains_what_one_device_does(backend: str, tmp_path: Path) -> None:
    """Every strategy of a backend trains what one device does, or refuses, or differs where it must."""
    conformance_table.check_strategies(tmp_path, backend)


def test_the_whole_matrix(tmp_path: Path) -> None:
    """Every feature of params.yaml on every strategy of TensorFlow: `keras-pipeline conformance`."""
    table = conformance_table.train(tmp_path, [], [])
    assert set(table) == {feature.title for feature in FEATURES.values()}
    assert not any("DIFFERS" in cell for row in table.values() for cell in row.values())
