"""Every mutation of every file that a command reads."""

import json
from pathlib import Path

import pytest

import hostile_models
from programs import run_program

pytestmark = pytest.mark.proof


def test_every_mutation_of_a_file_of_a_pipeline_is_refused_or_read() -> None:
    """Each value of each JSON file, and each array, of a finished pipeline is changed in every way: each command that
    reads it reads it or refuses it with a remedy, without a traceback, and writes nothing."""
    printed = run_program("mutated_files.py", "--all", seconds=1800)
    assert ", 0 tracebacks or other problems, " in printed, printed


def test_every_mutation_of_a_file_of_a_study_or_a_search_is_refused_or_read() -> None:
    """The same of 500 changes of each file of a study and a search, by `list`, `status`, `report` and `run`."""
    printed = run_program("mutated_studies.py", "--few", "500", seconds=1800)
    assert ", 0 problems; " in printed, printed


def test_no_flipped_bits_of_a_network_end_the_process_that_reads_it(tmp_path: Path) -> None:
    """Of 10,000 files of a network with flipped bits, each is refused or read as numbers by what reads them, also where
    the digest would not have refused it first."""
    names = hostile_models.write(tmp_path / "files")
    told = json.loads(run_program("hostile_models.py", tmp_path / "files", "10000", seconds=600))
    assert sum(told["flipped"].values()) == 10_000
    assert told["seen"] == []
    assert set(names) < set(told)
