"""The trials of a search, each a run in a process of its own, some at a time; the budget first."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from keras_pipeline.checks.params import load_params
from keras_pipeline.core import files
from keras_pipeline.core.errors import BusyError, DataError, ParamsError
from keras_pipeline.data.history import read_history
from keras_pipeline.records.record import best_row, read_record
from keras_pipeline.runs import local
from keras_pipeline.runs.folders import PRUNED, TRAINING_ALONE, Folders, ResultCache
from keras_pipeline.runs.local import LOOK_SECONDS, MOMENT_SECONDS, SECONDS, Job, format_duration
from keras_pipeline.runs.run import Run
from keras_pipeline.searches.search import WINNER, Search, describe_values, load_search
from keras_pipeline.searches.trials import TrialResult, Trials, best_trial, mend_journal

if TYPE_CHECKING:
    import optuna


HISTORY = Path("models", "history.csv")


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


def list_searches(places: SearchFolders, params_file: Path) -> list[Search]:
    """Every search there is, by name. Raises ParamsError where one has a fault."""
    return [load_search(path, params_file) for path in sorted(places.searches.glob("*.yaml"))]


def find_search(places: SearchFolders, name: str, params_file: Path) -> Search:
    """The search of this name. Raises ParamsError where there is none, or it has a fault."""
    path = places.searches / f"{name}.yaml"
    known = sorted(one.stem for one in places.searches.glob("*.yaml"))
    if name not in known:
        there = f"There are: {', '.join(known)}" if known else "There is none yet: write the file"
        raise ParamsError(f"{path}: no search '{name}'. {there}.")
    return load_search(path, params_file)


def begun_run(folders: Folders, key: str, variant: str) -> Run:
    """The run whose params.yaml is in the folder of this key, as its `variant` was named when it was begun.

    Raises ParamsError where the file was changed since.
    """
    path = folders.studies / "runs" / key / "params.yaml"
    values = load_params(path)
    run = Run(variant, "", values.seed, values, path.read_text(), {})
    if run.key != key:
        raise ParamsError(f"{path}: was changed while the search ran. Run the search again.")
    return run


def open_trials(search: Search, places: SearchFolders, result_cache: ResultCache, *, create: bool = False) -> Trials:
    """The search's trials as far as they were made with these params, data and code; none without the data."""
    statistics_file = result_cache.folders.normalized(search.baseline.params) / "statistics.json"
    data = files.file_sha256(statistics_file) if statistics_file.is_file() else ""
    journal = places.journal(search.name)
    if create:
        mend_journal(journal)
    return Trials(
        search, search.identity(result_cache.code[TRAINING_ALONE], data), journal, create=create and bool(data)
    )


def known_seconds(search: Search, folders: Folders, seen: Sequence[TrialResult]) -> list[float]:
    """How long runs took that are like the search's: its trials, else known ones that differ in its space only."""
    if own := [one.seconds for one in seen if one.seconds is not None]:
        return own
    wanted = {key: value for key, value in search.baseline.values.items() if not key.startswith("evaluate.")}
    apart = {"seed", *search.asked.space}
    found = []
    for path in (folders.studies / "runs").glob(f"*/{SECONDS}"):
        try:
            seconds = files.read_json(path, written_by="study")
            record = read_record(path.parent / "models" / "run.json", "study")
        except DataError:
            continue
        values = record["params"]
        like = all(values.get(key) == wanted.get(key) for key in values.keys() | wanted.keys() if key not in apart)
        if like and not record.keys() & {"diverged", "pruned"}:
            found.append(float(seconds))
    return found


def count_rechecks_left(search: Search, seen: Sequence[TrialResult], done: Callable[[Run], bool]) -> int:
    """How many runs are still to do when all trials are done: those of the winner too, which is not known before."""
    full = sum(one.state != "running" for one in seen) >= search.asked.trials
    first = best_trial(search, seen)
    runs = search.rechecks(first.values if full and first else {})
    return sum(not done(run) or (run.variant == WINNER and not full) for run in runs)


