"""The folders of a study and of a search that are done, one file of them changed, and what each action makes of it.

As a program: `python tests/support/mutated_studies.py` tries every mutant with every action that reads it.
"""

import argparse
import contextlib
import functools
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_pipeline.comparison import page
from keras_pipeline.core import files
from keras_pipeline.records import provenance
from keras_pipeline.records.record import recorded_params
from keras_pipeline.runs import pool
from keras_pipeline.runs.folders import Folders, ResultCache, mark_data_made
from keras_pipeline.runs.run import Run
from keras_pipeline.searches import report as search_report
from keras_pipeline.searches import searcher
from keras_pipeline.searches.searcher import SearchFolders
from keras_pipeline.stages import fetch, track
from keras_pipeline.studies import report as study_report
from keras_pipeline.studies import study
from mutated_files import (
    REFUSED,
    Bench,
    Mutant,
    ProblemError,
    archive_mutants,
    array_mutants,
    byte_mutants,
    json_mutants,
    text_mutants,
    would_go_on,
)

STUDY = {"question": "Which?", "seeds": [1, 2], "baseline": "a", "variants": {"a": {}, "b": {"model.activation": "linear"}}}  # fmt: skip  # noqa: E501
SEARCH = {
    "goal": "Which?",
    "maximize": "val/accuracy",
    "trials": 2,
    "seed": 1,
    "seeds": [2, 3],
    "space": {"train.optimizer.learning_rate": {"choices": [0.01, 0.02, 0.03]}},
}
LOOKS = [["study", "list"], ["study", "status", "s"], ["study", "report", "s"]]
SEARCH_LOOKS = [["search", "list"], ["search", "status", "s"], ["search", "report", "s"]]
KINDS = ("a folder", "a link to nothing", "a link out of the project", "a pipe", "nothing")
"""What stands in a file's place that is no file of ours."""

MACHINE = 6


