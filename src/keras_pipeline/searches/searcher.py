"""The trials of a search, each a run in a process of its own, some at a time; the budget first."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from keras_pipeline.checks.params import load_params
from keras_pipeline.config.tasks import describe_useless
from keras_pipeline.core import files
from keras_pipeline.core.errors import BusyError, DataError, ParamsError
from keras_pipeline.core.json_files import Seconds, read_json
from keras_pipeline.core.terminal import Progress
from keras_pipeline.data.history import read_history
from keras_pipeline.records.provenance import TRAINING
from keras_pipeline.records.record import best_row, read_record
from keras_pipeline.runs.executor import Executor, Job
from keras_pipeline.runs.folders import PRUNED, SECONDS, Folders, ResultCache, read_run_scores
from keras_pipeline.runs.pool import LOOK_SECONDS, STOP_SECONDS, Work, format_duration, record_seconds
from keras_pipeline.runs.run import Run, find_file, load_files
from keras_pipeline.searches.journal import mend_journal
from keras_pipeline.searches.search import WINNER, Search, describe_values, load_search
from keras_pipeline.searches.trials import TrialResult, Trials, best_trial

if TYPE_CHECKING:
    import optuna


HISTORY = Path("models", "history.csv")
SECONDS_FILE = TypeAdapter(Seconds)


@dataclass(frozen=True)
class SearchFolders:
    """Where searches live: NAME.yaml in `searches`, and what they remember and report in folders below it."""

    searches: Path

    def journal(self, name: str) -> Path:
        """Optuna's file of a search's trials."""
        return self.searches / "state" / f"{name}.journal"

    def report(self, name: str) -> Path:
        """The search's report."""
        return self.searches / "reports" / name


def list_searches(search_folders: SearchFolders, params_file: Path) -> tuple[list[Search], list[str]]:
    """Every search there is, by name, and what is wrong with the files that are none."""
    return load_files(search_folders.searches, lambda path: load_search(path, params_file))


def find_search(search_folders: SearchFolders, name: str, params_file: Path) -> Search:
    """The search of this name. Raises ParamsError where there is none, or it has a fault."""
    return load_search(find_file(search_folders.searches, "search", name), params_file)


def begun_run(folders: Folders, key: str, variant: str) -> Run:
    """The run whose params.yaml is in the folder of this key, as its `variant` was named when it was begun.

    Raises ParamsError where the file was changed since.
    """
    path = folders.studies / "runs" / key / "params.yaml"
    values = load_params(path)
    run = Run(variant, "", values.seed, values, path.read_text(encoding="utf-8"), {})
    if run.key != key:
        raise ParamsError(f"{path}: was changed while the search ran. Run the search again.")
    return run


def open_trials(
    search: Search, search_folders: SearchFolders, result_cache: ResultCache, *, create: bool = False
) -> Trials:
    """The search's trials as far as they were made with these params, data and code; none without the data."""
    statistics_file = result_cache.folders.normalized(search.baseline.params) / "statistics.json"
    data = files.file_sha256(statistics_file) if statistics_file.is_file() else ""
    journal = search_folders.journal(search.name)
    if create:
        mend_journal(journal)
    return Trials(search, search.identity(result_cache.code[TRAINING], data), journal, create=create and bool(data))


def known_seconds(search: Search, folders: Folders, trial_results: Sequence[TrialResult]) -> list[float]:
    """How long runs took that are like the search's: its trials, else known ones that differ in its space only."""
    if own := [one.seconds for one in trial_results if one.seconds is not None]:
        return own
    wanted = {key: value for key, value in search.baseline.values.items() if not key.startswith("evaluate.")}
    apart = {"seed", *search.settings.space}
    found = []
    for path in (folders.studies / "runs").glob(f"*/{SECONDS}"):
        try:
            seconds = read_json(path, SECONDS_FILE, "study run")
            record = read_record(path.parent / "models" / "run.json", "study run")
        except DataError:
            continue
        values = record["params"]
        like = all(values.get(key) == wanted.get(key) for key in values.keys() | wanted.keys() if key not in apart)
        if like and not record.keys() & {"diverged", "pruned"}:
            found.append(seconds)
    return found


