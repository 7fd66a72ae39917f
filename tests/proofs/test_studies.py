"""Studies that are killed again and again."""

import random
from pathlib import Path

import pytest

import killed_studies
from study_workplace import ASKED, CHANGES, Workplace

pytestmark = [pytest.mark.proof, pytest.mark.own_processes]


def test_killed_at_any_moment_it_ends_with_the_same_runs_and_numbers(tmp_path: Path) -> None:
    """A study that is killed ten times, at any moment, ends with the runs and numbers of one that nobody disturbs."""
    places = []
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
        places.append(Workplace(tmp_path / name, CHANGES))
        study = places[-1].ask("asked", **ASKED)
    moments = random.Random(5)
    killed_studies.kill(places[1], "asked", [moments.uniform(0.5, 14) for _ in range(10)])
    for place in places:
        code, printed = place.run("study", "run", "asked", "--jobs", "2")
        assert code == 0, printed
    assert killed_studies.numbers(places[1], study) == killed_studies.numbers(places[0], study)
