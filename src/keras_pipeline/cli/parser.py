"""The parser of the whole command line: what is common to all verbs, which stand in the modules beside it."""

import argparse
from collections.abc import Callable
from pathlib import Path

from keras_pipeline.cli import checks, pipeline, runs, studies

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
PATHS = {
    "params": ("params.yaml", "the params file"),
    "raw": ("data/raw", "the dataset's own files"),
    "downloads": ("data/downloads", "files as downloaded, kept for the next time"),
    "normalized": ("data/normalized", "scaled arrays"),
    "models": ("models", "the trained network"),
    "checkpoints": (".checkpoints", "what interrupted trainings go on from"),
    "reports": ("reports", "numbers and figures"),
}
"""The options that name files and folders: their default, on which dvc.yaml relies, and what is there."""


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
                f"--{path}", type=Path, default=Path(default), metavar="PATH", help=f"{what} (default: {default})"
            )
        command.set_defaults(run=run)
        return command

    for group in (pipeline, studies, runs, checks):
        group.add_commands(add)
    completion = add("completion", _print_completion, "print a completion script for the shell")
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    return parser


def _print_completion(chosen: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(make_parser(), shell=chosen.shell))
