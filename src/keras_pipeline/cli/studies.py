"""The verbs of many runs: study and search."""

import argparse
import contextlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from keras_pipeline.cli import place
from keras_pipeline.core import terminal
from keras_pipeline.core.errors import ParamsError

STUDY = """\
A study answers one question with many runs: its file, studies/NAME.yaml, has the variants, seeds and fixed values.

actions:
  run NAME     train its runs, some at a time, and write the report. It may be stopped, or killed, at any moment: the
               same command resumes, and repeats no finished run, nor one that another study has finished with the
               same params, data and code.
  list         every study, and how much of it is done
  status NAME  what is done of each variant
  report NAME  write the report from what is done

Runs, data and reports are below studies/; params.yaml, models/ and reports/ stay as they are. In MLflow each study is
an experiment, its runs the children of one run, which holds the report.
"""
SEARCH = """\
A search looks for the best values of some params: its file, searches/NAME.yaml, names the metric, the search space
and the number of trials.

actions:
  run NAME     say the cost; run the trials, some at a time, and prune unpromising ones; train the best trial and
               params.yaml as it is with new seeds, and offer what is better as a diff of params.yaml. It may be
               stopped, or killed, at any moment: the same command resumes, and repeats no finished trial.
  list         every search, and how much of it is done
  status NAME  the result of each trial
  report NAME  write the report from what is done

params.yaml, models/ and reports/ stay as they are; runs and data are below studies/, shared with the studies. In MLflow
each search is an experiment, its trials the children of one run. KERAS_PIPELINE_SEARCH_STORAGE may name a database,
sqlite:///PATH or postgresql://…, instead of a file below searches/state/.
"""


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Give the parser this module's verbs; `add` is the function of `main.make_parser`."""
    command = add("study", study, "one question, several seeds, an answer with statistics", "params", "downloads")
    command.description = STUDY
    command.add_argument(
        "--studies",
        type=place.user_path,
        default=Path("studies"),
        metavar="PATH",
        help="where they are (default: studies)",
    )
    _add_common_arguments(command, "studies")
    command.add_argument(
        "--together",
        action="store_true",
        help="train runs that differ only in seed, learning rate, dropout and L2 as one program (needs JAX)",
    )
    command.add_argument("--key", nargs="+", help=argparse.SUPPRESS)
    command = add("search", search, "the best values of some params, within a budget", "params", "downloads")
    command.description = SEARCH
    command.add_argument(
        "--searches",
        type=place.user_path,
        default=Path("searches"),
        metavar="PATH",
        help="where they are (default: searches)",
    )
    command.add_argument(
        "--studies",
        type=place.user_path,
        default=Path("studies"),
        metavar="PATH",
        help="where runs are (default: studies)",
    )
    _add_common_arguments(command, "searches")
    command.add_argument("--key", help=argparse.SUPPRESS)
    command.add_argument("--variant", help=argparse.SUPPRESS)


def _add_common_arguments(command: argparse.ArgumentParser, folder: str) -> None:
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument("action", choices=["run", "list", "status", "report"], metavar="ACTION")
    command.add_argument("name", nargs="?", metavar="NAME")
    command.add_argument("--quiet", action="store_true", help="run: print what came out alone, and warnings")
    command.add_argument("--jobs", type=_count, metavar="N", help="runs at a time (default: by the number of cores)")
    command.add_argument(
        "--output", type=place.user_path, metavar="PATH", help=f"the report's folder (default: {folder}/reports/NAME)"
    )


def study(chosen: argparse.Namespace) -> None:
    """Run, list, look at and report studies."""
    from keras_pipeline.runs.folders import Folders, ResultCache
    from keras_pipeline.studies.study import find_study, list_studies, study_lines, variant_lines

    folders = Folders(chosen.studies)
    if chosen.action == "list":
        studies, faults = list_studies(folders, chosen.params)
        _print_list(study_lines(studies, ResultCache(folders)), faults)
        return
    from keras_pipeline.studies.runner import do_some_runs, report_study, run_study

    chosen_study = find_study(folders, _name(chosen), chosen.params)
    if chosen.key:
        do_some_runs(chosen_study, folders, chosen.key)
    elif chosen.action == "status":
        print("\n".join(variant_lines(chosen_study, ResultCache(folders))))
    else:
        if chosen.action == "run":
            with _hush(chosen):
                run_study(chosen_study, folders, chosen.downloads, chosen.jobs, together=chosen.together)
        report_study(chosen_study, folders, chosen.output or folders.report(chosen_study.name))


def search(chosen: argparse.Namespace) -> None:
    """Run, list, look at and report searches."""
    from keras_pipeline.runs.folders import Folders, ResultCache
    from keras_pipeline.searches import searcher

    search_folders, folders = searcher.SearchFolders(chosen.searches), Folders(chosen.studies)
    if chosen.action == "list":
        searches, faults = searcher.list_searches(search_folders, chosen.params)
        _print_list(searcher.search_lines(searches, search_folders, ResultCache(folders)), faults)
        return
    from keras_pipeline.searches import runner

    search = searcher.find_search(search_folders, _name(chosen), chosen.params)
    if chosen.key:
        runner.do_one_run(search, folders, chosen.key, chosen.variant)
        return
    if chosen.action == "run":
        with _hush(chosen):
            runner.run_search(search, search_folders, folders, chosen.params, chosen.downloads, chosen.jobs)
    trials = searcher.open_trials(search, search_folders, ResultCache(folders))
    if chosen.action == "status":
        print("\n".join(searcher.trial_lines(search, trials.results())))
    else:
        runner.report_search(search, trials, folders, chosen.output or search_folders.report(search.name))


def _print_list(lines: Iterable[str], faults: list[str]) -> None:
    """What can be read, then what cannot: one damaged file hides no other."""
    for line in lines:
        print(line)
    if faults:
        raise ParamsError("\n".join(faults))


def _hush(chosen: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    return terminal.quiet(result=False) if chosen.quiet else contextlib.nullcontext()


def _name(chosen: argparse.Namespace) -> str:
    if chosen.name is None:
        raise ParamsError(
            f"{chosen.verb} {chosen.action}: no name. Expected: one of those that `{chosen.verb} list` shows."
        )
    return str(chosen.name)


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of processes. Expected: 1 or more")
    return int(text)
