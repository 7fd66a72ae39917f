"""What can be typed behind `keras-pipeline`, and the texts of --help."""

import argparse
import re
from pathlib import Path

from keras_pipeline import verbs, verbs_of_many

EXAMPLES = """\
examples:
  dvc repro                                 bring everything in line with params.yaml
  dvc exp run -S model.dropout=0.5          the same with one value changed, as a named experiment
  keras-pipeline params check               every fault of params.yaml, with line and column
  keras-pipeline status                     which run the files here come from, and whether it is stale
  keras-pipeline debug one-batch            does everything run? in seconds; more in debug --help
  keras-pipeline study run activations      one question, many runs, an answer one can trust
  keras-pipeline compare HEAD .             any two runs: what differed, what came of it, was it chance
  keras-pipeline search run mlp             the best values of some params, checked on other seeds
  keras-pipeline certify                    train that run again elsewhere: the same bytes?
  keras-pipeline ui                         look at all runs
  eval "$(keras-pipeline completion bash)"  complete commands with the tab key

exit codes: 0 done, 1 certify or conformance: not as recorded, 2 bad params or usage, 3 bad data,
4 download failed, 5 training diverged, or overfit failed, 6 the machine lacks something,
7 model file damaged, 70 our bug, 75 stopped or busy: run again, 130 and 143 interrupted
"""
DEBUG = """\
A quick training with params.yaml as it is, which answers one question and writes into debug/MODE only.

modes:
  one-batch  does everything run? One training and one validation batch, once, and the network is written.
  overfit    is there a bug? The first four batches over and over, without Dropout, L2, augmentation, schedule
             and early stopping.
             A sound network learns them by heart (exit 0); one that does not in 1,000 steps has something wrong: the
             learning rate, the labels, the loss, a layer that lets nothing through (exit 5).
  limited    does it learn at all? All as in params.yaml, on a tenth (--share) of the training images, the same of
             each class.
  profile    where does the time go? 10 steps, then 50 by the clock: batch, wait, step, callbacks, in ms (times.csv);
             then 20 into a trace for TensorBoard's page Profile.

The run, with the trace, is in MLflow under the experiment's name with the word debug behind it.
"""
STUDY = """\
A study asks one question with many runs: its file, studies/NAME.yaml, says what varies, the seeds, and what is fixed.

actions:
  run NAME     do its runs, some at a time, and write the report. It may be stopped, or killed, at any moment: the same
               command goes on, and repeats nothing that is done, nor what another study has done with the same params,
               data and code.
  list         every study, and how much of it is done
  status NAME  what is done of each variant
  report NAME  write the report from what is done

Runs, data and reports are below studies/; params.yaml, models/ and reports/ stay as they are. In MLflow each study is
an experiment, its runs the children of one run, which holds the report.
"""
COMPARE = """\
Holds two finished runs against each other: what differed in params, data, code, versions and machine; every test
metric; whether the difference of accuracy is larger than chance among test images; and the test images that flipped,
as pictures.

A and B may each be, in this order where several would fit:
  a folder       with models/ and reports/: `.` is this checkout, studies/runs/KEY a run of a study
  a git revision whose files are in DVC's cache: HEAD, HEAD~3, a branch; or the name of a DVC experiment
  an MLflow run  its name, its key, or at least 6 characters that the key begins with, or MLflow's id

Writes a page, comparison.md and comparison.html, and keeps it in MLflow with B's run. Nothing is trained or changed.
"""
SEARCH = """\
A search seeks the best values of some params: its file, searches/NAME.yaml, says what is sought, in which space, and
how many trials that may cost.

actions:
  run NAME     say the budget; do the trials, some at a time, ending those early that are hopeless; train the winner and
               params.yaml as it is on other seeds, and offer what is better as a diff of params.yaml. It may be
               stopped, or killed, at any moment: the same command goes on, and repeats nothing that is done.
  list         every search, and how much of it is done
  status NAME  what came of each trial
  report NAME  write the report from what is done

params.yaml, models/ and reports/ stay as they are; runs and data are below studies/, shared with the studies. In MLflow
each search is an experiment, its trials the children of one run. KERAS_PIPELINE_SEARCH_STORAGE may name a database,
sqlite:///PATH or postgresql://…, instead of a file below searches/state/.
"""


