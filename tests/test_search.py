"""Searches: their file, what is drawn, and real ones that are killed, pruned, checked and offered as a diff."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import small
from keras_pipeline.core.errors import MachineError, ParamsError
from keras_pipeline.runs import run
from keras_pipeline.searches import search, trials
from keras_pipeline.searches.search import Search, describe_values

GOOD = """\
goal: Which learning rate?
maximize: val/accuracy
trials: 4
seed: 1
seeds: [2, 3]
space:
  train.optimizer.learning_rate: {low: 0.0001, high: 0.1, log: true}
  model.hidden_units: {choices: [[16], [32]]}
  train.batch_size: {low: 50, high: 150, step: 50}
"""


def load(folder: Path, text: str, changes: dict[str, Any] | None = None) -> Search:
    (folder / "s.yaml").write_text(text)
    (folder / "params.yaml").write_bytes(small.params_text({**small.QUICK, **(changes or {})}))
    return search.load_search(folder / "s.yaml", folder / "params.yaml")


def test_a_good_file_knows_which_keys_are_whole(tmp_path: Path) -> None:
    text = f"{GOOD}  train.epochs: {{low: 2, high: 9}}\n  model.dropout: {{low: 0, high: 0.5}}\n"
    assert load(tmp_path, text).whole == {"train.batch_size", "train.epochs"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("maximize: val/accuracy", "maximize: val/loss", "s.yaml:2:11: maximize: "),
        ("maximize: val/accuracy\n", "", "s.yaml:1:1: maximize: it is not said what is sought."),
        ("trials: 4", "minimize: val/loss\ntrials: 4", "s.yaml:2:11: maximize: both maximize and minimize stand here."),
        ("trials: 4", "trials: 0", "s.yaml:3:9: trials: 0 is out of range."),
        ("seeds: [2, 3]", "seeds: [2, 1]", "s.yaml:5:8: seeds: 1 is the trials' own seed."),
        ("seeds: [2, 3]", "seeds: [2, 2]", "s.yaml:5:8: seeds: a seed stands twice."),
        ("seeds: [2, 3]", "seeds: [2]", "s.yaml:5:8: seeds: "),
        ("log: true", "log: true, step: 1", "s.yaml:7:76: space.'train.optimizer.learning_rate'.step: a range by its"),
        ("low: 0.0001", "low: 0.0", "s.yaml:7:40: space.'train.optimizer.learning_rate'.low: 0.0 has no logarithm."),
        ("high: 0.1", "high: 0.00001", "s.yaml:7:54: space.'train.optimizer.learning_rate'.high: 1e-05 is not above"),
        ("high: 0.1", "high: 2000", "s.yaml:7:54: train.optimizer.learning_rate: 2000 is out of range."),
        ("low: 50", "low: 50.0", "s.yaml:9:27: train.batch_size: 50.0 is not accepted. Expected: a whole number"),
        ("step: 50", "step: 30", "s.yaml:9:48: space.'train.batch_size'.step: 30 does not lead from 50 to 150."),
        ("step: 50", "step: 12.5", "s.yaml:9:48: space.train.batch_size.step: 12.5 is not whole"),
        ("[32]]", "[0]]", "s.yaml:8:41: model.hidden_units[0]: 0 is out of range."),
        ("[32]]", "[16]]", "s.yaml:8:33: space.'model.hidden_units'.choices: a value stands twice."),
        ("{choices: [[16], [32]]}", "{low: 16, high: 32}", "s.yaml:8:29: model.hidden_units: "),
        ("{choices: [[16], [32]]}", "{}", "s.yaml:8:3: space.'model.hidden_units'.choices: no range and no choices."),
        ("{choices: [[16]", "{low: 1, choices: [[16]", "s.yaml:8:29: space.'model.hidden_units'.low: belongs to a"),
        ("model.hidden_units:", "model.hiden_units:", "s.yaml:8:3: model.hiden_units: this key is not known here."),
        ("model.hidden_units:", "tracking.experiment:", "s.yaml:8:3: space.'tracking.experiment': does not belong"),
        ("space:\n", "space:\n  seed: {low: 1, high: 9}\n", "s.yaml:7:3: space.seed: does not belong here. Use the"),
        ("space:\n", "fixed: {train.batch_size: 50}\nspace:\n", "s.yaml:10:3: space.'train.batch_size': stands in"),
        ("space:\n", "fixed: {train.epochs: 0}\nspace:\n", "s.yaml:6:23: train.epochs: 0 is out of range."),
        ("  train.optimizer.learning_rate: {low: 0.0001, high: 0.1, log: true}\n", "", "s.yaml:3:9: trials: 7, but"),
        ("seed: 1", "sampler: grid\nseed: 1", "s.yaml:4:10: sampler: 'grid' is not known."),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new)
    if "trials: 7" in expected:
        text = text.replace("trials: 4", "trials: 7")
    with pytest.raises(ParamsError) as fault:
        load(tmp_path, text)
    first = str(fault.value).splitlines()[0].removeprefix(f"{tmp_path}/")
    assert first.startswith(expected)
    assert str(fault.value).endswith("\nNothing was changed.")


def test_numbers_and_odd_names_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    numbers = {
        "fetch.dataset": "line",
        "normalize.scaling": "standard",
        "model.output_activation": "linear",
        "train.loss": "mean_squared_error",
    }
    with pytest.raises(ParamsError, match=r"fetch\.dataset: line, but accuracies are compared here"):
        load(tmp_path, GOOD, numbers)
    (tmp_path / "größe 1.yaml").write_text(GOOD)
    with pytest.raises(ParamsError, match=r"größe 1\.yaml: its name is that of its report"):
        search.load_search(tmp_path / "größe 1.yaml", small.SHIPPED)


def test_both_ends_of_a_range_are_tried_with_what_is_fixed(tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as fault:
        load(tmp_path, GOOD.replace("space:\n", "space:\n  train.epochs: {low: 1, high: 9}\n"))
    assert "train.schedule.warmup_epochs: 1 leaves nothing of 1 epochs" in str(fault.value)
    assert "(train.epochs: 1)" in str(fault.value)
    with pytest.raises(ParamsError) as fault:
        load(tmp_path, GOOD.replace("space:\n", "fixed: {train.strategy: mirrored, train.devices: 4}\nspace:\n"))
    assert "of 1293 training images cannot be shared evenly by 4 replicas" in str(fault.value)
    even = "normalize.training_images: 1200, train.strategy: mirrored, train.devices: 4"
    with pytest.raises(ParamsError) as fault:
        load(tmp_path, GOOD.replace("space:\n", f"fixed: {{{even}}}\nspace:\n"))
    assert "50 is the global batch and cannot be shared evenly" in str(fault.value)


def test_the_shipped_search_is_good() -> None:
    found = search.load_search(small.SHIPPED.parent / "searches" / "mlp.yaml", small.SHIPPED)
    assert found.baseline.values["train.epochs"] == 20


def test_the_identity_changes_with_what_decides_a_value_only(tmp_path: Path) -> None:
    first = load(tmp_path, GOOD).identity("code", "data")
    for other in (
        load(tmp_path, GOOD.replace("trials: 4", "trials: 5")),
        load(tmp_path, GOOD.replace("seeds: [2, 3]", "seeds: [4, 5]")),
        load(tmp_path, GOOD, {"train.batch_size": 50}),
        load(tmp_path, GOOD, {"tracking.experiment": "other"}),
    ):
        assert other.identity("code", "data") == first
    for other in (
        load(tmp_path, GOOD.replace("seed: 1", "seed: 7")),
        load(tmp_path, GOOD.replace("high: 0.1", "high: 0.2")),
        load(tmp_path, GOOD.replace("space:", "fixed: {train.epochs: 3}\nspace:")),
        load(tmp_path, GOOD, {"model.dropout": 0.1}),
    ):
        assert other.identity("code", "data") != first
    assert load(tmp_path, GOOD).identity("code", "other") != first != load(tmp_path, GOOD).identity("other", "data")


@pytest.mark.parametrize(
    ("text", "drawn", "whole", "expected"),
    [
        ("{low: 0.0001, high: 0.1}", 0.012345678, False, 0.01235),
        ("{low: 0.00012345, high: 0.1}", 0.00012346, False, 0.0001235),
        ("{low: 0.00012354, high: 0.1}", 0.00012354, False, 0.00012354),
        ("{low: 0.1, high: 0.1234549}", 0.1234549, False, 0.1234549),
        ("{low: 0.0, high: 1.0, step: 0.1}", 0.30000000000000004, False, 0.3),
        ("{low: 1, high: 9}", 4.0, True, 4),
    ],
)
def test_a_drawn_number_is_short_and_within_its_range(text: str, drawn: float, whole: bool, expected: float) -> None:
    low, high = (float(one) for one in re.findall(r"(?:low|high): ([\d.]+)", text))
    step = re.search(r"step: ([\d.]+)", text)
    dimension = search.Dimension(low=low, high=high, step=float(step[1]) if step else None)
    got = search.round_number(dimension, drawn, whole=whole)
    assert low <= got <= high
    assert got == expected


# What Optuna keeps.


def drawn(search: Search, journal: Path, killed: set[int]) -> list[str]:
    """What a search draws that is killed at these draws, in the middle of a trial, and goes on."""
    found, draws = [], 0
    made = trials.Trials(search, "one", journal, create=True)
    while sum(one.state != "running" for one in made.seen()) < search.asked.trials:
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
    assert [one.state for one in made.seen()] == ["complete"] * search.asked.trials
    return found


@pytest.mark.slow
def test_a_search_that_is_killed_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    search = load(tmp_path, GOOD.replace("trials: 4", "trials: 14"))  # the first ten of TPE are chance
    alone = drawn(search, tmp_path / "alone.journal", set())
    assert drawn(search, tmp_path / "killed.journal", {1, 4, 5, 12}) == alone
    assert len(set(alone)) == 14
    importances = trials.Trials(search, "one", tmp_path / "alone.journal", create=False).importances()
    assert max(importances, key=lambda key: importances[key]) == "train.optimizer.learning_rate"  # which decides alone


@pytest.mark.slow
def test_what_a_crash_left_half_told_is_neither_lost_nor_doubled(tmp_path: Path) -> None:
    search = load(tmp_path, GOOD)
    made = trials.Trials(search, "one", tmp_path / "s.journal", create=True)
    _, run = made.ask()
    # Killed between the two: the trial is queued again, and still running.
    params = made.study.get_trials()[0].params
    made.study.enqueue_trial(params, user_attrs={"instead_of": 0})
    with (tmp_path / "s.journal").open("ab") as file:
        file.write(b'{"op_code":4,"wor')  # and the machine went down
    trials.mend_journal(tmp_path / "s.journal")
    again = trials.Trials(search, "one", tmp_path / "s.journal", create=True)
    assert again.recover() == [run.key]
    assert [again.ask()[1].key for _ in range(3)].count(run.key) == 1
    assert len(again.seen()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_every_point_of_a_small_space_is_drawn_once(tmp_path: Path, sampler: str) -> None:
    text = re.sub(r"  train.optimizer.*\n", "", GOOD).replace("trials: 4", f"trials: 6\nsampler: {sampler}")
    made = trials.Trials(search := load(tmp_path, text), "one", tmp_path / "s.journal", create=True)
    points = {describe_values(search, made.ask()[1]) for _ in range(6)}
    assert points == {f"hidden_units=[{units}] batch_size={size}" for units in (16, 32) for size in (50, 100, 150)}
    with pytest.raises(ParamsError, match="no values were found in the space that no trial has"):
        made.ask()


@pytest.mark.slow
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
    assert [(one.state, one.value, one.why) for one in made.seen()] == [("complete", 0.3, ""), ("pruned", None, "why")]


@pytest.mark.slow
@pytest.mark.parametrize("address", ["postgresql://me:secret@127.0.0.1:1/none", "sqlite:////no/such/folder/x.db", "x"])
def test_a_storage_that_cannot_be_used_is_said_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv(trials.STORAGE, address)
    with pytest.raises(MachineError) as fault:
        trials.Trials(load(tmp_path, GOOD), "one", tmp_path / "s.journal", create=True)
    assert str(fault.value).startswith(f"{trials.STORAGE}=")
    assert "secret" not in str(fault.value)


# Real searches.


class Workplace:
    """A folder with the shipped params for the digits and one search, in which commands run as a user runs them."""

    def __init__(self, folder: Path, search: str, changes: dict[str, Any], **variables: str) -> None:
        self.folder = folder
        (folder / "searches").mkdir(parents=True)
        (folder / "searches" / "quick.yaml").write_text(search)
        text = run.change_params(small.SHIPPED.read_text(), {**small.QUICK, **changes})
        (folder / "params.yaml").write_text(text)
        (folder / "dvc.yaml").write_text("stages: {}\n")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "KERAS_"))}
        self.environment = kept | variables

    def start(self, *arguments: str, log: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "keras_pipeline.cli.main", "search", *arguments]
        with log.open("wb") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

    def run(self, *arguments: str) -> str:
        log = self.folder / "output.txt"
        process = self.start(*arguments, log=log)
        try:
            code = process.wait(900)
        finally:
            process.kill()
        assert code == 0, log.read_text()
        return log.read_text()

    def report(self) -> Any:
        return json.loads((self.folder / "searches/reports/quick/quick.json").read_text())

    def mlflow(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Every run of the search in MLflow by its variant and seed: its status and tags."""
        with closing(sqlite3.connect(self.folder / "mlruns" / "mlflow.db", timeout=30)) as store:
            found = store.execute("SELECT run_uuid, status FROM runs").fetchall()
            tagged = [(status, dict(store.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run,)))) for run, status in found]  # fmt: skip  # noqa: E501
        return {
            f"{tags.get('variant', 'all')} {tags.get('seed', '')}".strip(): (status, tags) for status, tags in tagged
        }


