"""Every strategy trains what one device does."""

from pathlib import Path

import pytest

import conformance_table

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
