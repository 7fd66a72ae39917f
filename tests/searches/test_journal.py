"""A search's journal as a machine, a disk or an editor leaves it: read, mended, or refused with its line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mutated_files
from asked_search import GOOD, load
from keras_pipeline.core.errors import DataError
from keras_pipeline.searches import journal, trials
from keras_pipeline.searches.search import Search
from keras_pipeline.searches.trials import TrialResult, Trials

FEW = 250
"""About so many mutants are tried, evenly from all."""


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    return load(tmp_path_factory.mktemp("search"), GOOD)


@pytest.fixture(scope="module")
def lines(search: Search, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Of a search with a trial of each kind: complete, pruned, lost, queued again."""
    path = tmp_path_factory.mktemp("journal") / "s.journal"
    made = trials.Trials(search, "one", path, create=True)
    complete, _ = made.ask()
    made.report(complete, [{"epoch": 1, "val/accuracy": 0.5}, {"epoch": 2, "val/accuracy": 0.6}])
    made.complete(complete, 0.6, 1.5)
    pruned, _ = made.ask()
    made.report(pruned, [{"epoch": 1, "val/accuracy": 0.1}])
    made.give_up(pruned, "after epoch 1")
    made.ask()
    trials.Trials(search, "one", path, create=True).recover()
    return path.read_bytes().splitlines(keepends=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.journal"


def read(search: Search, path: Path, content: bytes) -> Trials:
    """The trials as `search run` finds them, which then goes on."""
    path.write_bytes(content)
    journal.mend_journal(path)
    made = trials.Trials(search, "one", path, create=True)
    made.recover()
    made.ask()
    return made


def finished(made: Trials) -> list[TrialResult]:
    return [one for one in made.results() if one.state != "running"]


def mutants(lines: list[bytes]) -> Iterator[tuple[int, str, bytes]]:
    """Each line with each value of each key changed, or changed as text, and the number of that line."""
    for number, line in enumerate(lines, 1):
        changed = [*mutated_files.json_mutants("", json.loads(line)), *mutated_files.text_mutants("", line)]
        for one in changed:
            content = one.content if one.content.endswith(b"\n") else one.content + b"\n"
            yield number, one.what, b"".join([*lines[: number - 1], content, *lines[number:]])


def test_a_change_of_any_line_is_refused_with_its_place_or_read(search: Search, lines: list[bytes], path: Path) -> None:
    unchanged = finished(read(search, path, b"".join(lines)))
    assert [one.state for one in unchanged] == ["complete", "pruned"]
    every = list(mutants(lines))
    tried = every[:: max(1, len(every) // FEW)]
    refused = 0
    for number, what, content in tried:
        if said := refusal(search, path, content):
            refused += 1
            assert re.match(rf"{re.escape(str(path))}: (line|trial) \d+: \S", said), (number, what, said)
            assert said.endswith(journal.REMEDY), (number, what)
            assert all(character.isprintable() for character in said), (number, what)
            assert path.read_bytes() == content, (number, what)
    assert refused > len(tried) / 2


def refusal(search: Search, path: Path, content: bytes) -> str:
    """What is said of it; "" where it is read."""
    try:
        read(search, path, content)
    except DataError as fault:
        return str(fault)
    return ""


@pytest.mark.parametrize(
    "end",
    [b'{"op_code":4,"wor', b'{"op', b"\0" * 4000, b'{"op_code":4,"wor' + b"\0" * 50, b"{"],
    ids=["a line", "its beginning", "zeros", "zeros behind a line", "a bracket"],
)
def test_what_a_machine_that_went_down_left_is_passed_over_and_taken_away(
    search: Search, lines: list[bytes], path: Path, end: bytes
) -> None:
    path.write_bytes(b"".join(lines) + end)
    assert len(finished(trials.Trials(search, "one", path, create=False))) == 2
    assert path.read_bytes().endswith(end)  # to read it changes nothing
    assert len(finished(read(search, path, b"".join(lines) + end))) == 2


def test_a_last_line_without_its_end_is_whole(search: Search, lines: list[bytes], path: Path) -> None:
    """As some editors leave it."""
    made = read(search, path, b"".join(lines[:10]).removesuffix(b"\n"))
    assert [one.state for one in finished(made)] == ["complete"]


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"my notes", b"my notes\n", b"SQLite format 3\0", b"\n\n", b"\xff" * 99],
    ids=["picture", "unended text", "text", "database", "blank lines", "bytes"],
)
def test_what_another_program_wrote_stays(search: Search, path: Path, content: bytes) -> None:
    for create in (False, True):
        path.write_bytes(content)
        journal.mend_journal(path)
        with pytest.raises(DataError, match="line 1: "):
            trials.Trials(search, "one", path, create=create)
        assert path.read_bytes() == content


def test_a_line_that_is_gone_or_stands_elsewhere_gives_no_trial_the_values_of_another(
    search: Search, lines: list[bytes], path: Path
) -> None:
    good = {one.number: one for one in finished(read(search, path, b"".join(lines)))}
    known = [(one.values, one.value) for one in good.values()]
    for number in range(len(lines)):
        rest = [*lines[:number], *lines[number + 1 :]]
        for changed in (rest, [*rest, lines[number]], [*lines[: number + 1], *lines[number:]]):
            try:
                made = read(search, path, b"".join(changed))
            except DataError:
                continue
            assert all((one.values, one.value) in known for one in finished(made) if one.state == "complete")


@pytest.mark.parametrize("what", ["folder", "link"])
def test_something_else_than_a_file_is_refused(search: Search, path: Path, what: str) -> None:
    outside = path.parent / "elsewhere"
    if what == "folder":
        path.mkdir()
    else:
        path.symlink_to(outside)
    for create in (False, True):
        with pytest.raises(DataError, match=f"s.journal: a {what}"):
            trials.Trials(search, "one", path, create=create)
    assert not outside.exists()
