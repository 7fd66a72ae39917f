"""Many broken files."""

import pytest

from programs import run_program

pytestmark = pytest.mark.proof


def test_broken_params_studies_and_searches_are_refused_with_a_place_or_read_as_dvc_reads_them() -> None:
    """Of 10,000 broken params files and 1,000 studies and searches each is refused with line and column, or read with
    DVC's values: no traceback, within a second, in less than 300 MB, and nothing is written."""
    printed = run_program("mutated_params.py", "--count", "10000", "--others", "1000", "--seed", "2")
    assert " 0 faults; " in printed.splitlines()[-1], printed
