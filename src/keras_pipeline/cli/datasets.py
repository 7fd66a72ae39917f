"""The verb `dataset`: data of one's own become a dataset, are checked, and looked at."""

import argparse
import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_pipeline.checks.project import PARAMS
from keras_pipeline.cli import place
from keras_pipeline.core.errors import DataError, ParamsError

if TYPE_CHECKING:
    from keras_pipeline.inspection.findings import Finding
    from keras_pipeline.sources.kinds.kind import Kind

DATASET = """\
A dataset is a file, datasets/NAME.yaml. `fetch.dataset: NAME` in params.yaml takes it.

actions:
  add NAME PATH   look at a folder, a file or an archive, say what it is, and write datasets/NAME.yaml
  check NAME      read all of it once: damaged files, wrong labels, duplicates, columns that give the target away
  show NAME       a page with counts, examples, and histograms of columns
  list            all datasets
"""


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Give the parser this module's verb; `add` is the function of `main.make_parser`."""
    command = add("dataset", dataset, "your own data: add, check, show, list")
    command.description, command.formatter_class = DATASET, argparse.RawDescriptionHelpFormatter
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=text, description=f"{text}.")
        parser.set_defaults(run=run)
        return parser

    one = action("add", add_dataset, "Say what files are, and write datasets/NAME.yaml")
    one.add_argument("name", metavar="NAME", help="what fetch.dataset is to call it: letters, digits, _ . -")
    one.add_argument("path", type=place.user_path, metavar="PATH", help="a folder, a file, or a .zip, .tar or .tar.gz")
    one.add_argument("--title", metavar="TEXT", help="the dataset in a few words (default: NAME)")
    one.add_argument("--dvc", action="store_true", help="keep a copy under DVC, a folder as one datasets/NAME.tar")
    one.add_argument("--replace", action="store_true", help="write over datasets/NAME.yaml; your own keys in it stay")
    one = action("check", check_dataset, "Read all of a dataset once, and say what is wrong with it")
    one.add_argument("name", metavar="NAME")
    one.add_argument("--json", action="store_true", help="findings for programs, with all names")
    one = action("show", show_dataset, "Write a page about a dataset")
    one.add_argument("name", metavar="NAME")
    one.add_argument("--output", type=place.user_path, metavar="FILE", help="default: data/pages/NAME.html")
    action("list", list_datasets, "All datasets: name, kind, one input, size, title")
    for one in actions.choices.values():
        for option, default, what in (
            ("params", str(PARAMS), "the params file"),
            ("raw", "data/raw", "the examples of the dataset of the last run"),
            ("downloads", "data/downloads", "files as downloaded, kept for the next time"),
        ):
            one.add_argument(
                f"--{option}", type=place.user_path, default=Path(default), metavar="PATH",
                help=f"{what} (default: {default})",
            )  # fmt: skip


def dataset(chosen: argparse.Namespace) -> None:
    """Never called: each action has its own function."""


def add_dataset(chosen: argparse.Namespace) -> None:
    """Say what files are, and write datasets/NAME.yaml."""
    from keras_pipeline.inspection import add, packing
    from keras_pipeline.sources.dataset_file import FOLDER, NAME, dataset_path
    from keras_pipeline.sources.source_files import open_source

    name, path = chosen.name, chosen.path
    if not NAME.fullmatch(name):
        raise ParamsError(
            f"{name[:100]!a} cannot be the name of a dataset. Expected: 1 to 100 letters, digits, _ . or -, the first "
            "a letter or digit. Nothing was changed."
        )
    target = Path(FOLDER, f"{name}.yaml")
    if (there := dataset_path(name)) is not None and not chosen.replace:
        raise ParamsError(
            f"{there} is there already. Take another name, or write over it: --replace, which keeps title, licence, "
            "splits and what else you wrote there. Nothing was changed."
        )
    shown = str(path if path.is_absolute() or ".." not in path.parts else path.resolve())
    source = open_source(path, shown, chosen.downloads)
    taken = add.recognize(source)
    print(f"{shown}: taken for the kind {taken.name}, because")
    for reason in taken.found.reasons:
        print(f"  - {reason}")
    if taken.others:
        print(f"  it could be {' or '.join(taken.others)} too: then write `kind` by hand")
    kept = add.kept_file(name, path) if chosen.dvc else None
    shown = str(kept or shown)
    earlier = add.earlier_dataset(there) if there else None
    given = {"path": shown, "title": chosen.title or (None if earlier else name)}
    if kept:
        add.check_keys(target, name, taken, earlier, given)
        print(f"{shown}: a copy of all files, which DVC keeps", flush=True)
        packing.keep(source, path, kept)
    made, said = add.write_dataset(target, name, taken, earlier, given, chosen.downloads)
    print(f"{target}: {_size(made)}, {said}")
    _say_what_does_not_fit(chosen.params, name)
    if Path(shown).is_absolute():
        print(f"{shown} is outside of this project: no other machine has it. --dvc keeps a copy of it here")
    if kept:
        print(f"kept by DVC: git add {target} {kept}.dvc {FOLDER}/.gitignore")
    print(f"Next: write `dataset: {name}` below `fetch:` in {chosen.params} (or: dvc exp run -S fetch.dataset={name})")
    print(f"      dvc repro; and before it, is anything wrong? keras-pipeline dataset check {name}")


