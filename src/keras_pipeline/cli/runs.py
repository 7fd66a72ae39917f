"""The verbs about runs that are there: status, certify, compare, and MLflow's store and page."""

import argparse
from collections.abc import Callable
from pathlib import Path

from keras_pipeline.cli import place

COMPARE = """\
Compares two finished runs: what differs in params, data, code, versions and machine; every test
metric; whether the difference of accuracy is larger than chance among test images; and the test images that flipped,
as pictures.

A and B may each be, in this order where several would fit:
  a folder       with models/ and reports/: `.` is this checkout, studies/runs/KEY a run of a study
  a git revision whose files are in DVC's cache: HEAD, HEAD~3, a branch; or the name of a DVC experiment
  an MLflow run  its name, its key, or at least 6 characters that the key begins with, or MLflow's id

Writes a page, comparison.md and comparison.html, and keeps it in MLflow with the second run. Nothing is trained or
changed.
"""


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Give the parser this module's verbs; `add` is the function of `main.make_parser`."""
    add(
        "status",
        status,
        "which run the files come from, and whether it is up to date",
        "params",
        "normalized",
        "models",
        "reports",
    )
    command = add(
        "certify",
        certify,
        "train a run again from its commit, and compare the bytes",
        "params", "raw", "downloads", "normalized", "models",
    )  # fmt: skip
    command.add_argument(
        "name",
        nargs="?",
        metavar="RUN",
        help="a run's name in MLflow, or its key or the beginning of it (default: the run of models/run.json)",
    )
    command.add_argument("--quick", action="store_true", help="compare what can be compared without training")
    command = add(
        "compare", compare, "two runs: what differs, the results, is it more than chance", "params", "normalized"
    )
    command.description, command.formatter_class = COMPARE, argparse.RawDescriptionHelpFormatter
    for letter in ("A", "B"):
        command.add_argument(
            letter.lower(),
            type=place.user_run,
            metavar=letter,
            help="a folder, git revision, DVC experiment or MLflow run",
        )
    command.add_argument(
        "--output", type=place.user_path, metavar="PATH", help="the folder of the page (default: compare/A-vs-B)"
    )
    add("relocate", relocate, "repair MLflow's artifact paths after the checkout was moved or copied")
    command = add("ui", ui, "open MLflow's page at the table of runs", "params")
    command.add_argument(
        "--port", type=int, default=0, help="port on this machine; 0: the usual or a free one (default)"
    )
    command.add_argument(
        "--no-browser", action="store_true", help="only print the address, as where there is no display"
    )


def status(chosen: argparse.Namespace) -> None:
    """Which run the files come from."""
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.cli.overviews.status import show_status

    show_status(load_params(chosen.params), chosen.normalized, chosen.models, chosen.reports)


def certify(chosen: argparse.Namespace) -> int:
    """Train a recorded run again and compare."""
    from keras_pipeline.audit.certify import certify_run, inspect_checkout, inspect_stored_run

    if chosen.name is None:
        run, found = inspect_checkout(chosen.models, chosen.raw, chosen.normalized)
    else:
        from keras_pipeline.checks.params import load_params
        from keras_pipeline.tracking import lookup
        from keras_pipeline.tracking.stores import address

        experiment = load_params(chosen.params).tracking.experiment
        run, logged = lookup.load_recorded_run(address.store_location(address.project_root()), experiment, chosen.name)
        found = inspect_stored_run(run, logged)
    return certify_run(run, found, chosen.models / "model.keras", chosen.downloads, quick=chosen.quick)


def relocate(chosen: argparse.Namespace) -> None:
    """Repair MLflow's artifact paths."""
    from keras_pipeline.tracking.stores import address, relocation

    changed = relocation.relocate_artifacts(address.store_location(address.project_root()))
    print(f"relocate: {changed} paths changed" if changed else "relocate: every path is right already")


def ui(chosen: argparse.Namespace) -> None:
    """Open MLflow's page."""
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.tracking.ui import serve_ui

    serve_ui(load_params(chosen.params).tracking.experiment, chosen.port, browser=not chosen.no_browser)


def compare(chosen: argparse.Namespace) -> None:
    """Hold two runs against each other."""
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.comparison import find_run, report, two_runs
    from keras_pipeline.records.record import RunRecord
    from keras_pipeline.stages import track
    from keras_pipeline.tracking import lookup
    from keras_pipeline.tracking.stores import address

    values = load_params(chosen.params)
    location = address.store_location(address.project_root())

    def stored(name: str, artifacts: tuple[str, ...], folder: Path) -> tuple[str, RunRecord]:
        return lookup.download_run(location, values.tracking.experiment, name, artifacts, folder)

    a, b = find_run.find_run(chosen.a, stored), find_run.find_run(chosen.b, stored)
    differing, answers = two_runs.find_differences(a.record, b.record), two_runs.compare_answers(a, b)
    images = None
    if answers and answers.flips:
        images = two_runs.find_test_images((a, b), report.image_folders(a, b, chosen.normalized))
    name = report.report_name(a, b)
    folder = chosen.output or Path("compare") / name
    written = report.write_report(a, b, differing, answers, images, folder)
    print("\n".join([*report.summary_lines(a, b, differing, answers), f"page:     {folder / report.NAME}.html"]))
    track.track_comparison(values, b.record["key"], written, f"compare/{name}")