def budget_line(search: Search, seconds: Sequence[float], open_trials: int, rechecks: int, jobs: int) -> str:
    """What is still to do, in runs times seconds; an upper bound, but for runs that take longer than those known."""
    each = statistics.median(seconds)
    trials = "1 trial" if open_trials == 1 else f"{open_trials} trials"
    known = f"the median of {len(seconds)} like it" if len(seconds) > 1 else "as one like it took"
    pruned = "; those that are pruned take less" if search.asked.pruner != "none" and open_trials else ""
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
    job: Job
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
        rows = read_history(history)
        new, self.rows = rows[self.rows :], max(self.rows, len(rows))
        return new

    def prune(self, why: str) -> None:
        """Ask it to end after this step, for good."""
        self.pruned = True
        files.write_atomically(self.own / PRUNED, why.encode())
        self.job.process.terminate()


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


@dataclass
class Searcher:
    """Does the trials that are not done, `jobs` at a time, each by a process of ours with the arguments `command`.

    `done`: whether nothing of a run is left to do; `rechecks`: runs that will follow.
    """

    search: Search
    result_cache: ResultCache
    trials: Trials
    jobs: int
    rechecks: int
    command: Callable[[Run], Sequence[str]]
    done: Callable[[Run], bool]
    took: list[float] = field(default_factory=list)
    budgeted: bool = False

    def run(self) -> None:
        """Tell the budget, and then of each trial's end.

        Every process ends with this one. Raises MachineError naming the log when one fails; those that were begun then
        end first, and what they did is kept.
        """
        for key in self.trials.recover():
            _wait_for(self.result_cache.folders.studies / "runs" / key / "models")
        left = max(0, self.search.asked.trials - len(self.trials.seen()))
        self._budget(left)
        active: list[_Active] = []
        failed: Job | None = None
        try:
            while active or (left > 0 and not failed):
                while left > 0 and not failed and len(active) < (self.jobs if self.budgeted else 1):
                    left -= 1
                    active += self._begin(left + len(active))
                time.sleep(LOOK_SECONDS)
                for one in list(active):
                    self._look(one)
                    if not one.job.process.is_alive():
                        active.remove(one)
                        again, fault = self._ended(one, left + len(active))
                        active += again
                        failed = failed or fault
                        self._budget(left)
        finally:
            local.end_processes([one.job.process for one in active])
        if failed:
            raise local.job_fault(failed)

    def _budget(self, left: int) -> None:
        """Say once what is to come, as soon as it is known how long a run takes; if need be by the first trial."""
        if self.budgeted:
            return
        if not left and not self.rechecks:
            print(f"search {self.search.name}: all is done already", flush=True)
            self.budgeted = True
            return
        seconds = known_seconds(self.search, self.result_cache.folders, self.trials.seen()) or self.took
        self.budgeted = bool(seconds)
        if seconds:
            print(budget_line(self.search, seconds, left, self.rechecks, self.jobs), flush=True)
        else:
            runs = f"{left} trials, and {self.rechecks} runs to check the winner"
            print(f"search {self.search.name}: budget: {runs}; the first trial tells how long one takes", flush=True)

    def _begin(self, left: int) -> list[_Active]:
        """The next trial at work; nothing where its result was known already."""
        trial, run = self.trials.ask()
        if self.done(run):
            self._conclude(trial, 0, run, None, left)
            return []
        return [self._start(trial, run, spare=self.result_cache.record(run) is not None)]

    def _start(self, trial: "optuna.Trial", run: Run, *, spare: bool) -> _Active:
        own = self.result_cache.folders.run(run)
        stamp = _stamp(own / HISTORY)
        job = local.start_job(self.result_cache.folders, [run], self.command(run))
        return _Active(trial, run, job, own, stamp, spare)

    def _look(self, one: _Active) -> None:
        """Tell Optuna of its new epochs; end it where they are hopeless, unless its end is near anyway."""
        rows = one.new_rows()
        hopeless = self.trials.report(one.trial, rows)
        if hopeless and not one.spare and not one.pruned and one.rows < one.run.params.train.epochs:
            metric = self.search.asked.metric
            one.prune(f"after epoch {one.rows}: its best {metric} is worse than half of the trials before had by then")

    def _ended(self, one: _Active, left: int) -> tuple[list[_Active], Job | None]:
        """What has to be done again of a trial whose process has ended, or the work that failed."""
        if one.job.process.exitcode == 0:
            seconds = local.job_seconds(self.result_cache.folders, one.job)
            self.took.append(seconds)
            self._conclude(one.trial, one.rows, one.run, one.job, left)
        elif one.pruned:  # the signal came when its training was over: what is left is little
            again = self._start(one.trial, one.run, spare=True)
            again.rows = one.rows
            return [again], None
        else:
            return [], one.job
        return [], None

    def _conclude(self, trial: "optuna.Trial", told: int, run: Run, job: Job | None, left: int) -> None:
        """Tell Optuna and the user what came of a trial; of so many epochs, `told`, Optuna knows."""
        metric, own = self.search.asked.metric, self.result_cache.folders.run(run)
        record = read_record(own / "models" / "run.json", "search")
        self.trials.report(trial, record["history"][told:])
        if why := record.get("diverged") or record.get("pruned"):
            self.trials.give_up(trial, why)
            came = "diverged" if "diverged" in record else f"pruned after epoch {len(record['history'])}"
        else:
            value = best_row(record)[metric]
            self.trials.complete(trial, value, self.took[-1] if job and job.whole else None)
            came = f"{metric} {value:.4f}"
        took = format_duration(self.took[-1]) if job else "known already"
        total = self.search.asked.trials
        first = best_trial(self.search, self.trials.seen())
        top = f"; best {first.value:.4f} of trial {first.number}" if first else ""
        values = describe_values(self.search, run)
        print(f"search {self.search.name}: {total - left} of {total}: {run.variant} ({values}): {came}, {took}{top}"
              f"{self._left(left)}", flush=True)  # fmt: skip

    def _left(self, left: int) -> str:
        if not self.took:
            return ""
        seconds = statistics.mean(self.took) * (left + self.rechecks) / self.jobs
        return f"; {format_duration(seconds)} left"


