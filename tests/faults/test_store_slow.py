"""A store that several use at once."""

from pathlib import Path

import pytest

from many_writers import check_many_writers
from tracking_fixtures import MLFLOW_WARNINGS

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


def test_a_store_that_others_read_and_write_loses_nothing(tmp_path: Path) -> None:
    """Of 10,000 points a training see tests/proofs."""
    check_many_writers(tmp_path, epochs=60)
