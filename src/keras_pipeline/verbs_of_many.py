"""The verbs of more than one run: study, search and compare."""

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pipeline.errors import DataError, ParamsError

if TYPE_CHECKING:
    from keras_pipeline.searches import Search
    from keras_pipeline.stages.search import Places
    from keras_pipeline.studies import Member, Run, Study
    from keras_pipeline.study_folders import Folders, Knowledge
    from keras_pipeline.trials import Trials


def study(chosen: argparse.Namespace) -> None:
    """Run, list, look at and report studies."""
    from keras_pipeline.stages import study
    from keras_pipeline.study_folders import Folders, Knowledge

    folders = Folders(chosen.studies)
    if chosen.action == "list":
        print("\n".join(study.listed(study.found(folders, chosen.params), Knowledge(folders))))
        return
    if chosen.name is None:
        raise ParamsError(f"study {chosen.action}: no name. Expected: one of those that `study list` shows.")
    found = study.named(folders, chosen.name, chosen.params)
    if chosen.key:
        runs = [run for key in chosen.key for run in found.runs if run.key == key]
        if len(runs) < len(chosen.key):
            raise ParamsError(f"study {found.name}: its file was changed while it ran. Run it again.")
        _work(folders, runs, found.member)
    elif chosen.action == "status":
        print("\n".join(study.status(found, Knowledge(folders))))
    else:
        if chosen.action == "run":
            _study_runs(found, folders, chosen)
        _study_report(found, folders, chosen.output or folders.report(found.name))


def _study_runs(found: "Study", folders: "Folders", chosen: argparse.Namespace) -> None:
    """Make the data and do the runs that are not done."""
    from keras_pipeline import files
    from keras_pipeline.stages import study, together
    from keras_pipeline.study_folders import Knowledge

    with files.lock(folders.studies / "runs"):
        _make_data(folders, found.runs, chosen.downloads)
        knowledge = Knowledge(folders)
        waiting = [run for run in found.runs if not _done(knowledge, run, found.member(run))]
        jobs = chosen.jobs or study.default_jobs()
        known = len(found.runs) - len(waiting)
        print(f"study {found.name}: {len(found.runs)} runs, {known} known; {len(waiting)} to do, {jobs} at a time")
        params = folders.studies / "runs" / f"{found.name}.yaml"  # as it is now: it may be changed while runs go on
        files.write_atomically(params, found.runs[0].base.encode())
        same = ["study", "run", found.name, "--studies", str(chosen.studies), "--params", str(params)]

        def command(runs: "Sequence[Run]") -> list[str]:
            return [*same, "--key", *(run.key for run in runs)]

        if chosen.together:
            untrained = [(run, folders.normalized(run.params)) for run in waiting if not knowledge.record(run)]
            groups = together.grouped(untrained)
            study.execute(f"study {found.name}", folders, groups, 1, command)
            grouped = {run.key for group in groups for run in group}
            waiting = [run for run in waiting if run.key not in grouped]
        study.execute(f"study {found.name}", folders, [[run] for run in waiting], jobs, command)


def _make_data(folders: "Folders", runs: "Sequence[Run]", downloads: Path) -> None:
    """The arrays of all these runs, as far as they are not there."""
    from keras_pipeline import study_folders
    from keras_pipeline.stages import fetch, normalize

    for params in {folders.normalized(run.params): run.params for run in runs}.values():
        if not study_folders.data_is_made(folders, params):
            fetch.run(params, folders.raw(params), downloads)
            normalize.run(params, folders.raw(params), folders.normalized(params))
            study_folders.data_made(folders, params)


def _done(knowledge: "Knowledge", run: "Run", member: "Member") -> bool:
    """Whether nothing of a run is left to do."""
    from keras_pipeline.stages import track

    own = knowledge.folders.run(run)
    record = knowledge.record(run)
    if not record or not knowledge.evaluated(own, record):
        return False
    return track.in_line(run.params, own / "params.yaml", own / "models", own / "reports", member)


def _work(folders: "Folders", runs: "Sequence[Run]", member: "Callable[[Run], Member]") -> None:
    """Do what is not done of one run, or of several that train together; `member`: what each is in MLflow."""
    from keras_pipeline import study_processes
    from keras_pipeline.stages import evaluate, together, track
    from keras_pipeline.study_folders import Knowledge

    knowledge = Knowledge(folders)
    untrained = [run for run in runs if not knowledge.record(run)]
    pruned = False
    if len(runs) > 1 and untrained:
        together.run([(run, folders.run(run) / "models") for run in runs], folders.normalized(runs[0].params))
    elif untrained:
        pruned = _train_alone(folders, runs[0])
    if untrained and not pruned and runs[0].params.train.backend != "tensorflow":
        if all(map(knowledge.record, runs)):  # evaluated by TensorFlow, and a process has one backend
            study_processes.begin_anew()
        raise RuntimeError("a training that ended well is not known")
    for run in runs:
        own = folders.run(run)
        models, reports = own / "models", own / "reports"
        record = knowledge.record(run)
        if record and not knowledge.evaluated(own, record):
            evaluate.run(run.params, folders.normalized(run.params), models, reports)
            knowledge.keep_evaluated(own, record)
        track.run(run.params, own / "params.yaml", models, reports, own / "checkpoints", member=member(run))


