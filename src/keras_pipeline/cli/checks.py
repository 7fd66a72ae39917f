"""The verbs that check: params, this machine, a quick training, and what docs/ says of strategies."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from keras_pipeline.cli import place
from keras_pipeline.core import process

PARAMS = """\
actions:
  check     every fault of params.yaml, and of the files beside it that DVC reads, with line and column
  use FILE  lay the values of a partial params file, such as examples/fast.yaml, over params.yaml: check the whole, show
            it as a diff, write it. Comments, order, and all values that are not in FILE stay: `git restore params.yaml`
            before it gives those of the last commit.
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


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Give the parser this module's verbs; `add` is the function of `main.make_parser`."""
    command = add("params", params, "check params.yaml, or lay some values over it; runs nothing", "params")
    command.description, command.formatter_class = PARAMS, argparse.RawDescriptionHelpFormatter
    command.add_argument("action", choices=["check", "use"])
    command.add_argument("file", nargs="?", type=place.user_path, metavar="FILE", help="use: the partial params file")
    command.add_argument("--dry-run", action="store_true", help="use: show what would change, and change nothing")
    command = add("schema", schema, "print a file's JSON Schema, for editors, or the table of params", "params")
    command.add_argument("of", choices=["params", "partial", "study", "search", "dataset", "table"])
    add("doctor", doctor, "what this machine has, and what to do where something is missing", "params", "raw")
    command = add("debug", debug, "a quick training that answers one question", "params", "normalized")
    command.description, command.formatter_class = DEBUG, argparse.RawDescriptionHelpFormatter
    command.add_argument("mode", choices=["one-batch", "overfit", "limited", "profile"], metavar="MODE")
    command.add_argument(
        "--debug",
        type=place.user_path,
        default=Path("debug"),
        metavar="PATH",
        help="where MODE/ is written (default: debug)",
    )
    command.add_argument("--share", type=_share, default=0.1, help="limited: of the training images (default: 0.1)")
    command = add("determinism", determinism, "does a repeated training give the same bytes: a matrix", "params")
    command.add_argument("--runs", type=_count, default=20, metavar="N", help="trainings a cell (default: 20)")
    command.add_argument(
        "--output", type=place.user_path, metavar="PATH", help="write the matrix into this Markdown file"
    )
    command.add_argument("--work", type=place.user_path, help=argparse.SUPPRESS)
    command = add("conformance", conformance, "prove every strategy equal to one device", "params")
    for option in ("strategy", "feature"):
        command.add_argument(
            f"--{option}", action="append", default=[], metavar="NAME", help="only this one; repeatable"
        )
    command.add_argument(
        "--data", type=place.user_path, metavar="PATH", help="all of these scaled arrays, and the network of the params"
    )
    command.add_argument("--epochs", type=_count, default=3, metavar="N", help="of each training (default: 3)")
    command.add_argument(
        "--output", type=place.user_path, metavar="PATH", help="write the tables into this Markdown file"
    )
    command.add_argument("--work", type=place.user_path, help=argparse.SUPPRESS)


def params(chosen: argparse.Namespace) -> None:
    """Check params.yaml, or lay a partial file over it."""
    if chosen.action == "use":
        _use_params(chosen.file, chosen.params, dry_run=chosen.dry_run)
    else:
        _check_params(chosen)


def _use_params(partial: Path | None, path: Path, *, dry_run: bool) -> None:
    import difflib

    from keras_pipeline.checks.partial_params import lay_over
    from keras_pipeline.core import files
    from keras_pipeline.core.errors import ParamsError

    if partial is None:
        there = ", ".join(str(one) for one in sorted(Path("examples").glob("*.yaml")))
        raise ParamsError(f"params use: no file. Expected: one with some of {path}'s values{there and f': {there}'}.")
    before, after = lay_over(partial, path)
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    print("".join(difflib.unified_diff(old, new, f"a/{path}", f"b/{path}")), end="")
    if before == after:
        print(f"{path}: has the values of {partial} already")
    elif dry_run:
        print(f"{path}: nothing was changed (--dry-run)")
    else:
        files.write_atomically(path, after.encode())
        print(f"{path}: has the values of {partial}. Next: dvc repro, or dvc exp run")


def _check_params(chosen: argparse.Namespace) -> None:
    from keras_pipeline.checks.dvc_files import find_faults, find_torn_lock
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.core.errors import DataError, ParamsError

    folder = chosen.params.parent
    faults = [*find_faults(folder), *filter(None, [find_torn_lock(folder)])]
    try:
        load_params(chosen.params)
    except ParamsError as error:
        raise ParamsError("\n".join([*faults, str(error)])) from None
    if faults:
        raise DataError("\n".join(faults))
    print(f"{chosen.params}: good")


def schema(chosen: argparse.Namespace) -> None:
    """Print the JSON Schema of a file, or the table of params."""
    from keras_pipeline.cli.overviews import schemas

    print(schemas.params_table(chosen.params) if chosen.of == "table" else schemas.schema_text(chosen.of), end="")


def doctor(chosen: argparse.Namespace) -> None:
    """What this machine has."""
    from keras_pipeline.cli.overviews.doctor import show_findings

    show_findings(chosen.params, chosen.raw)


def debug(chosen: argparse.Namespace) -> None:
    """A quick training that answers one question."""
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.debugging import modes
    from keras_pipeline.tracking import live_run
    from keras_pipeline.tracking.stores import address

    values = load_params(chosen.params)
    observer = live_run.LiveTracker(
        address.store_location(address.project_root()),
        f"{values.tracking.experiment} debug",
        "this run is not sent later",
    )
    modes.run_mode(values, chosen.normalized, chosen.debug, observer, chosen.mode, chosen.share)


def determinism(chosen: argparse.Namespace) -> None:
    """The matrix of repeated trainings."""
    from keras_pipeline.audit.determinism import measure_determinism, train_repeatedly, write_matrix

    if chosen.work:
        train_repeatedly(chosen.work)
        return
    command = process.python("-m", "keras_pipeline.cli.main", "determinism", "--work")
    text = measure_determinism(chosen.params, chosen.runs, command)
    write_matrix(chosen.output, text) if chosen.output else print(text)


def conformance(chosen: argparse.Namespace) -> int:
    """Prove every strategy equal to one device."""
    from keras_pipeline.audit import conformance_report, conformance_worker
    from keras_pipeline.audit.conformance import check_conformance

    if chosen.work:
        conformance_worker.train_jobs(chosen.work)
        return 0
    command = process.python("-m", "keras_pipeline.cli.main", "conformance", "--work")
    text, good = check_conformance(chosen.params, chosen.data, chosen.epochs, chosen.strategy, chosen.feature, command)
    if chosen.output:
        conformance_report.replace_section(chosen.output, "data" if chosen.data else "digits", text)
    else:
        print(text)
    return 0 if good else 1


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of them. Expected: 1 to 9999")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no share. Expected: a number above 0, 1 at most")
    return value