def _say_what_does_not_fit(params: Path, name: str) -> None:
    """The values of params.yaml that cannot be with this dataset."""
    from keras_pipeline.checks.params import CheckedParams
    from keras_pipeline.strict_yaml import reader
    from keras_pipeline.strict_yaml.edits import edit_yaml

    try:
        content = reader.read_yaml_bytes(params)
        root = reader.read_tree(content, str(params))
        if not isinstance(root.value, dict) or not isinstance(root.value["fetch"].value, dict):
            return
        text = edit_yaml(content.decode(), {("fetch", "dataset"): name})
    except (ParamsError, KeyError):  # which is told by `params check`
        return
    try:
        reader.parse_yaml(text.encode(), str(params), CheckedParams)
    except ParamsError as error:
        *faults, _ = str(error).splitlines()
        print(f"With fetch.dataset: {name} these values of {params} do not go together:")
        for fault in faults:
            print(f"  {fault}")


def check_dataset(chosen: argparse.Namespace) -> int:
    """Read all of a dataset once, and say what is wrong with it."""
    from keras_pipeline.core import terminal
    from keras_pipeline.inspection.check import check_dataset
    from keras_pipeline.sources.dataset_file import load_dataset

    dataset = load_dataset(chosen.name)
    with terminal.quiet(result=False) if chosen.json else contextlib.nullcontext():
        report = check_dataset(chosen.name, dataset, chosen.downloads)
    if chosen.json:
        print(json.dumps({"dataset": chosen.name, **report.plain()}, indent=2, ensure_ascii=False))
    else:
        for fact in report.facts:
            print(f"{chosen.name}: {fact}")
        for finding in report.findings:
            print(terminal.worse(f"{'refused' if finding.refused else 'warning'}: {finding.line()}"))
        print(f"{chosen.name}: {_said(report.findings)}")
    return DataError.exit_code if report.refused else 0


def _said(findings: "Sequence[Finding]") -> str:
    if not findings:
        return "nothing was found to be wrong"
    return f"{len(findings)} finding{'s' if len(findings) > 1 else ''}; all names: --json"


def show_dataset(chosen: argparse.Namespace) -> None:
    """Write a page about a dataset."""
    from keras_pipeline.inspection.page import write_page
    from keras_pipeline.inspection.show import dataset_overview
    from keras_pipeline.sources.dataset_file import load_dataset

    path = chosen.output or Path("data", "pages", f"{chosen.name}.html")
    write_page(path, *dataset_overview(chosen.name, load_dataset(chosen.name), chosen.raw, chosen.downloads))
    print(f"{chosen.name}: {path}")


def list_datasets(chosen: argparse.Namespace) -> None:
    """All datasets: name, kind, one input, size, title."""
    from keras_pipeline.sources.dataset_file import dataset_names, load_dataset

    rows = []
    for name in dataset_names():
        try:
            dataset = load_dataset(name)
        except ParamsError as error:
            rows.append((name, "?", "", "", str(error).splitlines()[0]))
            continue
        rows.append((name, dataset.kind, _input(dataset), _size(dataset), dataset.title or ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]]).rstrip())


def _input(dataset: "Kind") -> str:
    shape = dataset.input_shape
    text = " × ".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} column{'s' if shape[0] > 1 else ''}"
    return f"{text}, {len(dataset.classes)} classes" if dataset.classes else f"{text}, a number"


def _size(dataset: "Kind") -> str:
    if dataset.counts:
        return f"{sum(filter(None, dataset.counts.model_dump().values())):,} examples"
    if not dataset.recorded:
        return ""
    count, size = dataset.recorded.files, dataset.recorded.bytes
    amount = f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
    return f"{count:,} file{'s' if count > 1 else ''}, {amount}"
