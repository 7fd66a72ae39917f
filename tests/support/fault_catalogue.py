"""The catalogue of faults: what goes wrong, what the pipeline does then, and what proves it; and its page.

A family of faults is a file of tests/faults/catalogue, a fault a row of it, called by letter and number. A row has
tests that prove it (`proof`), tries that are made of the row itself (`tries`, by tests/faults), or a reason why there
is nothing to prove: `later`, where what it is about is not part of the pipeline yet, or `open`, where it is not proven.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from keras_pipeline.strict_yaml.faults import Block
from keras_pipeline.strict_yaml.reader import load_yaml
from places import ROOT

FOLDER = ROOT / "tests" / "faults" / "catalogue"
PAGE = ROOT / "docs" / "faults.md"
PROBLEMS = ("lost runs", "tracebacks", "hangs", "by hand", "other")
"""What can come of a fault that should not: something is lost or left behind; a traceback; no end; the same command
does not succeed before somebody cleans up; anything else than what the row says."""
Text = Annotated[str, Field(min_length=1)]
Codes = Annotated[list[int], Field(min_length=1)]


class Try(Block):
    """Harm done to a finished pipeline, a command, and what must come of it.

    `harm` and `after` are lines of words: a function of tests/support/harms.py and its arguments. `said`: regular
    expressions, each of which the output matches. `changes`: the beginnings of the paths that may be other ones
    afterwards; nothing else may. `again`: the command that then succeeds without anybody cleaning up. `place`:
    within this process, without a framework (memory); as a process of its own (process). `limit`: of that process, as
    RLIMIT_NAME: number. `mount`: what a shell does first, in a namespace where mounts are seen by nobody else.
    """

    run: Text
    harm: list[Text] = Field(default_factory=list)
    exit: int | Codes = 0
    said: list[Text] = Field(default_factory=list)
    changes: list[Text] = Field(default_factory=list)
    again: str = ""
    place: Literal["memory", "process"] = "memory"
    environment: dict[str, str] = Field(default_factory=dict)
    limit: dict[str, int] = Field(default_factory=dict)
    mount: str = ""
    seconds: Annotated[int, Field(ge=1, le=120)] = 20

    @property
    def codes(self) -> list[int]:
        """Every exit code that may come of it."""
        return [self.exit] if isinstance(self.exit, int) else self.exit


class Row(Block):
    """A fault: `then` is what the pipeline does."""

    fault: Text
    then: Text
    proof: list[Text] = Field(default_factory=list)
    tries: list[Try] = Field(default_factory=list)
    later: Text | None = None
    open: Text | None = None

    @model_validator(mode="after")
    def _is_proven_or_has_a_reason(self) -> "Row":
        if bool(self.proof or self.tries) == bool(self.later or self.open):
            raise ValueError("A proof or a try is expected, or else a reason, later or open.")
        return self


class Family(Block):
    """A file of the catalogue."""

    family: Text
    rows: dict[Annotated[str, Field(pattern="^[A-N][1-9][0-9]?$")], Row]


@dataclass(frozen=True)
class Figures:
    """What a row's tests came to when they were last run: how many there were, and how many ended in which problem."""

    repetitions: int
    problems: Mapping[str, int]

    def cells(self) -> list[str]:
        """For the page's table."""
        return [str(self.repetitions), *(str(self.problems.get(name, 0)) for name in PROBLEMS)]


NONE = ["–"] * (1 + len(PROBLEMS))


def families() -> dict[str, Family]:
    """Every family by its letter."""
    return {path.stem[0].upper(): load_yaml(path, Family) for path in sorted(FOLDER.glob("*.yaml"))}


def rows() -> dict[str, Row]:
    """Every row by its name, in the order of the files."""
    return {name: row for family in families().values() for name, row in family.rows.items()}


def tries(place: str) -> Iterator[tuple[str, Row, Try]]:
    """What is tried in such a place, with a name for each."""
    for name, row in rows().items():
        for number, one in enumerate(row.tries, 1):
            if one.place == place:
                yield f"{name}.{number}", row, one


def proofs(node: str, known: Mapping[str, Row]) -> list[str]:
    """The rows that a test proves, by its name as pytest has it."""
    test = node.removeprefix("tests/")
    if tried := re.search(r"^faults/.*\[([A-N]\d+)\.\d+\]$", test):
        return [tried[1]]
    return [name for name, row in known.items() if any(test == one or test.startswith(f"{one}[") for one in row.proof)]


HEAD = """\
# What can go wrong

And what the pipeline does then. A row is a fault; its tests do it to the real commands, with real files, processes,
signals, full disks and servers, and look that nothing is lost, no traceback is shown, nothing hangs, and the same
command succeeds afterwards without anybody cleaning up. Exit codes: see the [README](../README.md). The rows are
written in `tests/faults/catalogue`, with the tests that prove each; `make faults` runs them all and writes this page.

"""
COLUMNS = ["", "what goes wrong", "what happens then", "tries", *PROBLEMS]
LATER = "*later:* "
OPEN = "*not proven:* "


def line(name: str, row: Row, cells: list[str]) -> str:
    """The row in the page's table."""
    reason = f" {LATER}{row.later}" if row.later else f" {OPEN}{row.open}" if row.open else ""
    return f"| {' | '.join([name, _cell(row.fault), _cell(row.then + reason), *cells])} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def read_cells(page: str) -> dict[str, list[str]]:
    """The figures of each row in a page, as they were written."""
    found = {}
    for text in page.splitlines():
        if re.match(r"\| [A-N]\d+ \|", text):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", text.strip("| "))]
            found[cells[0]] = cells[3:]
    return found


def last_done(page: str) -> str:
    """The page's line on when all was done."""
    found = re.search(r"^Last done on .*$", page, re.MULTILINE)
    return found[0] if found else "Not all of it was done at once yet."


def write_page(figures: Mapping[str, Figures], done: str | None) -> None:
    """With these figures, and of other rows those that stand there; `done`: the line of a run of all rows."""
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    kept = read_cells(before)
    lines = []
    for letter, family in families().items():
        head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        of_rows = []
        for name, row in family.rows.items():
            cells = figures[name].cells() if name in figures else kept.get(name, NONE)
            of_rows.append(line(name, row, NONE if row.later or row.open else cells))
        lines += [f"## {letter}. {family.family}", "", *head, *of_rows, ""]
    PAGE.write_text(HEAD + (done or last_done(before)) + "\n\n" + "\n".join(lines), encoding="utf-8")