def parser() -> argparse.ArgumentParser:
    """Of the whole command line: `chosen.run(chosen)` does what was asked and returns an exit code or None."""
    parser = argparse.ArgumentParser(
        prog="keras-pipeline",
        description="A Keras experiment pipeline: DVC runs the stages, MLflow shows the runs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    paths = _path_options()

    def add(name: str, run: object, text: str, *options: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=text, description=f"{text}.", parents=[paths[option] for option in options]
        )
        command.set_defaults(run=run)
        return command

    fetch = add("fetch", verbs.fetch, "download and verify the dataset", "params", "raw", "downloads")
    fetch.add_argument(
        "--download-only",
        action="store_true",
        help="only make sure that the files are there; writes no data/raw",
    )
    add("normalize", verbs.normalize, "split and scale the images", "params", "raw", "normalized")
    train = add("train", verbs.train, "train the network", "params", "normalized", "models", "checkpoints")
    launch = add(
        "launch",
        verbs.train,
        "train with several local processes, whatever params.yaml says of workers",
        "params",
        "normalized",
        "models",
        "checkpoints",
    )
    for verb, needed in ((train, False), (launch, True)):
        verb.add_argument("--no-resume", action="store_true", help="begin anew, also where a checkpoint is kept")
        verb.add_argument(
            "--workers", type=int, required=needed, metavar="N", help="processes, instead of train.workers"
        )
    add(
        "evaluate",
        verbs.evaluate,
        "test the network; numbers and figures",
        "params",
        "normalized",
        "models",
        "reports",
    )
    debug = add("debug", verbs.debug, "a quick training that answers one question", "params", "normalized")
    debug.description, debug.formatter_class = DEBUG, argparse.RawDescriptionHelpFormatter
    debug.add_argument("mode", choices=["one-batch", "overfit", "limited", "profile"], metavar="MODE")
    debug.add_argument(
        "--debug", type=Path, default=Path("debug"), metavar="PATH", help="where MODE/ is written (default: debug)"
    )
    debug.add_argument("--share", type=_share, default=0.1, help="limited: of the training images (default: 0.1)")
    study = add("study", verbs_of_many.study, "one question, many runs, an answer one can trust", "params", "downloads")
    study.description, study.formatter_class = STUDY, argparse.RawDescriptionHelpFormatter
    study.add_argument("action", choices=["run", "list", "status", "report"], metavar="ACTION")
    study.add_argument("name", nargs="?", metavar="NAME")
    study.add_argument(
        "--studies", type=Path, default=Path("studies"), metavar="PATH", help="where they are (default: studies)"
    )
    study.add_argument("--jobs", type=_count, metavar="N", help="runs at a time (default: by the number of cores)")
    study.add_argument(
        "--output", type=Path, metavar="PATH", help="the report's folder (default: studies/reports/NAME)"
    )
    study.add_argument(
        "--together",
        action="store_true",
        help="train runs that differ only in seed, learning rate, dropout and L2 as one program (needs JAX)",
    )
    study.add_argument("--key", nargs="+", help=argparse.SUPPRESS)
    search = add(
        "search", verbs_of_many.search, "the best values of some params, within a budget", "params", "downloads"
    )
    search.description, search.formatter_class = SEARCH, argparse.RawDescriptionHelpFormatter
    search.add_argument("action", choices=["run", "list", "status", "report"], metavar="ACTION")
    search.add_argument("name", nargs="?", metavar="NAME")
    search.add_argument(
        "--searches", type=Path, default=Path("searches"), metavar="PATH", help="where they are (default: searches)"
    )
    search.add_argument(
        "--studies", type=Path, default=Path("studies"), metavar="PATH", help="where runs are (default: studies)"
    )
    search.add_argument("--jobs", type=_count, metavar="N", help="runs at a time (default: by the number of cores)")
    search.add_argument(
        "--output", type=Path, metavar="PATH", help="the report's folder (default: searches/reports/NAME)"
    )
    search.add_argument("--key", help=argparse.SUPPRESS)
    search.add_argument("--variant", help=argparse.SUPPRESS)
    track = add(
        "track", verbs.track, "make MLflow say what the files say", "params", "models", "reports", "checkpoints"
    )
    track.add_argument("--again", action="store_true", help="send everything, also where nothing has changed")
    check = add("params", verbs.params, "check params.yaml without running anything", "params")
    check.add_argument("action", choices=["check"])
    add(
        "status",
        verbs.status,
        "which run the files come from, and is it stale",
        "params",
        "normalized",
        "models",
        "reports",
    )
    certify = add(
        "certify",
        verbs.certify,
        "can a run be repeated: train it again from its commit and compare",
        "params",
        "raw",
        "downloads",
        "normalized",
        "models",
    )
    certify.add_argument(
        "name",
        nargs="?",
        metavar="RUN",
        help="a run's name in MLflow, or its key or the beginning of it (default: the run of models/run.json)",
    )
    certify.add_argument("--quick", action="store_true", help="compare what can be compared without training")
    compare = add(
        "compare",
        verbs_of_many.compare,
        "two runs: what differed, what came of it, was it chance",
        "params",
        "normalized",
    )
    compare.description, compare.formatter_class = COMPARE, argparse.RawDescriptionHelpFormatter
    for letter in ("A", "B"):
        compare.add_argument(
            letter.lower(), metavar=letter, help="a folder, git revision, DVC experiment or MLflow run"
        )
    compare.add_argument("--output", type=Path, metavar="PATH", help="the folder of the page (default: compare/A-vs-B)")
    add("doctor", verbs.doctor, "what this machine has, and what to do where something is missing", "params", "raw")
    add("relocate", verbs.relocate, "repair MLflow's artifact paths after the checkout was moved or copied")
    ui = add("ui", verbs.ui, "open MLflow's page at the table of runs", "params")
    ui.add_argument("--port", type=int, default=0, help="port on this machine; 0: a free one (default)")
    ui.add_argument("--no-browser", action="store_true", help="only print the address")
    determinism = add(
        "determinism", verbs.determinism, "does a repeated training give the same bytes: a matrix", "params"
    )
    determinism.add_argument("--runs", type=int, default=20, metavar="N", help="trainings a cell (default: 20)")
    determinism.add_argument("--output", type=Path, metavar="PATH", help="write the matrix into this Markdown file")
    determinism.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    conformance = add("conformance", verbs.conformance, "prove every strategy equal to one device", "params")
    conformance.add_argument(
        "--strategy", action="append", default=[], metavar="NAME", help="only this one; repeatable"
    )
    conformance.add_argument("--feature", action="append", default=[], metavar="NAME", help="only this one; repeatable")
    conformance.add_argument(
        "--data", type=Path, metavar="PATH", help="all of these scaled arrays, and the network of the params"
    )
    conformance.add_argument("--epochs", type=int, default=3, metavar="N", help="of each training (default: 3)")
    conformance.add_argument("--output", type=Path, metavar="PATH", help="write the tables into this Markdown file")
    conformance.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    completion = add("completion", _completion, "print a completion script for the shell")
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    return parser


def _path_options() -> dict[str, argparse.ArgumentParser]:
    """The options that name files and folders, one small parser each; dvc.yaml relies on the defaults."""
    defaults = {
        "params": ("params.yaml", "the params file"),
        "raw": ("data/raw", "the dataset's own files"),
        "downloads": ("data/downloads", "files as downloaded, kept for the next time"),
        "normalized": ("data/normalized", "scaled arrays"),
        "models": ("models", "the trained network"),
        "checkpoints": (".checkpoints", "what interrupted trainings go on from"),
        "reports": ("reports", "numbers and figures"),
    }
    options = {}
    for name, (path, text) in defaults.items():
        options[name] = argparse.ArgumentParser(add_help=False)
        options[name].add_argument(
            f"--{name}", type=Path, default=Path(path), metavar="PATH", help=f"{text} (default: {path})"
        )
    return options


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no share. Expected: a number above 0, 1 at most")
    return value


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of processes. Expected: 1 or more")
    return int(text)


def _completion(chosen: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(parser(), shell=chosen.shell))
