"""The journal of a registered model: who moved an alias, in which order, and what is left of it."""

import json
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keras_pipeline.core.errors import BusyError, DataError
from keras_pipeline.registry import journal
from keras_pipeline.registry.journal import CHAMPION
from keras_pipeline.tracking.stores import address
from registered_runs import NAME, moved

SERVER = address.Location("http://127.0.0.1:9", "http", None, None, Path())
FILE = address.store_location(Path())


class Registry:
    """One registered model, as MLflow's client gives it; `read` and `between` are called after it was read, and after a
    tag was written."""

    def __init__(self, **aliases: str) -> None:
        self.aliases, self.tags = dict(aliases), {"dataset": "digits"}
        self.read: Any = lambda: None
        self.between: Any = lambda: None

    def get_registered_model(self, name: str) -> Any:
        assert name == NAME
        read = SimpleNamespace(aliases=dict(self.aliases), tags=dict(self.tags))
        self.read()
        return read

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        self.tags[key] = value
        self.between()

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        del self.tags[key]

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = version

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        del self.aliases[alias]

    def entries(self) -> list[tuple[str, int | None, int | None]]:
        return [(one["action"], one["from"], one["to"]) for one in journal.read_journal(NAME, self.tags)]


def move(registry: Registry, before: int | None, after: int | None, where: address.Location = SERVER) -> None:
    journal.move_alias(registry, where, NAME, journal.new_entry("promote", CHAMPION, before, after))  # type: ignore[arg-type]


def test_a_move_is_written_down_with_who_and_when() -> None:
    registry = Registry()
    move(registry, None, 1)
    move(registry, 1, 2)
    assert registry.aliases == {CHAMPION: "2"}
    assert registry.entries() == [("promote", None, 1), ("promote", 1, 2)]
    for key in set(registry.tags) - {"dataset"}:
        entry = json.loads(registry.tags[key])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["time"])
        assert re.fullmatch(r".+@.+", entry["who"])
        assert len(registry.tags[key]) < 5000  # so long a tag is taken by every database


def test_an_entry_is_no_longer_than_a_database_takes() -> None:
    compared: Any = {"metric": "m", "difference": -1 / 3, "low": -1 / 3, "high": 1 / 3, "p": 1 / 3, "passed": False}
    entry = journal.new_entry("promote", CHAMPION, 10**8, 10**8, compared | {"verdict": "ü" * 1000}, "ü" * 1000)
    registry = Registry()
    journal._write(registry, NAME, 1, entry)  # type: ignore[arg-type]
    assert all(len(value) < 5000 for value in registry.tags.values())


@pytest.mark.parametrize("killed_before", ["the alias was moved", "the page moved it"])
def test_an_alias_that_is_elsewhere_is_found_and_written_down(killed_before: str) -> None:
    registry = Registry()
    move(registry, None, 1, FILE)
    if killed_before == "the page moved it":
        registry.aliases[CHAMPION] = "7"
        move(registry, 7, 8, FILE)
        assert registry.entries()[1:] == [("found", 1, 7), ("promote", 7, 8)]
        return
    registry.between = lambda: (_ for _ in ()).throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        move(registry, 1, 2, FILE)
    assert registry.aliases == {CHAMPION: "1"}
    registry.between = lambda: None
    move(registry, 1, 3, FILE)
    assert registry.entries()[1:] == [("promote", 1, 2), ("found", 2, 1), ("promote", 1, 3)]
    assert journal.past_champions(journal.read_journal(NAME, registry.tags)) == [1, 3]


def test_a_move_of_another_machine_that_is_under_way_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(champion="1")
    journal._write(registry, NAME, 1, journal.new_entry("promote", CHAMPION, 1, 2))  # type: ignore[arg-type]
    before = dict(registry.tags)
    with pytest.raises(BusyError, match=r"is being moved by somebody else: .+@.+ moves it to version 2 since 20"):
        move(registry, 1, 3)
    assert (registry.aliases, registry.tags) == ({CHAMPION: "1"}, before)
    monkeypatch.setattr(journal, "DEAD_SECONDS", 0)  # its process died
    move(registry, 1, 3)
    assert registry.aliases == {CHAMPION: "3"}