QUICK = """\
goal: Which network and learning rate?
maximize: val/accuracy
trials: 5
seed: 1
seeds: [2, 3, 4]
space:
  train.optimizer.learning_rate: {low: 0.001, high: 0.1, log: true}
  model.hidden_units: {choices: [[16], [32]]}
pruner: none
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, list[str]]:
    """A search that was killed in the middle, and went on to its end; what it said before and after."""
    place = Workplace(
        tmp_path_factory.mktemp("search"), QUICK, {"train.optimizer.learning_rate": 1e-5, "train.epochs": 4}
    )
    log = place.folder / "killed.txt"
    process = place.start("run", "quick", "--jobs", "2", log=log)
    try:
        deadline = time.monotonic() + 600
        while not re.search(r"2 of 5: trial", log.read_text()):  # the third is at work, and the fourth
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        time.sleep(2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return place, [log.read_text(), place.run("run", "quick", "--jobs", "2")]


@pytest.mark.slow
def test_a_killed_search_goes_on_and_no_trial_counts_twice(killed: tuple[Workplace, list[str]]) -> None:
    place, (before, after) = killed
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.study import get_all_study_names, load_study

    storage = JournalStorage(JournalFileBackend(str(place.folder / "searches/state/quick.journal")))
    (name,) = get_all_study_names(storage)
    kept = load_study(study_name=name, storage=storage).get_trials()
    states = Counter(one.state.name for one in kept)
    assert states["COMPLETE"] == 5
    assert states["FAIL"] >= 1  # those that were at work when it was killed
    assert set(states) == {"COMPLETE", "FAIL"}
    finished = [one for one in kept if one.state.name == "COMPLETE"]
    assert len({json.dumps(one.params) for one in finished}) == 5
    lost = [one.params for one in kept if one.state.name == "FAIL"]
    assert all(params in [one.params for one in finished] for params in lost)
    told = re.findall(r"^search quick: (\d) of 5: trial", before + after, re.MULTILINE)
    assert sorted(told) == ["1", "2", "3", "4", "5"]
    # Each training ran once: five trials, and twice three seeds.
    assert len(list((place.folder / "studies" / "runs").glob("*/models/model.keras"))) == 11


@pytest.mark.slow
def test_the_budget_is_said_before_it_is_spent(killed: tuple[Workplace, list[str]]) -> None:
    _, (before, after) = killed
    first = [line for line in before.splitlines() if line.startswith("search")]
    assert first[0].endswith(
        "budget: 5 trials, and 6 runs to check the winner; the first trial tells how long one takes"
    )
    assert re.match(r"search quick: 1 of 5: trial 0 ", first[1])
    pattern = r"search quick: budget: {} trials? × \d+ s \(.*\) and 6 runs × \d+ s to check the winner, 2 at a time: "
    assert re.match(pattern.format(4), first[2])
    told = len(re.findall(r"^search quick: \d of 5: trial", before, re.MULTILINE))
    assert re.match(pattern.format(5 - told), next(line for line in after.splitlines() if "budget" in line))


@pytest.mark.slow
def test_the_winner_is_checked_on_other_seeds_and_offered_as_a_diff(killed: tuple[Workplace, list[str]]) -> None:
    place, (_, after) = killed
    report = place.report()
    assert report["recheck"].keys() == {"params.yaml", "winner"}
    assert all(seeds.keys() == {"2", "3", "4"} for seeds in report["recheck"].values())
    best = max((one for one in report["trials"]), key=lambda one: one["value"])
    assert report["best"] == best["number"]
    assert f"the winner, trial {best['number']}, is compared with params.yaml as it is: " in after
    # A learning rate of 1e-5 learns nothing in four epochs: three seeds show that.
    assert report["better"], report["verdict"]
    assert report["change"]["train.optimizer.learning_rate"] == best["values"]["train.optimizer.learning_rate"]
    before = (place.folder / "params.yaml").read_text()
    patch = place.folder / "searches/reports/quick/quick.diff"
    assert patch.read_text() in after
    try:
        subprocess.run(["patch", "-p1", "-i", str(patch)], cwd=place.folder, check=True, capture_output=True)
        assert (place.folder / "params.yaml").read_text() == run.change_params(before, report["change"])
    finally:
        (place.folder / "params.yaml").write_text(before)
    text = (place.folder / "searches/reports/quick/quick.md").read_text()
    assert re.search(
        rf"^\| {best['number']} \| {best['value']:.4f} \| learning_rate=[\d.e-]+ hidden_units=\[\d+\] \| ", text, re.M
    )
    page = (place.folder / "searches/reports/quick/quick.html").read_text()
    assert page.count("data:image/png") == 2
    assert report["verdict"].split(":")[0] in page


@pytest.mark.slow
def test_in_mlflow_all_runs_are_children_of_one(killed: tuple[Workplace, list[str]]) -> None:
    place, _ = killed
    runs = place.mlflow()
    _, parent = runs.pop("all")
    assert parent["pipeline.search"] == "quick"
    names = sorted(name.split()[0] for name in runs)
    assert names == [*["params.yaml"] * 3, *["trial"] * 5, *["winner"] * 3]
    assert len({tags["mlflow.parentRunId"] for _, tags in runs.values()}) == 1
    assert {status for status, _ in runs.values()} == {"FINISHED"}


@pytest.mark.slow
def test_a_search_that_is_done_does_nothing_more(killed: tuple[Workplace, list[str]]) -> None:
    place, _ = killed
    runs = {path: path.stat().st_mtime_ns for path in place.folder.glob("studies/runs/*/models/run.json")}
    again = place.run("run", "quick")
    assert "search quick: all is done already" in again
    assert runs == {path: path.stat().st_mtime_ns for path in place.folder.glob("studies/runs/*/models/run.json")}
    assert "5 complete, 0 pruned, 0 running" in place.run("status", "quick")
    assert re.search(r"quick +5 of +5 trials", place.run("list"))
    # More trials are the same search: those that are done count.
    (place.folder / "searches" / "quick.yaml").write_text(QUICK.replace("trials: 5", "trials: 6"))
    assert re.search(r"quick +5 of +6 trials", place.run("list"))


@pytest.mark.slow
def test_what_another_search_has_trained_is_not_trained_again(killed: tuple[Workplace, list[str]]) -> None:
    place, _ = killed
    runs = {path: path.read_bytes() for path in place.folder.glob("studies/runs/*/models/run.json")}
    other = QUICK.replace("Which network", "Which small network")  # which draws the same
    (place.folder / "searches" / "other.yaml").write_text(other)
    said = place.run("run", "other")
    assert re.match(r"search other: budget: 5 trials × \d+ s \(the median of \d+ like it\)", said)
    report = json.loads((place.folder / "searches/reports/other/other.json").read_text())
    points = [
        sorted((json.dumps(one["values"]), one["value"], one["epochs"]) for one in found["trials"])
        for found in (report, place.report())
    ]
    assert points[0] == points[1]
    assert all(one["seconds"] is None for one in report["trials"])  # nobody spent any on them
    assert {path: path.read_bytes() for path in place.folder.glob("studies/runs/*/models/run.json")} == runs


@pytest.mark.slow
def test_what_is_hopeless_is_pruned_and_a_database_keeps_it(tmp_path: Path) -> None:
    text = """\