class StudyBench(Bench):
    """A study and a search that are done, beside the pipeline; no report is drawn and no process begins."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, patch, {})
        for name in ("studies", "searches"):
            (self.root / name).mkdir()
        (self.root / "studies" / "s.yaml").write_text(json.dumps(STUDY))
        (self.root / "searches" / "s.yaml").write_text(json.dumps(SEARCH))
        self.folders = Folders(Path("studies"))
        params_file = Path("params.yaml")
        self.study = study.find_study(self.folders, "s", params_file)
        search_folders = SearchFolders(Path("searches"))
        self.search = searcher.find_search(search_folders, "s", params_file)
        self._make_data(self.search.baseline)
        for run in self.study.runs:
            self._make(run)
        trials = searcher.open_trials(self.search, search_folders, ResultCache(self.folders), create=True)
        for value in (0.5, 0.6):
            trial, self.trial = trials.ask()
            self._make(self.trial)
            trials.report(trial, [{"epoch": 1, "val/accuracy": value}])
            trials.complete(trial, value, 1.0)
        for run in self.search.rechecks(trials.results()[1].values):
            self._make(run)
        files.write_atomically(self.folders.studies / "runs" / "s.yaml", params_file.read_bytes())
        for module in (study_report, search_report):
            patch.setattr(module, "_pictures", lambda *_: iter(()))
        patch.setattr(page, "write_page", lambda folder, *_, **__: [])
        patch.setattr(track, "track_report", lambda *_: None)
        patch.setattr(pool, "do_jobs", would_go_on)
        patch.setattr(fetch, "fetch_dataset", would_go_on)
        self.outside = folder / "outside"
        self.outside.mkdir()
        self.verbs.update(self._verbs())
        self._keep()
        for verb in {tuple(verb) for verbs in self.verbs.values() for verb in verbs}:
            code, output = self.run(verb)
            assert code in (0, 75), (verb, code, output)
            self._restore()

    def _verbs(self) -> dict[str, list[list[str]]]:
        """Which actions read a file."""
        run, trial = self.study.runs[0], self.trial
        of_run, of_trial = (self.folders.run(one) for one in (run, trial))
        do_run = ["study", "run", "s", "--key", run.key]
        do_trial = ["search", "run", "s", "--key", trial.key, "--variant", trial.variant]
        runs, search_runs = [*LOOKS, ["study", "run", "s"]], [*SEARCH_LOOKS, ["search", "run", "s"]]
        data = self.folders.normalized(run.params)
        recheck = self.folders.run(self.search.rechecks({"train.optimizer.learning_rate": 0.03})[0])
        return {
            str(path): verbs
            for path, verbs in {
                of_run / "models" / "run.json": [*runs, do_run],
                of_run / "models" / "model.keras": [*runs, do_run],
                of_run / "models" / "history.csv": [do_run],
                of_run / "reports" / "metrics.json": [*runs, do_run],
                of_run / "reports" / "predictions.npz": [*runs, do_run],
                of_run / "evaluated.json": [*runs, do_run],
                of_run / "seconds.json": [["search", "run", "s"]],
                of_run / "params.yaml": [["study", "status", "s"], ["study", "run", "s"]],
                of_trial / "params.yaml": [do_trial],
                of_trial / "models" / "run.json": [do_trial, ["search", "run", "s"]],
                recheck / "models" / "run.json": search_runs,
                recheck / "reports" / "metrics.json": search_runs,
                recheck / "reports" / "predictions.npz": search_runs,
                data / "made.json": [["study", "run", "s"], ["search", "run", "s"]],
                data / "statistics.json": [*runs, *search_runs, do_run],
                Path("studies/runs/s.yaml"): [["study", "run", "s"]],
                Path("searches/state/s.journal"): search_runs,
                Path("studies/s.yaml"): runs,
                Path("searches/s.yaml"): search_runs,
            }.items()
        }

    def _make_data(self, run: Run) -> None:
        normalized = self.folders.normalized(run.params)
        shutil.copytree("data/normalized", normalized)
        shutil.copytree("data/raw", self.folders.raw(run.params))
        mark_data_made(self.folders, run.params, self.folders.studies / "downloads")

    def _make(self, run: Run) -> None:
        """A run that is done, with the pipeline's own network and answers."""
        own = self.folders.run(run)
        if own.exists():
            return
        for name in ("models", "reports"):
            shutil.copytree(name, own / name)
        (own / "params.yaml").write_text(run.text)
        value = json.loads((own / "models" / "run.json").read_bytes())
        params = recorded_params(run.params)
        value |= {"params": params, "key": run.key * 2}
        value["sha256"] |= {"params": provenance.params_digest(params)}
        files.write_json(own / "models" / "run.json", value)
        result_cache = ResultCache(self.folders)
        record = result_cache.record(run)
        assert record is not None
        result_cache.keep_evaluated(own, record)
        files.write_json(own / "seconds.json", 1.0)

    def _keep(self) -> None:
        self.kept = {
            path: (path.read_bytes(), path.stat().st_mtime_ns)
            for name in ("studies", "searches")
            for path in Path(name).rglob("*")
            if path.is_file()
        }

    def _restore(self) -> None:
        """What stood there; what was written since is taken away."""
        for name in ("studies", "searches"):
            for folder, inner, names in os.walk(name):
                for one in (*names, *[one for one in inner if Path(folder, one).is_symlink()]):
                    path = Path(folder, one)
                    if path not in self.kept or path.is_symlink() or not path.is_file():
                        path.unlink()
        for path, (content, written) in self.kept.items():
            if path.is_dir():
                shutil.rmtree(path)
            if not path.exists() or path.stat().st_mtime_ns != written:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                os.utime(path, ns=(written, written))

    def check(self, mutant: Mutant, verbs: Sequence[Sequence[str]] = ()) -> Counter[int]:
        """How often each exit code came of the actions that read it."""
        codes = Counter[int]()
        for verb in verbs or self.verbs[mutant.path]:
            self._put(mutant)
            before = self._state()
            try:
                code, output = self.run(verb)
                codes[code] += 1
                self._judge(mutant, verb, code, output)
                told = f"{mutant.path}, {mutant.what}: {' '.join(verb)}: exit {code}\n{output}"
                if code in REFUSED and self._state() != before and verb[1] != "run":
                    raise ProblemError(f"it wrote: {told}")
                if any(self.outside.iterdir()):
                    raise ProblemError(f"it wrote elsewhere: {told}")
            finally:
                self._restore()
        return codes

    def _judge(self, mutant: Mutant, verb: Sequence[str], code: int, output: str) -> None:
        in_the_way = mutant.what == "a folder" and verb[1] == "run" and f"{mutant.path}: Is a directory" in output
        if code != MACHINE or not in_the_way:  # to be written over, not read
            super()._judge(mutant, verb, code, output)

    def _put(self, mutant: Mutant) -> None:
        path = Path(mutant.path)
        if mutant.what not in KINDS:
            path.write_bytes(mutant.content)
            return
        path.unlink()
        match mutant.what:
            case "a folder":
                path.mkdir()
            case "a link to nothing":
                path.symlink_to(path.parent / "nothing")
            case "a link out of the project":
                path.symlink_to(self.outside / path.name)
            case "a pipe":
                os.mkfifo(path)

    def mutants(self, path: str) -> Iterator[Mutant]:
        """Every change of a file."""
        content = Path(path).read_bytes()
        if path.endswith("json"):
            yield from json_mutants(path, json.loads(content))
        if path.endswith(".npz"):
            with np.load(path) as saved:
                arrays: dict[str, Any] = dict(saved)
            yield from archive_mutants(path, arrays)
        if path.endswith((".npz", ".keras")):
            yield from byte_mutants(path, content)
        elif path.endswith(".npy"):
            yield from array_mutants(path, np.load(path))
        else:
            yield from text_mutants(path, content)
        yield from (Mutant(path, kind, b"") for kind in KINDS)


@contextlib.contextmanager
def opened_study_bench(folder: Path) -> Iterator[StudyBench]:
    """A bench, with all that it changed of this process as it was afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        yield StudyBench(folder, patch)


def try_mutants(folder: Path, few: int, tell: Callable[[str], None]) -> int:
    """Try of each file about so many mutants, evenly from all, and whatever else may stand in its place, an action
    after the other; how many problems they brought. Each is told, and at the end what came of all."""
    problems, codes = 0, Counter[int]()
    with opened_study_bench(folder) as bench:
        for path, verbs in bench.verbs.items():
            every = list(bench.mutants(path))
            mutants = [*every[: -len(KINDS)][:: max(1, len(every) // few)], *every[-len(KINDS) :]]
            for number, mutant in enumerate(mutants):
                try:
                    codes += bench.check(mutant, [verbs[number % len(verbs)]])
                except ProblemError as problem:
                    problems += 1
                    tell(str(problem))
                    for report in bench.temporary.iterdir():
                        report.unlink()
    tell(f"{sum(codes.values())} tried, {problems} problems; by exit code: {dict(sorted(codes.items()))}")
    return problems


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=10_000, help="so many of a file, evenly from all")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        sys.exit(1 if try_mutants(Path(place), asked.few, functools.partial(print, flush=True)) else 0)