@pytest.mark.parametrize("held", [{"read"}, {"read", "between"}])
def test_of_two_machines_at_once_one_moves_the_alias_at_most(held: set[str]) -> None:
    """Both have seen the same champion; both have then written an entry before either looks again, or whenever."""
    registry, both = Registry(champion="1"), threading.Barrier(2, timeout=10)
    journal._write(registry, NAME, 1, journal.new_entry("promote", CHAMPION, None, 1))  # type: ignore[arg-type]
    came: list[object] = []
    first = threading.local()

    def read() -> None:
        if not hasattr(first, "done"):
            first.done = True
            both.wait()

    registry.read = read
    registry.between = both.wait if "between" in held else lambda: None

    def promote(version: int) -> None:
        try:
            move(registry, 1, version)
            came.append(version)
        except BusyError as error:
            came.append(error)

    machines = [threading.Thread(target=promote, args=(version,)) for version in (2, 3)]
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join()
    moved_to = [one for one in came if isinstance(one, int)]
    assert len(came) == 2
    assert len(moved_to) <= 1
    assert registry.aliases == {CHAMPION: str(moved_to[0] if moved_to else 1)}
    assert len(registry.entries()) == 1 + len(moved_to)
    registry.read = registry.between = lambda: None
    move(registry, int(registry.aliases[CHAMPION]), 4)  # nobody cleans up


def test_an_alias_that_somebody_moves_at_the_same_moment_is_said() -> None:
    registry = Registry(champion="5")
    with pytest.raises(BusyError, match=r"it is at version 5 and was at version 1 a moment ago"):
        move(registry, 1, 2)
    assert registry.entries() == []


@pytest.mark.parametrize(
    ("moves", "kept"),
    [
        ([("promote", None, 1), ("promote", 1, 2)], [1, 2]),
        ([("promote", None, 1), ("promote", 1, 2), ("promote", 2, 3), ("rollback", 3, 2)], [1, 2]),
        ([("promote", None, 1), ("promote", 1, 2), ("rollback", 2, 1)], [1]),
        ([("promote", None, 1), ("promote", 1, 2), ("rollback", 2, 1), ("promote", 1, 2)], [1, 2]),
        ([("promote", None, 1), ("found", 1, 7), ("promote", 7, 8)], [1, 7, 8]),
        ([("promote", None, 1), ("promote", 1, 2), ("found", 2, None)], [1, 2]),
        ([("promote", None, 1), ("promote", 1, 2), ("promote", 2, 1)], [1, 2, 1]),
        ([], []),
    ],
)
def test_champions_that_were_taken_back_are_no_past_champions(moves: list[Any], kept: list[int]) -> None:
    assert journal.past_champions([*moved(*moves), *moved(("register", None, 9), alias="candidate")]) == kept


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it is empty"),
        ("{}", "is missing"),
        ("[" * 99, "nested"),
        (json.dumps({**moved(("promote", 1, 2))[0], "to": "2"}), 'to: got "2"'),
        (json.dumps({**moved(("promote", 1, 2))[0], "who": "a\x1b[31m"}), "who: got"),
    ],
)
def test_an_entry_that_was_edited_is_named(text: str, fault: str) -> None:
    with pytest.raises(DataError, match=re.escape(fault)) as raised:
        journal.read_journal(NAME, {"journal.00003.aaaaaaaa": text})
    assert "the registered model 'digits', its tag journal.00003.aaaaaaaa: " in str(raised.value)


def test_entries_are_in_the_order_of_their_numbers_and_told_in_lines() -> None:
    entries = moved(("promote", None, 1), ("found", 1, None), ("rollback", None, 1))
    entries[0]["comparison"] = {
        "metric": "test/accuracy", "difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "verdict": "equal",
        "passed": True,
    }  # fmt: skip
    entries[2]["reason"] = "too slow"
    tags = {
        f"journal.{number}.aaaaaaaa": json.dumps(one)
        for number, one in zip((99999, 100000, 100001), entries, strict=True)
    }
    found = journal.read_journal(NAME, dict(reversed(tags.items())) | {"journal.1.a": "not ours"})
    assert found == entries
    lines = list(journal.journal_lines(found))
    assert [line.partition("Z  ")[2].partition(", by ")[0] for line in lines if line.startswith("20")] == [
        "promote   champion goes to version 1, before no version",
        "found     champion was found at no version, before version 1",
        "rollback  champion goes to version 1, before no version",
    ]
    assert lines[1] == "  comparison: equal"
    assert lines[-1] == "  reason: too slow"
