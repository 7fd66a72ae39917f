"""The command line: `keras-pipeline --help`. Reads the params, calls one stage or tool, maps faults to exit codes."""

import argparse
import atexit
import contextlib
import errno
import gc
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from keras_pipeline import clusters, spent, workers
from keras_pipeline.errors import DataError, ParamsError, PipelineError, masked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from keras_pipeline.searches import Search
    from keras_pipeline.stages.search import Places
    from keras_pipeline.studies import Member, Run, Study
    from keras_pipeline.study_folders import Folders, Knowledge
    from keras_pipeline.trials import Trials

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
TIMED = ("fetch", "normalize", "train", "evaluate", "track")
"""The verbs that say at their end where their time went."""
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
EXIT_MEANING = {
    1: "certify or conformance: not as recorded",
    2: "bad params or usage",
    3: "bad data",
    4: "download failed",
    5: "training diverged, or overfit failed",
    6: "the machine lacks something",
    7: "model file damaged",
    75: "stopped or busy: run the same command again",
}
# fmt: off
MACHINE_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK,
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE,
    errno.ENOMEM,
}
# fmt: on


class Terminated(KeyboardInterrupt):
    """A signal that asks the process to end; what was begun is closed as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code. Prints every fault in the user's terms, a traceback never."""
    # The frameworks bring a million objects that live to the end: to look through them for garbage takes seconds.
    gc.set_threshold(100_000, 20, 20)
    atexit.register(gc.freeze)
    parser = _parser()
    chosen = parser.parse_args(arguments)
    verb = f"keras-pipeline {chosen.verb}"
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # ignored on purpose: nohup
            signal.signal(number, _terminate)
    if workers.PARENT in os.environ:
        workers.end_with_parent(int(os.environ[workers.PARENT]))
    elif "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with_dvc, daemon=True).start()
    try:
        code = chosen.run(chosen) or 0
        if chosen.verb in TIMED:
            print(f"{chosen.verb}: {spent.line()}")
        print(end="", flush=True)
    except PipelineError as error:
        print(masked(str(error)), file=sys.stderr)
        return _end(verb, error.exit_code)
    except KeyboardInterrupt as interruption:
        code = 128 + getattr(interruption, "number", signal.SIGINT)
        print(f"{verb}: interrupted, exit {code}", file=sys.stderr)
        return code
    except BrokenPipeError:
        # Whoever read our output left: nobody is there to be told.
        _drop_output()
        return 128 + signal.SIGPIPE
    except Exception as error:
        return _unexpected(verb, error)
    return _end(verb, code) if code else 0


def _end(verb: str, code: int) -> int:
    print(f"{verb}: exit {code} ({EXIT_MEANING.get(code, 'a process that it started ended so')})", file=sys.stderr)
    return code


def _unexpected(verb: str, error: Exception) -> int:
    """A full disk, a missing permission or memory are the machine's; the rest is a bug of ours."""
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        _drop_output()
        print(
            f"{error.filename or 'the output'}: {error.strerror}. "
            "Make room, give permission or name another path, then run it again.",
            file=sys.stderr,
        )
        return _end(verb, 6)
    if isinstance(error, MemoryError):
        print("Memory is exhausted. Use a smaller network or train.batch_size.", file=sys.stderr)
        return _end(verb, 6)
    descriptor, path = tempfile.mkstemp(prefix="keras-pipeline-", suffix=".txt")
    with os.fdopen(descriptor, "w") as file:
        file.write(masked("".join(traceback.format_exception(error))))
    print(
        f"{verb}: this is a bug of keras-pipeline, please report it ({type(error).__name__}).\n"
        f"The traceback is in {path}\n{verb}: exit 70",
        file=sys.stderr,
    )
    return 70


