"""A study done and reported: its data, its runs, some at a time, and its report here and in MLflow."""

from collections.abc import Sequence
from pathlib import Path

from keras_pipeline.core import files
from keras_pipeline.core.errors import ParamsError
from keras_pipeline.runs import pool
from keras_pipeline.runs.executor import LocalExecutor
from keras_pipeline.runs.folders import Folders, ResultCache
from keras_pipeline.runs.run import Run
from keras_pipeline.runs.run_steps import do_runs, is_done, make_data
from keras_pipeline.stages import track
from keras_pipeline.studies import report
from keras_pipeline.studies.results import collect_results, compare_variants, few_seeds_line
from keras_pipeline.studies.study import Study


def run_study(study: Study, folders: Folders, downloads: Path, jobs: int | None, *, together: bool) -> None:
    """Make the data and do the runs that are not done, `jobs` at a time (by the number of cores, if None).

    `together`: those that may are trained as one program first. Says before it starts where a verdict will need more
    seeds. Raises BusyError, and MachineError when a run fails.
    """
    if few := few_seeds_line(f"study {study.name}", study.path, study.settings.seeds):
        print(few)
    with files.lock_folder(folders.studies / "runs"):
        make_data(folders, study.runs, downloads)
        known = ResultCache(folders)
        waiting = [run for run in study.runs if not is_done(known, run, study.child_run(run))]
        jobs = jobs or pool.default_jobs()
        done = len(study.runs) - len(waiting)
        print(f"study {study.name}: {len(study.runs)} runs, {done} known; {len(waiting)} to do, {jobs} at a time")
        params = folders.studies / "runs" / f"{study.name}.yaml"  # as it is now: it may be changed while runs go on
        files.write_atomically(params, study.runs[0].base.encode())
        same = ["study", "run", study.name, "--studies", str(folders.studies), "--params", str(params)]

        def command(runs: Sequence[Run]) -> list[str]:
            return [*same, "--key", *(run.key for run in runs)]

        executor = LocalExecutor(folders)

        def do(groups: Sequence[Sequence[Run]], most: int) -> None:
            pool.do_jobs(pool.Queue(f"study {study.name}", folders, executor, groups, command), most)

        if together:
            from keras_pipeline.runs.together import group_runs

            groups = group_runs([(run, folders.normalized(run.params)) for run in waiting if not known.record(run)])
            do(groups, 1)
            grouped = {run.key for group in groups for run in group}
            waiting = [run for run in waiting if run.key not in grouped]
        do([[run] for run in waiting], jobs)


def do_some_runs(study: Study, folders: Folders, keys: Sequence[str]) -> None:
    """Do the runs of these keys in this process. Raises ParamsError where the study has none of such a key."""
    runs = [run for key in keys for run in study.runs if run.key == key]
    if len(runs) < len(keys):
        raise ParamsError(f"study {study.name}: its file was changed while it ran. Run it again.")
    do_runs(folders, runs, study.child_run)


def report_study(study: Study, folders: Folders, folder: Path) -> None:
    """Write the report of what is done into `folder`, print its verdicts, and keep it in MLflow."""
    results = collect_results(study.runs, folders.run)
    variants = compare_variants(results, study.settings.baseline)
    written = report.write_study_report(study, results, variants, folder)
    for one in variants:
        print(f"study {study.name}: {one.name}: {one.verdict}")
    print(f"study {study.name}: the report is {folder / study.name}.html")
    question, verdict, metrics = study.settings.question, report.study_verdict(variants), report.study_metrics(variants)
    track.track_report(study.runs[0].params, "study", study.name, question, verdict, metrics, written)
