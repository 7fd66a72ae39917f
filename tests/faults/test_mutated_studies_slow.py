"""The files of a study and a search changed: read, mended by the next run, or refused with a remedy."""

from pathlib import Path

import pytest

import mutated_studies

pytestmark = pytest.mark.slow
FEW = 2


def test_a_changed_file_of_a_study_or_a_search_is_read_or_refused(tmp_path: Path) -> None:
    """About so many of each file; all of them are tried in tests/proofs."""
    said: list[str] = []
    assert not mutated_studies.try_mutants(tmp_path, FEW, said.append), "\n".join(said)
