"""Real searches that are killed, pruned, checked and offered as a diff."""

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
from keras_pipeline.runs import run
from keras_pipeline.searches import trials

pytestmark = pytest.mark.slow


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
    row = rf"^\| {best['number']} \| {best['value']:.4f} \| [^|]+ \| learning_rate=[\d.e-]+ hidden_units=\[\d+\] \|$"
    assert re.search(row, text, re.MULTILINE)
    page = (place.folder / "searches/reports/quick/quick.html").read_text()
    assert page.count("data:image/png") == 2
    assert report["verdict"].split(":")[0] in page


def test_in_mlflow_all_runs_are_children_of_one(killed: tuple[Workplace, list[str]]) -> None:
    place, _ = killed
    runs = place.mlflow()
    _, parent = runs.pop("all")
    assert parent["pipeline.search"] == "quick"
    names = sorted(name.split()[0] for name in runs)
    assert names == [*["params.yaml"] * 3, *["trial"] * 5, *["winner"] * 3]
    assert len({tags["mlflow.parentRunId"] for _, tags in runs.values()}) == 1
    assert {status for status, _ in runs.values()} == {"FINISHED"}


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


def test_what_is_hopeless_is_pruned_and_a_database_keeps_it(tmp_path: Path) -> None:
    text = """\
goal: Which learning rate?
minimize: val/loss
trials: 3
seed: 3
seeds: [1, 2]
fixed: {train.epochs: 150, train.early_stopping.patience: 0}
space:
  train.optimizer.learning_rate: {choices: [0.01, 0.0000001, 0.0000002]}
sampler: random
"""
    place = Workplace(tmp_path / "place", text, {"train.optimizer.learning_rate": 0.01},
                      **{trials.STORAGE: f"sqlite:///{tmp_path}/trials.db"})  # fmt: skip
    said = place.run("run", "quick", "--jobs", "1")
    assert said.startswith("search quick: 2 seeds, from which no verdict can tell")
    assert "seeds: [1, 2, 4] in searches/quick.yaml\n" in said
    report = place.report()
    by_rate = {one["values"]["train.optimizer.learning_rate"]: one for one in report["trials"]}
    assert len(by_rate) == 3
    assert by_rate[0.01]["state"] == "complete"
    pruned = [one for one in report["trials"] if one["state"] == "pruned"]
    assert pruned, said
    assert all(1 < len(one["epochs"]) < 150 for one in pruned)
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
