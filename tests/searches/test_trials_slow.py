"""What Optuna keeps: what is drawn, and what a killed search leaves."""

import re
from pathlib import Path

import pytest

from asked_search import GOOD, load
from keras_pipeline.core.errors import DataError, MachineError, ParamsError
from keras_pipeline.searches import journal, trials
from keras_pipeline.searches.search import Search, describe_values

pytestmark = pytest.mark.slow


def drawn(search: Search, journal: Path, killed: set[int]) -> list[str]:
    """What a search draws that is killed at these draws, in the middle of a trial, and goes on."""
    found, draws = [], 0
    made = trials.Trials(search, "one", journal, create=True)
    while sum(one.state != "running" for one in made.results()) < search.settings.trials:
        trial, run = made.ask()
        draws += 1
        if draws in killed:
            made = trials.Trials(search, "one", journal, create=True)
            assert made.recover() == [run.key]
            continue
        found.append(describe_values(search, run))
        rate = run.changes["train.optimizer.learning_rate"]
        made.report(trial, [{"epoch": 1, "val/accuracy": 1 / (1 + rate)}])
        made.complete(trial, 1 / (1 + rate), 1.0)
    assert [one.state for one in made.results()] == ["complete"] * search.settings.trials
    return found


def test_a_search_that_is_killed_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    search = load(tmp_path, GOOD.replace("trials: 4", "trials: 14"))  # the first ten of TPE are chance
    alone = drawn(search, tmp_path / "alone.journal", set())
    assert drawn(search, tmp_path / "killed.journal", {1, 4, 5, 12}) == alone
    assert len(set(alone)) == 14
    importances = trials.Trials(search, "one", tmp_path / "alone.journal", create=False).importances()
    assert max(importances, key=lambda key: importances[key]) == "train.optimizer.learning_rate"  # which decides alone


def test_what_a_crash_left_half_told_is_neither_lost_nor_doubled(tmp_path: Path) -> None:
    search = load(tmp_path, GOOD)
    made = trials.Trials(search, "one", tmp_path / "s.journal", create=True)
    _, run = made.ask()
    # Killed between the two: the trial is queued again, and still running.
    params = made.study.get_trials()[0].params
    made.study.enqueue_trial(params, user_attrs={"instead_of": 0})
    with (tmp_path / "s.journal").open("ab") as file:
        file.write(b'{"op_code":4,"wor')  # and the machine went down
    journal.mend_journal(tmp_path / "s.journal")
    again = trials.Trials(search, "one", tmp_path / "s.journal", create=True)
    assert again.recover() == [run.key]
    assert [again.ask()[1].key for _ in range(3)].count(run.key) == 1
    assert len(again.results()) == 3


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_every_point_of_a_small_space_is_drawn_once(tmp_path: Path, sampler: str) -> None:
    text = re.sub(r"  train.optimizer.*\n", "", GOOD).replace("trials: 4", f"trials: 6\nsampler: {sampler}")
    made = trials.Trials(search := load(tmp_path, text), "one", tmp_path / "s.journal", create=True)
    points = {describe_values(search, made.ask()[1]) for _ in range(6)}
    assert points == {f"hidden_units=[{units}] batch_size={size}" for units in (16, 32) for size in (50, 100, 150)}
    with pytest.raises(ParamsError, match="no values were found in the space that no trial has"):
        made.ask()


def test_a_trial_is_hopeless_below_the_median_after_the_warm_up_only(tmp_path: Path) -> None:
    made = trials.Trials(load(tmp_path, GOOD), "one", tmp_path / "s.journal", create=True)
    rows = [{"epoch": epoch, "val/accuracy": epoch / 10} for epoch in (1, 2, 3)]
    first, _ = made.ask()
    assert not made.report(first, rows)
    made.complete(first, 0.3, 1.0)
    second, _ = made.ask()
    assert not made.report(second, [{"epoch": 1, "val/accuracy": 0.01}])
    assert made.report(second, [{"epoch": 2, "val/accuracy": 0.02}])
    made.give_up(second, "why")
    assert [(one.state, one.value, one.why) for one in made.results()] == [
        ("complete", 0.3, ""),
        ("pruned", None, "why"),
    ]


@pytest.mark.parametrize("address", ["postgresql://me:secret@127.0.0.1:1/none", "sqlite:////no/such/folder/x.db", "x"])
def test_a_storage_that_cannot_be_used_is_said_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv(trials.STORAGE, address)
    with pytest.raises(MachineError) as fault:
        trials.Trials(load(tmp_path, GOOD), "one", tmp_path / "s.journal", create=True)
    assert str(fault.value).startswith(f"{trials.STORAGE}=")
    assert "secret" not in str(fault.value)


def test_a_trial_of_a_database_is_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search, path = load(tmp_path, GOOD), tmp_path / "s.journal"
    monkeypatch.setenv(trials.STORAGE, f"sqlite:///{tmp_path}/trials.db")
    made = trials.Trials(search, "one", path, create=True)
    trial, _ = made.ask()
    trial.set_user_attr("key", "../../x")
    with pytest.raises(DataError, match=r"study 's one': trial 0: key: got \"../../x\".* Delete that study"):
        trials.Trials(search, "one", path, create=True)
