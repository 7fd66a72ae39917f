"""The command line: `keras-pipeline --help`. Runs one verb, from the modules beside this one; faults to exit codes."""

from keras_pipeline.core import interpreter  # noqa: F401 - before all others, which it keeps from being others' files

# isort: split
import signal
import sys

if __name__ == "__main__" or sys.argv[0].endswith("keras-pipeline"):
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `main` handles it: no traceback of what is imported here

import argparse
import atexit
import contextlib
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

from keras_pipeline.checks.project import PARAMS
from keras_pipeline.checks.unchanged_inputs import require_unchanged_inputs
from keras_pipeline.cli import checks, datasets, pipeline, place, registry, runs, serving, studies
from keras_pipeline.core import limits, process, temporary, terminal
from keras_pipeline.core.errors import MachineError, PipelineError, keep_traceback
from keras_pipeline.distribution import launcher
from keras_pipeline.standby import under_dvc

EXAMPLES = """\
examples:
  dvc repro                                 run the stages whose params, code or data changed
  dvc exp run -S model.dropout=0.5          the same with one value changed, as a named experiment
  keras-pipeline dataset add NAME PATH      your own pictures, arrays or table as a dataset; more in dataset --help
  keras-pipeline params check               every mistake in params.yaml, with line and column
  keras-pipeline params use FILE            an example's values, laid over params.yaml
  keras-pipeline status                     which run the files here come from, and whether it is up to date
  keras-pipeline debug one-batch            does everything run? in seconds; more in debug --help
  keras-pipeline study run activations      one question, several seeds, an answer with statistics
  keras-pipeline compare HEAD .             any two runs: what differs, the results, is it more than chance
  keras-pipeline search run mlp             the best values of some params, checked with new seeds
  keras-pipeline certify                    train that run again in a clean checkout: the same bytes?
  keras-pipeline model register             this run as a version in MLflow's registry; more in model --help
  keras-pipeline ui                         look at all runs
  keras-pipeline predict PATH               what the trained network says of new pictures, arrays or rows
  keras-pipeline serve                      ask the trained network over HTTP, and a page to try it on
  keras-pipeline page                       a page to draw on, which opens by double-click
  eval "$(keras-pipeline completion bash)"  complete commands with the tab key

exit codes: 0 done, 1 certify or conformance: not as recorded; model promote: worse, refused, 2 bad params or usage,
3 bad data, 4 download failed, 5 training diverged, or overfit failed, 6 something is missing on this machine,
7 model file damaged, 70 our bug, 75 stopped or busy: run again, 130 and 143 interrupted
"""
PATHS = {
    "params": ("params.yaml", "the params file"),
    "scanned": ("data/scan.json", "what the dataset's files were when they were last looked at"),
    "raw": ("data/raw", "the dataset's examples in one form"),
    "downloads": ("data/downloads", "files as downloaded, kept for the next time"),
    "normalized": ("data/normalized", "scaled arrays"),
    "models": ("models", "the trained network"),
    "checkpoints": (".checkpoints", "what interrupted trainings go on from"),
    "reports": ("reports", "numbers and figures"),
}
"""The options that name files and folders: their default, on which dvc.yaml relies, and what is there."""
TIMED = ("fetch", "normalize", "train", "evaluate", "export", "track")
"""The verbs that say at their end where their time went."""
ANYWHERE = ("completion", "doctor", "predict", "schema", "serve")
"""The verbs that need no project."""
NUMERIC = (
    *TIMED, "launch", "certify", "compare", "dataset", "model", "predict", "debug", "determinism", "conformance",
)  # fmt: skip
"""The verbs that compute with NumPy."""
WITHOUT_NUMPY = ("scan", "params", "completion", "relocate", "ui")
"""The verbs that do not even import it."""
EXIT_MEANING = {
    1: "certify or conformance: not as recorded; model promote: worse, refused",
    2: "bad params or usage",
    3: "bad data",
    4: "download failed",
    5: "training diverged, or overfit failed",
    6: "something is missing on this machine",
    7: "model file damaged",
    75: "stopped or busy: run the same command again",
}


def make_parser() -> argparse.ArgumentParser:
    """Of the whole command line: `chosen.run(chosen)` does what was asked and returns an exit code or None."""
    parser = argparse.ArgumentParser(
        prog="keras-pipeline",
        description="A Keras experiment pipeline: DVC runs the stages, MLflow shows the runs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], int | None], text: str, *paths: str
    ) -> argparse.ArgumentParser:
        # `run` does it and gives an exit code or None; `text` is its line in --help; `paths`: which of PATHS it has
        command = commands.add_parser(name, help=text, description=f"{text}.")
        for path in paths:
            default, what = PATHS[path]
            command.add_argument(
                f"--{path}",
                type=place.user_path,
                default=Path(default),
                metavar="PATH",
                help=f"{what} (default: {default})",
            )
        command.set_defaults(run=run)
        return command

    for group in (pipeline, datasets, studies, runs, registry, serving, checks):
        group.add_commands(add)
    for name in TIMED:
        commands.choices[name].add_argument("--quiet", action="store_true", help="print the result alone, and warnings")
    completion = add("completion", _print_completion, "print a completion script for the shell")
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    return parser