def count_rechecks_left(search: Search, trial_results: Sequence[TrialResult], is_done: Callable[[Run], bool]) -> int:
    """How many runs are still to do when all trials are done: those of the winner too, which is not known before."""
    full = sum(one.state != "running" for one in trial_results) >= search.settings.trials
    first = best_trial(search, trial_results)
    runs = search.rechecks(first.values if full and first else {})
    return sum(not is_done(run) or (run.variant == WINNER and not full) for run in runs)


def budget_line(search: Search, seconds: Sequence[float], open_trials: int, rechecks: int, jobs: int) -> str:
    """What is still to do, in runs times seconds; an upper bound, but for runs that take longer than those known."""
    each = statistics.median(seconds)
    trials = "1 trial" if open_trials == 1 else f"{open_trials} trials"
    known = f"the median of {len(seconds)} like it" if len(seconds) > 1 else "as one like it took"
    pruned = "; those that are pruned take less" if search.settings.pruner != "none" and open_trials else ""
    in_all = format_duration((open_trials + rechecks) * each / jobs)
    return (
        f"search {search.name}: budget: {trials} × {each:.0f} s ({known}) and {rechecks} runs × {each:.0f} "
        f"s to check the winner, {jobs} at a time: {in_all} in all{pruned}"
    )


@dataclass
class _Active:
    """A trial at work; `stamp`: of the history that was there before; `spare`: it may not be pruned; `rows`: so many
    epochs are told to Optuna."""

    trial: "optuna.Trial"
    run: Run
    own: Path
    stamp: int
    spare: bool
    rows: int = 0
    pruned: bool = False

    def new_rows(self) -> list[dict[str, float]]:
        """The epochs since the last look; the history is written anew as a whole with each."""
        history = self.own / HISTORY
        if _stamp(history) == self.stamp:
            return []
        rows = read_history(history, "search run")
        new, self.rows = rows[self.rows :], max(self.rows, len(rows))
        return new


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


