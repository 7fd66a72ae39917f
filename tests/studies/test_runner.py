"""`keras-pipeline study`: what a user gets wrong."""

import re
from pathlib import Path

import pytest

from keras_pipeline.core.errors import ParamsError
from study_workplace import ASKED, CHANGES, Workplace


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "akted"], "studies/akted.yaml: no study 'akted'. There are: asked."),
        (["status"], "study status: no name. Expected: one of those that `study list` shows."),
        (["run", "../asked"], "studies/../asked.yaml: no study '../asked'."),
        (["run", "asked", "--jobs", "0"], "'0' is no number of processes. Expected: 1 or more"),
        (["report", "asked"], "no run of the baseline 'relu' is done yet. Let the study run on."),
    ],
)
def test_usage_faults(tmp_path: Path, arguments: list[str], expected: str) -> None:
    place = Workplace(tmp_path, CHANGES)
    place.ask("asked", **ASKED)
    code, printed = place.run("study", *arguments)
    assert code in (2, 3)
    assert expected in printed


def test_workers_are_refused(tmp_path: Path) -> None:
    place = Workplace(tmp_path, CHANGES)
    several = {"train.strategy": "multi_worker", "train.workers": 2, "normalize.training_images": 1000}
    with pytest.raises(ParamsError):
        place.ask("asked", **{**ASKED, "variants": {"relu": {}, "two": several}})
    code, printed = place.run("study", "run", "asked")
    assert code == 2
    expected = r"studies/asked.yaml:\d+:\d+: 'two' has train.workers: 2, but each run here is one process. Expected: 1."
    assert re.search(expected, printed)


def test_a_damaged_file_hides_no_other_study(tmp_path: Path) -> None:
    place = Workplace(tmp_path, CHANGES)
    place.ask("asked", **ASKED)
    (tmp_path / "studies" / "another.yaml").write_bytes(b"\xff\xfe")
    code, printed = place.run("study", "list")
    assert code == 2
    assert re.search(r"^asked +0 of ", printed, re.MULTILINE)
    assert "studies/another.yaml:1:1: this is UTF-16 text" in printed
