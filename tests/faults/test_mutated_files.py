"""The keys of every JSON file, and every array, of a finished pipeline changed: read, or refused with a remedy."""

from collections.abc import Iterator

import pytest

import mutated_files
from mutated_files import VERBS, Bench

FEW = 40
"""About so many mutants of a file are tried here, evenly from all; all of them are tried in tests/proofs."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with mutated_files.opened_bench(tmp_path_factory.mktemp("bench")) as opened:
        yield opened


@pytest.mark.parametrize("path", VERBS)
def test_a_mutation_of_any_place_is_refused_or_read(path: str, bench: Bench) -> None:
    """One verb after the other has its turn; the program `mutated_files.py` tries any number."""
    mutants = [one for one in mutated_files.every_mutant(bench.root) if one.path == path]
    for number, mutant in enumerate(mutants[:: max(1, len(mutants) // FEW)]):
        bench.check(mutant, [VERBS[path][number % len(VERBS[path])]])
    assert mutants