def _print_completion(chosen: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(make_parser(), shell=chosen.shell))


def main(arguments: list[str] | None = None) -> int:
    """Run one command, by default the one that this process was started with; the exit code.

    Prints every fault in the user's terms, a traceback never.
    """
    code = _main(arguments)
    return process.end_without_waiting(code) if arguments is None else code


def _main(arguments: list[str] | None) -> int:
    # The frameworks bring a million objects that live to the end: to look through them for garbage takes seconds.
    gc.set_threshold(100_000, 20, 20)
    atexit.register(gc.freeze)
    terminal.open_descriptors()
    with terminal.open_output() as faults, place.project():
        try:
            chosen = make_parser().parse_args(arguments)
            code = _served(chosen) if arguments is None else None
            code = _run(chosen) if code is None else code
            verb = f"keras-pipeline {chosen.verb}"
        except SystemExit as end:  # of the parser: it was asked for help, or has said what is wrong
            if end.code:
                raise
            verb, code = "keras-pipeline", 0
        print(end="", flush=True)
        if code or not faults:
            return code
        if isinstance(faults[0], BrokenPipeError):
            return 128 + signal.SIGPIPE  # whoever read the output left: nobody is there to be told
        print(f"the output: {faults[0].strerror}. {limits.WAY_OUT}", file=sys.stderr)
        return _end(verb, MachineError.exit_code)


def _served(chosen: argparse.Namespace) -> int | None:
    """The exit code of a process that stands by for this stage of DVC; None where it is to be done here."""
    if "DVC_STAGE" not in os.environ or getattr(chosen, "workers", None):
        return None
    from keras_pipeline.standby import client

    return client.ask(chosen.verb, chosen.params if chosen.verb == "train" else None)


def _run(chosen: argparse.Namespace) -> int:
    """Do what was asked; the exit code."""
    verb = f"keras-pipeline {chosen.verb}"
    came: list[int] = []
    try:
        with process.requests_to_end(came):
            if launcher.PARENT in os.environ:
                launcher.end_with_parent(int(os.environ[launcher.PARENT]))
            elif "DVC_STAGE" in os.environ:
                threading.Thread(target=under_dvc.end_with_dvc, daemon=True).start()
            if chosen.verb not in WITHOUT_NUMPY:
                limits.require_threads("NumPy", limits.numpy_threads())
            if chosen.verb not in ANYWHERE:
                place.require_project(getattr(chosen, "params", PARAMS))
            if chosen.verb in NUMERIC:
                limits.require_numpy()
            unchanged = require_unchanged_inputs(chosen.verb) if chosen.verb in TIMED else contextlib.nullcontext()
            hush = terminal.quiet(result=True) if chosen.verb in TIMED and chosen.quiet else contextlib.nullcontext()
            with temporary.own_folder(), unchanged, hush:
                code = chosen.run(chosen) or 0
            if chosen.verb in TIMED and not chosen.quiet:
                print(f"{chosen.verb}: {process.timing_line()}")
            print(end="", flush=True)
    except PipelineError as error:
        if not came:
            print(str(error), file=sys.stderr)
            return _end(verb, error.exit_code)
    except KeyboardInterrupt as interruption:
        came.append(getattr(interruption, "number", signal.SIGINT))
    except SystemExit:
        raise
    except BaseException as error:  # also a panic of a library in Rust, whose import was interrupted
        if not came:
            return _unexpected(verb, error)
    if came:  # whatever the libraries that it disturbed have made of it
        return _interrupted(verb, came[-1])
    return _end(verb, code) if code else 0


def _end(verb: str, code: int) -> int:
    print(
        f"{verb}: exit {code} ({EXIT_MEANING.get(code, 'the exit code of a process that it started')})", file=sys.stderr
    )
    return code


def _interrupted(verb: str, number: int) -> int:
    if number == signal.SIGXCPU:
        print("The time of the processor that `ulimit -t` allows is used up. Allow more.", file=sys.stderr)
        return _end(verb, MachineError.exit_code)
    print(f"{verb}: interrupted, exit {128 + number}", file=sys.stderr)
    return 128 + number


def _unexpected(verb: str, error: BaseException) -> int:
    """A full disk, a missing permission or memory are the machine's; the rest is a bug of ours."""
    if lacking := limits.lacking(error):
        print(lacking, file=sys.stderr)
        return _end(verb, MachineError.exit_code)
    print(
        f"{verb}: this is a bug of keras-pipeline, please report it ({type(error).__name__}).\n"
        f"The traceback is in {keep_traceback(error)}\n{verb}: exit 70",
        file=sys.stderr,
    )
    return 70


if __name__ == "__main__":
    sys.exit(main())
