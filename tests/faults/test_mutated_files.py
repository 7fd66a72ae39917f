"""Every key of every JSON file, and every array, of a finished pipeline: read, or refused with a remedy."""

from collections.abc import Iterator

import pytest

import mutated_files
from mutated_files import Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with mutated_files.opened_bench(tmp_path_factory.mktemp("bench")) as opened:
        yield opened


@pytest.mark.parametrize("path", mutated_files.VERBS)
def test_each_mutation_of_each_place_is_refused_or_read(path: str, bench: Bench) -> None:
    count = 0
    for mutant in mutated_files.every_mutant(bench.root):
        if mutant.path == path:
            bench.check(mutant)
            count += 1
    assert count