class Searcher(Work):
    """The trials that are not done, `jobs` at a time, each done by a process of ours with the arguments `command`; the
    budget is told first, and then each trial's end.

    `is_done(run)`: whether nothing of a run is left to do; `rechecks`: runs that will follow.
    """

    def __init__(
        self,
        search: Search,
        result_cache: ResultCache,
        trials: Trials,
        executor: Executor,
        jobs: int,
        rechecks: int,
        command: Callable[[Run], Sequence[str]],
        is_done: Callable[[Run], bool],
    ) -> None:
        self.search, self.result_cache, self.trials, self.executor = search, result_cache, trials, executor
        self.jobs, self.rechecks, self.command, self.done = jobs, rechecks, command, is_done
        self.took: list[float] = []
        self.active: dict[Job, _Active] = {}
        self.budgeted = False
        self.progress = Progress(f"search {search.name}", search.settings.trials, "trial", len(trials.results()))
        for key in trials.recover():
            _wait_for(result_cache.folders.studies / "runs" / key / "models")
        self.left = max(0, search.settings.trials - len(trials.results()))
        self._tell_budget()

    def jobs_at_a_time(self, most: int) -> int:
        """One until it is known how long a trial takes."""
        return most if self.budgeted else 1

    def start_job(self) -> Job | None:
        """Start the next trial whose result is not known already."""
        while self.left > 0:
            self.left -= 1
            trial, run = self.trials.ask()
            if not self.done(run):
                return self._submit(trial, run, spare=self.result_cache.record(run) is not None)
            self._conclude(trial, 0, run, None)
        return None

    def look_at_job(self, job: Job) -> None:
        """Tell Optuna of its new epochs; prune it where they are unpromising, unless its end is near anyway."""
        self.progress.refresh()
        one = self.active[job]
        unpromising = self.trials.report(one.trial, one.new_rows())
        if unpromising and not one.spare and not one.pruned and one.rows < one.run.params.train.epochs:
            metric = self.search.settings.metric
            why = f"after epoch {one.rows}: its best {metric} is worse than half of the trials before had by then"
            one.pruned = True
            files.write_atomically(one.own / PRUNED, why.encode())
            self.executor.cancel(job)

    def end_job(self, job: Job) -> None:
        """Tell what came of a trial, and the budget if it is the first."""
        one = self.active.pop(job)
        self.took.append(record_seconds(self.result_cache.folders, job))
        self._conclude(one.trial, one.rows, one.run, job)
        self._tell_budget()

    def restart_job(self, job: Job) -> Job | None:
        """One that was pruned when its training was over already: what is left of it is little."""
        one = self.active.pop(job)
        return self._submit(one.trial, one.run, spare=True, rows=one.rows) if one.pruned else None

    def _submit(self, trial: "optuna.Trial", run: Run, *, spare: bool, rows: int = 0) -> Job:
        run_folder = self.result_cache.folders.run(run)
        stamp = _stamp(run_folder / HISTORY)
        job = self.executor.submit([run], self.command(run))
        self.active[job] = _Active(trial, run, run_folder, stamp, spare, rows)
        return job

    def _tell_budget(self) -> None:
        """Say once what is to come, as soon as it is known how long a run takes; if need be by the first trial."""
        if self.budgeted:
            return
        left = self.left
        if not left and not self.rechecks:
            self.progress.print(f"search {self.search.name}: all is done already")
            self.budgeted = True
            return
        seconds = known_seconds(self.search, self.result_cache.folders, self.trials.results()) or self.took
        self.budgeted = bool(seconds)
        if seconds:
            self.progress.print(budget_line(self.search, seconds, left, self.rechecks, self.jobs))
        else:
            runs = f"{left} trials, and {self.rechecks} runs to check the winner"
            self.progress.print(f"search {self.search.name}: budget: {runs}; the first trial tells how long one takes")

    def _conclude(self, trial: "optuna.Trial", reported_epochs: int, run: Run, job: Job | None) -> None:
        """Tell Optuna and the user what came of a trial; of so many epochs, `reported_epochs`, Optuna knows."""
        left = self.left + len(self.active)
        metric, run_folder = self.search.settings.metric, self.result_cache.folders.run(run)
        record = read_record(run_folder / "models" / "run.json", "search run")
        self.trials.report(trial, record["history"][reported_epochs:])
        if why := record.get("diverged") or record.get("pruned"):
            self.trials.give_up(trial, why)
            came = "diverged" if "diverged" in record else f"pruned after epoch {len(record['history'])}"
        else:
            value = best_row(record)[metric]
            self.trials.complete(trial, value, self.took[-1] if job and job.fresh else None)
            scores = read_run_scores(run_folder)
            came = f"{metric} {value:.4f}{describe_useless([scores])}"
        took = format_duration(self.took[-1]) if job else "known already"
        total = self.search.settings.trials
        first = best_trial(self.search, self.trials.results())
        top = f"; best {first.value:.4f} of trial {first.number}" if first else ""
        values = describe_values(self.search, run)
        told = f"{total - left} of {total}: {run.variant} ({values}): {came}, {took}{top}{self._left(left)}"
        self.progress.print(f"search {self.search.name}: {told}")
        self.progress.advance(total - left)

    def close(self) -> None:
        """Take the bar away."""
        self.progress.close()

    def _left(self, left: int) -> str:
        if not self.took:
            return ""
        seconds = statistics.mean(self.took) * (left + self.rechecks) / self.jobs
        return f"; {format_duration(seconds)} left"


def _wait_for(models: Path) -> None:
    """Until nobody writes there: the trainings of a search that was killed end a moment after it."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        try:
            with files.lock_folder(models):
                return
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)


def search_lines(searches: Sequence[Search], search_folders: SearchFolders, result_cache: ResultCache) -> Iterator[str]:
    """A line for each search: how much of it is done, and its goal."""
    width = max((len(search.name) for search in searches), default=0)
    for search in searches:
        done = [one for one in open_trials(search, search_folders, result_cache).results() if one.state != "running"]
        yield f"{search.name:{width}}  {len(done):4} of {search.settings.trials:4} trials  {search.settings.goal}"


def trial_lines(search: Search, trial_results: Sequence[TrialResult]) -> Iterator[str]:
    """What came of each trial so far."""
    yield f"{search.name}: {search.settings.goal}"
    states = {state: sum(one.state == state for one in trial_results) for state in ("complete", "pruned", "running")}
    yield f"{search.settings.trials} trials: " + ", ".join(f"{count} {state}" for state, count in states.items())
    for one in trial_results:
        reached = f"{one.value:.4f}" if one.value is not None else "–"
        values = describe_values(search, search.trial(one.number, one.values))
        line = f"trial {one.number:4}  {one.state:8}  {reached:>7}  {len(one.epochs):4} epochs  {values}  {one.why}"
        yield line.rstrip()