def _wait_for(models: Path) -> None:
    """Until nobody writes there: the trainings of a search that was killed end a moment after it."""
    deadline = time.monotonic() + MOMENT_SECONDS
    while True:
        try:
            with files.lock_folder(models):
                return
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)


def search_lines(searches: Sequence[Search], places: SearchFolders, result_cache: ResultCache) -> Iterator[str]:
    """A line for each search: how much of it is done, and its goal."""
    width = max((len(search.name) for search in searches), default=0)
    for search in searches:
        done = [one for one in open_trials(search, places, result_cache).seen() if one.state != "running"]
        yield f"{search.name:{width}}  {len(done):4} of {search.asked.trials:4} trials  {search.asked.goal}"


def trial_lines(search: Search, seen: Sequence[TrialResult]) -> Iterator[str]:
    """What came of each trial so far."""
    yield f"{search.name}: {search.asked.goal}"
    states = {state: sum(one.state == state for one in seen) for state in ("complete", "pruned", "running")}
    yield f"{search.asked.trials} trials: " + ", ".join(f"{count} {state}" for state, count in states.items())
    for one in seen:
        reached = f"{one.value:.4f}" if one.value is not None else "–"
        values = describe_values(search, search.trial(one.number, one.values))
        line = f"trial {one.number:4}  {one.state:8}  {reached:>7}  {len(one.epochs):4} epochs  {values}  {one.why}"
        yield line.rstrip()
