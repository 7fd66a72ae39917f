"""A search done and reported: its data, its trials, the winner on other seeds, and its report here and in MLflow."""

from pathlib import Path

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.runs import pool
from keras_pipeline.runs.executor import LocalExecutor
from keras_pipeline.runs.folders import Folders, ResultCache
from keras_pipeline.runs.run import Run
from keras_pipeline.runs.run_steps import do_runs, is_done, make_data
from keras_pipeline.searches import report, searcher
from keras_pipeline.searches.search import Search
from keras_pipeline.searches.searcher import SearchFolders
from keras_pipeline.searches.trials import Trials, storage_faults
from keras_pipeline.stages import track
from keras_pipeline.studies.results import few_seeds_line


def run_search(
    search: Search,
    search_folders: SearchFolders,
    folders: Folders,
    params_file: Path,
    downloads: Path,
    jobs: int | None,
) -> None:
    """Make the data, do the trials that are not done, `jobs` at a time (by the number of cores, if None), and train the
    winner and params.yaml as it is on other seeds; before, say where a verdict will need more of them.

    Raises BusyError, and MachineError when a run fails or the storage cannot be used.
    """
    settings = search.settings
    if few := few_seeds_line(f"search {search.name}", search.path, settings.seeds, [settings.seed]):
        print(few)
    paths = ["--searches", str(search_folders.searches), "--studies", str(folders.studies)]
    paths += ["--params", str(params_file)]

    def command(run: Run) -> list[str]:
        return ["search", "run", search.name, *paths, "--variant", run.variant, "--key", run.key]

    with files.lock_folder(folders.studies / "runs"):
        make_data(folders, [search.baseline], downloads)
        known = ResultCache(folders)

        def done(run: Run) -> bool:
            return is_done(known, run, search.child_run(run))

        jobs = jobs or pool.default_jobs()
        trials = searcher.open_trials(search, search_folders, known, create=True)
        rechecks = searcher.count_rechecks_left(search, trials.results(), done)
        executor = LocalExecutor(folders)
        with storage_faults():
            pool.do_jobs(searcher.Searcher(search, known, trials, executor, jobs, rechecks, command, done), jobs)
        outcome = report.search_outcome(search, trials.results(), folders)
        if outcome.best and outcome.change:
            waiting = [[run] for run in search.rechecks(outcome.best.values) if not done(run)]
            title = f"search {search.name}: the winner"
            queue = pool.Queue(title, folders, executor, waiting, lambda runs: command(runs[0]))
            pool.do_jobs(queue, jobs)


def do_one_run(search: Search, folders: Folders, key: str, variant: str) -> None:
    """Do the run of this key, which `run_search` has begun, in this process."""
    do_runs(folders, [searcher.begun_run(folders, key, variant)], search.child_run)


def report_search(search: Search, trials: Trials, folders: Folders, folder: Path) -> None:
    """Write the report of what is done into `folder`, print its verdict, and keep it in MLflow.

    Raises DataError where no trial is done.
    """
    outcome = report.search_outcome(search, trials.results(), folders)
    if not outcome.trial_results:
        raise DataError(
            f"search {search.name}: no trial is finished with these params, data and code in {trials.place}. "
            f"`keras-pipeline search run {search.name}` trains them; a report of earlier ones stays."
        )
    written = report.write_search_report(outcome, trials.importances(), folder)
    print(f"search {search.name}: {outcome.verdict}")
    if outcome.diff:
        print(f"{outcome.diff}To apply it: git apply {folder / search.name}.diff")
    print(f"search {search.name}: the report is {folder / search.name}.html")
    goal, metrics = search.settings.goal, report.search_metrics(outcome)
    track.track_report(search.baseline.params, "search", search.name, goal, outcome.verdict, metrics, written)