def _drop_output() -> None:
    """Let go of output that cannot be written: Python would try again at its end, and complain."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(number)


def _end_with_dvc() -> None:
    """DVC does not take its stages along when it is killed: end as after SIGTERM when it is gone.

    Between DVC and this process there may be the shell that DVC starts every stage with: bash steps aside for the
    command, dash waits for it. Like everything below DVC, that shell has DVC_STAGE in its environment.
    """
    import psutil

    child = psutil.Process()
    with contextlib.suppress(psutil.Error):
        while (parent := child.parent()) and "DVC_STAGE" in parent.environ():
            child = parent
    with contextlib.suppress(psutil.NoSuchProcess):
        dvc = child.ppid()
        while child.ppid() == dvc:
            time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-pipeline",
        description="A Keras experiment pipeline: DVC runs the stages, MLflow shows the runs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    paths = _path_options()

    def add(name: str, run: object, text: str, *options: str) -> argparse.ArgumentParser:
        command = verbs.add_parser(
            name, help=text, description=f"{text}.", parents=[paths[option] for option in options]
        )
        command.set_defaults(run=run)
        return command

    fetch = add("fetch", _fetch, "download and verify the dataset", "params", "raw", "downloads")
    fetch.add_argument(
        "--download-only",
        action="store_true",
        help="only make sure that the files are there; writes no data/raw",
    )
    add("normalize", _normalize, "split and scale the images", "params", "raw", "normalized")
    train = add("train", _train, "train the network", "params", "normalized", "models", "checkpoints")
    launch = add(
        "launch",
        _train,
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
        _evaluate,
        "test the network; numbers and figures",
        "params",
        "normalized",
        "models",
        "reports",
    )
    debug = add("debug", _debug, "a quick training that answers one question", "params", "normalized")
    debug.description, debug.formatter_class = DEBUG, argparse.RawDescriptionHelpFormatter
    debug.add_argument("mode", choices=["one-batch", "overfit", "limited", "profile"], metavar="MODE")
    debug.add_argument(
        "--debug", type=Path, default=Path("debug"), metavar="PATH", help="where MODE/ is written (default: debug)"
    )
    debug.add_argument("--share", type=_share, default=0.1, help="limited: of the training images (default: 0.1)")
    study = add("study", _study, "one question, many runs, an answer one can trust", "params", "downloads")
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
    search = add("search", _search, "the best values of some params, within a budget", "params", "downloads")
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
    track = add("track", _track, "make MLflow say what the files say", "params", "models", "reports")
    track.add_argument("--again", action="store_true", help="send everything, also where nothing has changed")
    check = add("params", _params, "check params.yaml without running anything", "params")
    check.add_argument("action", choices=["check"])
    add(
        "status",
        _status,
        "which run the files come from, and is it stale",
        "params",
        "normalized",
        "models",
        "reports",
    )
    certify = add(
        "certify",
        _certify,
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
        "compare", _compare, "two runs: what differed, what came of it, was it chance", "params", "normalized"
    )
    compare.description, compare.formatter_class = COMPARE, argparse.RawDescriptionHelpFormatter
    for letter in ("A", "B"):
        compare.add_argument(
            letter.lower(), metavar=letter, help="a folder, git revision, DVC experiment or MLflow run"
        )
    compare.add_argument("--output", type=Path, metavar="PATH", help="the folder of the page (default: compare/A-vs-B)")
    add("doctor", _doctor, "what this machine has, and what to do where something is missing", "params", "raw")
    add("relocate", _relocate, "repair MLflow's artifact paths after the checkout was moved or copied")
    ui = add("ui", _ui, "open MLflow's page at the table of runs", "params")
    ui.add_argument("--port", type=int, default=0, help="port on this machine; 0: a free one (default)")
    ui.add_argument("--no-browser", action="store_true", help="only print the address")
    determinism = add("determinism", _determinism, "does a repeated training give the same bytes: a matrix", "params")
    determinism.add_argument("--runs", type=int, default=20, metavar="N", help="trainings a cell (default: 20)")
    determinism.add_argument("--output", type=Path, metavar="PATH", help="write the matrix into this Markdown file")
    determinism.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    conformance = add("conformance", _conformance, "prove every strategy equal to one device", "params")
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


def _fetch(chosen: argparse.Namespace) -> None:
    from keras_pipeline import params
    from keras_pipeline.stages import fetch

    stage = fetch.download_only if chosen.download_only else fetch.run
    stage(params.load(chosen.params), chosen.raw, chosen.downloads)


def _normalize(chosen: argparse.Namespace) -> None:
    from keras_pipeline import params
    from keras_pipeline.stages import normalize

    normalize.run(params.load(chosen.params), chosen.raw, chosen.normalized)


def _train(chosen: argparse.Namespace) -> int:
    from keras_pipeline import params
    from keras_pipeline.stages import train
    from keras_pipeline.tracking import live, store

    values = params.load(chosen.params)
    if chosen.workers is not None:
        values = params.with_workers(values, chosen.workers)
    if values.train.workers > 1 and clusters.from_environment(values.train.strategy, os.environ) is None:
        command = [sys.executable, "-m", "keras_pipeline.commands", "train", *sys.argv[2:]]
        return train.launch(values, chosen.normalized, chosen.models, command)
    observer = live.LiveTracker(store.location(store.project_root()), values.tracking.experiment)
    train.run(values, chosen.normalized, chosen.models, observer, chosen.checkpoints, resume=not chosen.no_resume)
    return 0


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no share. Expected: a number above 0, 1 at most")
    return value


def _debug(chosen: argparse.Namespace) -> None:
    from keras_pipeline import params
    from keras_pipeline.stages import debug
    from keras_pipeline.tracking import live, store

    values = params.load(chosen.params)
    observer = live.LiveTracker(
        store.location(store.project_root()), f"{values.tracking.experiment} debug", "this run is not sent later"
    )
    debug.run(values, chosen.normalized, chosen.debug, observer, chosen.mode, chosen.share)


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of processes. Expected: 1 or more")
    return int(text)


def _study(chosen: argparse.Namespace) -> None:
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
            raise ParamsError(
                f"study {found.name}: its file or {chosen.params} was changed while it ran. Run it again."
            )
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
        same = ["study", "run", found.name, "--studies", str(chosen.studies), "--params", str(chosen.params)]

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
            os.execv(sys.executable, [sys.executable, "-m", "keras_pipeline.commands", *sys.argv[1:]])  # noqa: S606
        raise RuntimeError("a training that ended well is not known")
    for run in runs:
        own = folders.run(run)
        models, reports = own / "models", own / "reports"
        record = knowledge.record(run)
        if record and not knowledge.evaluated(own, record):
            evaluate.run(run.params, folders.normalized(run.params), models, reports)
            knowledge.keep_evaluated(own, record)
        track.run(run.params, own / "params.yaml", models, reports, member=member(run))


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

    variants = answer.answered(answer.results(found.runs, folders.run), found.asked.baseline)
    text = study_report.write(found, variants, folder)
    for one in variants:
        print(f"study {found.name}: {one.name}: {one.verdict}")
    print(f"study {found.name}: the report is {folder / found.name}.html")
    params = found.runs[0].params
    track.answer(params, "study", found.name, found.asked.question, text, study_report.metrics(variants), folder)


def _search(chosen: argparse.Namespace) -> None:
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
    text = search_report.write(outcome, trials.importances(), folder)
    print(f"search {found.name}: {outcome.verdict}")
    if outcome.diff:
        print(f"{outcome.diff}To apply it: git apply {folder / found.name}.diff")
    print(f"search {found.name}: the report is {folder / found.name}.html")
    params = found.baseline.params
    track.answer(params, "search", found.name, found.asked.goal, text, search_report.metrics(outcome), folder)


def _determinism(chosen: argparse.Namespace) -> None:
    from keras_pipeline import determinism

    if chosen.work:
        determinism.work(chosen.work)
        return
    command = [sys.executable, "-m", "keras_pipeline.commands", "determinism", "--work"]
    text = determinism.run(chosen.params, chosen.runs, command)
    determinism.write(chosen.output, text) if chosen.output else print(text)


def _evaluate(chosen: argparse.Namespace) -> None:
    from keras_pipeline import params
    from keras_pipeline.stages import evaluate

    evaluate.run(params.load(chosen.params), chosen.normalized, chosen.models, chosen.reports)


def _track(chosen: argparse.Namespace) -> None:
    from keras_pipeline import params
    from keras_pipeline.stages import track

    track.run(params.load(chosen.params), chosen.params, chosen.models, chosen.reports, again=chosen.again)


def _params(chosen: argparse.Namespace) -> None:
    from keras_pipeline import params

    params.load(chosen.params)
    print(f"{chosen.params}: good")


def _status(chosen: argparse.Namespace) -> None:
    from keras_pipeline import params, status

    status.show(params.load(chosen.params), chosen.normalized, chosen.models, chosen.reports)


def _certify(chosen: argparse.Namespace) -> int:
    from keras_pipeline import certify

    if chosen.name is None:
        run, found = certify.of_this_checkout(chosen.models, chosen.raw, chosen.normalized)
    else:
        from keras_pipeline import params
        from keras_pipeline.tracking import lookup, store

        experiment = params.load(chosen.params).tracking.experiment
        run, logged = lookup.recorded(store.location(store.project_root()), experiment, chosen.name)
        found = certify.of_a_store(run, logged)
    return certify.certify(run, found, chosen.models / "model.keras", chosen.downloads, quick=chosen.quick)


def _compare(chosen: argparse.Namespace) -> None:
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


def _doctor(chosen: argparse.Namespace) -> None:
    from keras_pipeline import doctor

    doctor.show(chosen.params, chosen.raw)


def _relocate(chosen: argparse.Namespace) -> None:
    from keras_pipeline.tracking import store

    changed = store.relocate(store.location(store.project_root()))
    print(f"relocate: {changed} paths changed" if changed else "relocate: every path is right already")


def _ui(chosen: argparse.Namespace) -> None:
    from keras_pipeline import params
    from keras_pipeline.tracking import ui

    ui.show(params.load(chosen.params).tracking.experiment, chosen.port, browser=not chosen.no_browser)


def _conformance(chosen: argparse.Namespace) -> int:
    from keras_pipeline import conformance, conformance_work, verdicts

    if chosen.work:
        conformance_work.run(chosen.work)
        return 0
    command = [sys.executable, "-m", "keras_pipeline.commands", "conformance", "--work"]
    text, good = conformance.run(chosen.params, chosen.data, chosen.epochs, chosen.strategy, chosen.feature, command)
    if chosen.output:
        verdicts.write(chosen.output, "data" if chosen.data else "digits", text)
    else:
        print(text)
    return 0 if good else 1


def _completion(chosen: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(_parser(), shell=chosen.shell))


if __name__ == "__main__":
    sys.exit(main())