def _train_alone(folders: "Folders", run: "Run") -> bool:
    """Train one run; whether its search gave it up."""
    from keras_pipeline.errors import DivergedError, StoppedError
    from keras_pipeline.stages import train
    from keras_pipeline.study_folders import PRUNED, Keeper

    own = folders.run(run)
    (own / PRUNED).unlink(missing_ok=True)  # a word of an earlier time
    try:
        train.run(
            run.params, folders.normalized(run.params), own / "models", Keeper(own / "models"), own / "checkpoints"
        )
    except DivergedError as error:  # a result like others, which the keeper keeps
        print(error)
    except StoppedError:
        if not (own / PRUNED).is_file():
            raise
        shutil.rmtree(own / "checkpoints")  # nobody goes on with it
        return True
    return False


def _study_report(found: "Study", folders: "Folders", folder: Path) -> None:
    from keras_pipeline import answer, study_report
    from keras_pipeline.stages import track

    results = answer.results(found.runs, folders.run)
    variants = answer.answered(results, found.asked.baseline)
    written = study_report.write(found, results, variants, folder)
    for one in variants:
        print(f"study {found.name}: {one.name}: {one.verdict}")
    print(f"study {found.name}: the report is {folder / found.name}.html")
    params = found.runs[0].params
    track.answer(params, "study", found.name, found.asked.question, study_report.metrics(variants), written)


def search(chosen: argparse.Namespace) -> None:
    """Run, list, look at and report searches."""
    from keras_pipeline.stages import search
    from keras_pipeline.study_folders import Folders, Knowledge

    places, folders = search.Places(chosen.searches), Folders(chosen.studies)
    if chosen.action == "list":
        print("\n".join(search.listed(search.found(places, chosen.params), places, Knowledge(folders))))
        return
    if chosen.name is None:
        raise ParamsError(f"search {chosen.action}: no name. Expected: one of those that `search list` shows.")
    found = search.named(places, chosen.name, chosen.params)
    if chosen.key:
        _work(folders, [search.begun(folders, chosen.key, chosen.variant)], found.member)
        return
    if chosen.action == "run":
        _search_runs(found, places, folders, chosen)
    trials = search.trials(found, places, Knowledge(folders))
    if chosen.action == "status":
        print("\n".join(search.status(found, trials.seen())))
    else:
        _search_report(found, trials, folders, chosen.output or places.report(found.name))


def _search_runs(found: "Search", places: "Places", folders: "Folders", chosen: argparse.Namespace) -> None:
    """Make the data, do the trials that are not done, and train the winner and params.yaml as it is on other seeds."""
    from keras_pipeline import files, search_report
    from keras_pipeline.stages import search, study
    from keras_pipeline.study_folders import Knowledge
    from keras_pipeline.trials import storage_faults

    paths = ["--searches", str(chosen.searches), "--studies", str(chosen.studies), "--params", str(chosen.params)]

    def command(run: "Run") -> list[str]:
        return ["search", "run", found.name, *paths, "--variant", run.variant, "--key", run.key]

    with files.lock(folders.studies / "runs"):
        _make_data(folders, [found.baseline], chosen.downloads)
        knowledge = Knowledge(folders)

        def done(run: "Run") -> bool:
            return _done(knowledge, run, found.member(run))

        jobs = chosen.jobs or study.default_jobs()
        trials = search.trials(found, places, knowledge, create=True)
        rechecks = search.rechecks_left(found, trials.seen(), done)
        with storage_faults():
            search.Searcher(found, knowledge, trials, jobs, rechecks, command, done).run()
        outcome = search_report.outcome(found, trials.seen(), folders)
        if outcome.best and outcome.change:
            waiting = [[run] for run in found.rechecks(outcome.best.values) if not done(run)]
            study.execute(f"search {found.name}: the winner", folders, waiting, jobs, lambda runs: command(runs[0]))


def _search_report(found: "Search", trials: "Trials", folders: "Folders", folder: Path) -> None:
    from keras_pipeline import search_report
    from keras_pipeline.stages import track

    outcome = search_report.outcome(found, trials.seen(), folders)
    if not outcome.seen:
        raise DataError(
            f"search {found.name}: no trial is done with these params, data and code. `search run {found.name}` does "
            "them; a report of earlier ones stays."
        )
    written = search_report.write(outcome, trials.importances(), folder)
    print(f"search {found.name}: {outcome.verdict}")
    if outcome.diff:
        print(f"{outcome.diff}To apply it: git apply {folder / found.name}.diff")
    print(f"search {found.name}: the report is {folder / found.name}.html")
    params = found.baseline.params
    track.answer(params, "search", found.name, found.asked.goal, search_report.metrics(outcome), written)


def compare(chosen: argparse.Namespace) -> None:
    """Hold two runs against each other."""
    from keras_pipeline import found_run, pair, pair_report, params
    from keras_pipeline.stages import track
    from keras_pipeline.tracking import lookup, store

    values = params.load(chosen.params)
    where = store.location(store.project_root())

    def stored(asked: str, artifacts: tuple[str, ...], folder: Path) -> tuple[str, dict[str, Any]]:
        return lookup.fetched(where, values.tracking.experiment, asked, artifacts, folder)

    a, b = found_run.found(chosen.a, stored), found_run.found(chosen.b, stored)
    differing, answers = pair.differing(a.record, b.record), pair.answers(a, b)
    images = None
    if answers and answers.flips:
        images = pair.tested_on((a, b), pair_report.folders(a, b, chosen.normalized))
    name = pair_report.name(a, b)
    folder = chosen.output or Path("compare") / name
    written = pair_report.write(a, b, differing, answers, images, folder)
    print("\n".join([*pair_report.lines(a, b, differing, answers), f"page:     {folder / pair_report.NAME}.html"]))
    track.comparison(values, b.record["key"], written, f"compare/{name}")