goal: Which learning rate?
minimize: val/loss
trials: 3
seed: 3
seeds: [1, 2]
fixed: {train.epochs: 400, train.early_stopping.patience: 0}
space:
  train.optimizer.learning_rate: {choices: [0.01, 0.0000001, 0.0000002]}
sampler: random
"""
    place = Workplace(tmp_path / "place", text, {"train.optimizer.learning_rate": 0.01},
                      **{trials.STORAGE: f"sqlite:///{tmp_path}/trials.db"})  # fmt: skip
    said = place.run("run", "quick", "--jobs", "1")
    report = place.report()
    by_rate = {one["values"]["train.optimizer.learning_rate"]: one for one in report["trials"]}
    assert len(by_rate) == 3
    assert by_rate[0.01]["state"] == "complete"
    pruned = [one for one in report["trials"] if one["state"] == "pruned"]
    assert pruned, said
    assert all(1 < len(one["epochs"]) < 400 for one in pruned)
    runs = place.mlflow()
    for one in pruned:
        status, tags = runs[f"trial {one['number']} 3"]
        assert status == "KILLED"
        assert tags["pruned"] == one["why"]
        assert f"trial {one['number']} (learning_rate=" in said
    assert not (place.folder / "searches" / "state").exists()
    assert (tmp_path / "trials.db").is_file()
    # The winner has the learning rate that params.yaml has.
    assert "has the values of params.yaml: there is nothing to change." in said
    assert not (place.folder / "searches/reports/quick/quick.diff").exists()
