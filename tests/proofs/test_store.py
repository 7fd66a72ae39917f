"""A store whose making is cut off."""

from pathlib import Path

import pytest

from crafted_databases import check_cut_offs
from tracking_fixtures import MLFLOW_WARNINGS

pytestmark = [pytest.mark.proof, MLFLOW_WARNINGS]


def test_wherever_mlflow_s_making_of_a_store_is_cut_off_it_is_recognised(tmp_path: Path) -> None:
    """A store whose making by MLflow is cut off at any of its statements is known as half made, and made anew."""
    check_cut_offs(tmp_path, 1)
