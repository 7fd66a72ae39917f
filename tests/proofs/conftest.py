"""`make proofs`: what each proof shows, its result and its time, with the date and the machine, into docs/proofs.md."""

import itertools
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline_workspaces import finished, first_repro, source, workspace  # noqa: F401
from places import ROOT

HEAD = """\
# Proofs

What is true of every run but takes too long for `make test`: kills at many moments, every strategy against one device.
`make proofs` does it again and writes this page; each mechanism has a shorter test in `make test` too.

"""
RESULTS = pytest.StashKey[dict[str, tuple[str, str, float]]]()
"""By the name of a test, with its parameters: its first sentence, its result, its seconds with all that was made for
it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, metavar="FILE", help="write the results of the proofs into this page")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> object:
    report: pytest.TestReport = yield
    results = item.config.stash[RESULTS]
    text = " ".join((item.function.__doc__ or item.name).partition("\n\n")[0].split())
    _, result, seconds = results.get(item.nodeid, ("", "**not finished**", 0.0))
    if report.skipped:
        result = f"not done: {_reason(report)}"
    elif report.failed:
        result = "**failed**"
    elif report.when == "call":
        result = "passed"
    results[item.nodeid] = text, result, seconds + report.duration
    return report


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""


def rows(results: Iterable[tuple[str, str, float]]) -> Iterator[str]:
    """A line of the page for each sentence: how many tests of it ended how, and their seconds."""
    for text, group in itertools.groupby(results, key=lambda one: one[0]):
        every = list(group)
        counts = Counter(result for _, result, _ in every)
        told = "; ".join(f"{count} × {result}" if len(every) > 1 else result for result, count in counts.items())
        yield f"| {text} | {told} | {sum(seconds for *_, seconds in every):.0f} |"


def pytest_sessionfinish(session: pytest.Session) -> None:
    path, results = session.config.getoption("--record"), session.config.stash[RESULTS]
    if not path or not results:
        return
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "dvc", "mlflow"))
    minutes = sum(seconds for _, _, seconds in results.values()) / 60
    lines = [
        f"Last done on {datetime.now(UTC):%Y-%m-%d} at commit {git.stdout.strip()}, in {minutes:.0f} minutes on "
        f"{os.cpu_count()} cores: Python {platform.python_version()}, {versions}.",
        "",
        "| what is proven | result | seconds |",
        "|---|---|---|",
        *rows(results.values()),
    ]
    path.write_text(HEAD + "\n".join(lines) + "\n")
