"""What tests came to, written into a page: `--record FILE` into docs/proofs.md, `--faults FILE` into docs/faults.md.

A part of pytest, which tests/conftest.py registers. Where several processes share the tests, each notes what a report
is about, and the one that hands them out writes the page.
"""

import itertools
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

import fault_catalogue
from fault_catalogue import Figures
from places import ROOT

PROOFS = """\
# Proofs

What is true of every run but takes too long for `make test`: kills at many moments, every strategy against one device.
`make proofs` does it again and writes this page; each mechanism has a shorter test in `make test` too.

"""


@dataclass
class Result:
    """Of a test, with its parameters: its first sentence, how it ended, its seconds with all that was made for it, and
    the problem of the catalogue of faults that it found."""

    sentence: str
    ended: str = "**not finished**"
    seconds: float = 0.0
    problem: str = ""


class Recorder:
    """Collects the results of a session, of the tests that a page is about, and writes it at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.results: dict[str, Result] = {}
        self.proofs: Path | None = config.getoption("--record")
        self.faults: Path | None = config.getoption("--faults")
        self.of_all = not config.args or config.args == config.getini("testpaths")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """With --faults, the tests that the catalogue names alone."""
        if self.faults:
            rows = fault_catalogue.rows()
            chosen = [
                item for item in items if fault_catalogue.proofs(item.nodeid, rows) or item.path.parent.name == "faults"
            ]
            config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
            items[:] = chosen
        for item in items:
            text = getattr(getattr(item, "function", None), "__doc__", None) or item.name
            item.user_properties.append(("sentence", " ".join(text.partition("\n\n")[0].split())))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of its setup, its call and its end together."""
        told = dict(report.user_properties)
        result = self.results.setdefault(report.nodeid, Result(str(told.get("sentence", ""))))
        result.seconds += report.duration
        result.problem = str(told.get("problem", result.problem))
        if report.skipped:
            result.ended = f"not done: {_reason(report)}"
        elif report.failed:
            result.ended = "**failed**"
        elif report.when == "call":
            result.ended = "passed"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """The page."""
        if hasattr(session.config, "workerinput") or session.config.getoption("collectonly"):
            return
        seconds = sum(one.seconds for one in self.results.values())
        if self.proofs and self.results:
            lines = [_last_done(seconds), "", "| what is proven | result | seconds |", "|---|---|---|"]
            self.proofs.write_text(PROOFS + "\n".join([*lines, *table(self.results.values())]) + "\n")
        if self.faults:
            done = _last_done(seconds) if self.of_all else None
            fault_catalogue.write_page(dict(_figures(self.results)), done)


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""


def table(results: Iterable[Result]) -> Iterator[str]:
    """A line of the page for each sentence: how many tests of it ended how, and their seconds."""
    for text, group in itertools.groupby(results, key=lambda one: one.sentence):
        every = list(group)
        counts = Counter(one.ended for one in every)
        told = "; ".join(f"{count} × {ended}" if len(every) > 1 else ended for ended, count in counts.items())
        yield f"| {text} | {told} | {sum(one.seconds for one in every):.0f} |"


def _figures(results: dict[str, Result]) -> Iterator[tuple[str, Figures]]:
    """Of each row of the catalogue of which a test ran: how many did, and which problems they found."""
    rows = fault_catalogue.rows()
    found: dict[str, list[Result]] = {}
    for node, result in results.items():
        for name in fault_catalogue.proofs(node, rows):
            found.setdefault(name, []).append(result)
    for name, every in found.items():
        ran = [one for one in every if not one.ended.startswith("not done")]
        bad = Counter(one.problem or "other" for one in ran if one.ended != "passed")
        if ran:
            yield name, Figures(len(ran), bad)


def _last_done(seconds: float) -> str:
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "dvc", "mlflow"))
    return (
        f"Last done on {datetime.now(UTC):%Y-%m-%d} at commit {git.stdout.strip()}, in {seconds / 60:.0f} minutes on "
        f"{os.cpu_count()} cores: Python {platform.python_version()}, {versions}."
    )
