"""Who moved an alias, when, from which version to which, and why: MLflow itself moves one without a trace.

The journal is made of tags of the registered model, a tag an entry. An entry is written before its alias is moved: of
a process that died between the two the next one sees, as it sees an alias that was moved in MLflow's page, that the
alias is not where the journal left it, and says so in an entry of its own. A lock keeps the processes of this machine
apart; those of others see each other's entries before they move anything, and one of two steps back.
"""

import getpass
import json
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from filelock import FileLock, Timeout
from pydantic import FiniteFloat, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.core.errors import BusyError, DataError
from keras_pipeline.core.json_files import Line, Size, check_type, parse_json
from keras_pipeline.tracking.stores.address import Location

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CANDIDATE = "champion", "candidate"
"""The aliases: the version that is used, and the one that was registered last and is to be judged."""
KEY = re.compile(r"journal\.(\d{5,})\.[0-9a-f]{8}")
LOCK_SECONDS = 60
"""For how long another process of this machine may be registering or promoting."""
DEAD_SECONDS = 60
"""An entry of another machine whose alias has not moved after so long is that of a process that died."""
LONGEST_REASON = 1000
Instant = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
"""In UTC."""


class Judgement(TypedDict):
    """What a promotion was decided by: of `metric` the difference, new version minus champion, its 95 % interval, the
    p-value (None for a number that is predicted), all in words; whether it was `passed`."""

    metric: Line
    difference: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    p: FiniteFloat | None
    verdict: Line
    passed: bool


Entry = TypedDict(
    "Entry",
    {
        "time": Instant,
        "who": Line,
        "action": Literal["register", "promote", "rollback", "found"],
        "alias": Line,
        "from": Size | None,
        "to": Size | None,
        "comparison": Judgement | None,
        "reason": Line,
    },
)
"""One move of an alias: from a version to another, None for none. "found": it was not where the entry before left it.
`comparison`: None where there was nothing to compare with, or it could not be made; `reason` says which, too."""
ENTRY = TypeAdapter(Entry)


@contextmanager
def alone(location: Location) -> Iterator[None]:
    """Within, no other process of this machine registers or promotes in this store. Raises BusyError where one is at it
    for long."""
    beside = location.database or location.state / "store"
    lock = FileLock(beside.with_name(f".{beside.name}-registry-lock"), timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"{lock.lock_file}: another process has been registering or promoting for {LOCK_SECONDS} s. Wait until it "
            "ends, or stop it, then run the same command again."
        ) from None
    try:
        yield
    finally:
        lock.release()


def read_journal(name: str, tags: Mapping[str, str]) -> list[Entry]:
    """The entries in the tags of the registered model of this name, the oldest first. Raises DataError where one was
    edited so that it cannot be read."""
    found = []
    for key in sorted((key for key in tags if KEY.fullmatch(key)), key=_order):
        try:
            entry: Any = parse_json(tags[key].encode())
            check_type(entry, ENTRY)
        except ValueError as fault:
            raise DataError(
                f"the registered model '{name}', its tag {key}: {fault} Somebody edited the journal: correct the tag, "
                "or delete it, in MLflow's page."
            ) from None
        found.append(entry)
    return found


def _order(key: str) -> tuple[int, str]:
    return int(key.split(".")[1]), key


def new_entry(
    action: Literal["register", "promote", "rollback", "found"],
    alias: str,
    before: int | None,
    after: int | None,
    comparison: Judgement | None = None,
    reason: str = "",
) -> Entry:
    """An entry of now, by whoever runs this process."""
    return {
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "who": _who(),
        "action": action,
        "alias": alias,
        "from": before,
        "to": after,
        "comparison": comparison,
        "reason": reason,
    }


def _who() -> str:
    name = "unknown"
    with suppress(KeyError, OSError, ImportError):  # in a container the user may have no name
        name = getpass.getuser()
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "", f"{name}@{socket.gethostname()}")


def left_at(journal: Sequence[Entry], alias: str) -> int | None:
    """The version at which the journal left the alias."""
    return next((entry["to"] for entry in reversed(journal) if entry["alias"] == alias), None)


def past_champions(journal: Sequence[Entry]) -> list[int]:
    """The champions that were not taken back, the present one last: what a rollback goes back through."""
    kept: list[int] = []
    for entry in journal:
        version = entry["to"]
        if entry["alias"] != CHAMPION or version is None:
            continue
        if entry["action"] == "promote" or version not in kept:
            kept.append(version)
        else:  # taken back, or moved back in MLflow's page
            while kept[-1] != version:
                kept.pop()
    return kept


def move_alias(client: "MlflowClient", location: Location, name: str, entry: Entry) -> None:
    """Write the entry into the journal of the registered model, then move its alias.

    Raises BusyError, with nothing moved, where another machine is about to move the alias, or has just moved it; run
    again then.
    """
    before = client.get_registered_model(name)
    journal = read_journal(name, before.tags)
    numbers = [_order(key)[0] for key in before.tags if KEY.fullmatch(key)]
    number, alias, present = max(numbers, default=0) + 1, entry["alias"], _version(before, entry["alias"])
    if present != entry["from"]:
        raise _taken(name, alias, f"it is at {told(present)} and was at {told(entry['from'])} a moment ago")
    if alias == CHAMPION and left_at(journal, alias) != present:
        last = next((one for one in reversed(journal) if one["alias"] == alias), None)
        if last and not location.database and abs(_age(last)) < DEAD_SECONDS:
            raise _taken(name, alias, f"{last['who']} moves it to {told(last['to'])} since {last['time']}")
        found = new_entry(
            "found",
            alias,
            left_at(journal, alias),
            present,
            reason="moved in MLflow's page, or its version was deleted, or a promotion was interrupted",
        )
        _write(client, name, number, found)
        number += 1
    key = _write(client, name, number, entry)
    others = client.get_registered_model(name).tags
    if any(KEY.fullmatch(one) and one != key and _order(one)[0] >= number for one in others):
        client.delete_registered_model_tag(name, key)
        raise _taken(name, alias, "another machine wrote into the journal at the same moment")
    if entry["to"] is None:
        client.delete_registered_model_alias(name, alias)
    else:
        client.set_registered_model_alias(name, alias, str(entry["to"]))
    after = _version(client.get_registered_model(name), alias)
    if after != entry["to"]:
        raise _taken(name, alias, f"it was moved to {told(entry['to'])} and is at {told(after)}")


def _taken(name: str, alias: str, why: str) -> BusyError:
    return BusyError(
        f"The alias {alias} of '{name}' is being moved by somebody else: {why}. Look at it with `keras-pipeline model "
        f"list --name {name} --journal`, then run the same command again."
    )


def _write(client: "MlflowClient", name: str, number: int, entry: Entry) -> str:
    key = f"journal.{number:05}.{secrets.token_hex(4)}"
    client.set_registered_model_tag(name, key, json.dumps(entry, ensure_ascii=False, allow_nan=False))
    return key


def _version(model: Any, alias: str) -> int | None:
    at = model.aliases.get(alias)
    return None if at is None else int(at)


def _age(entry: Entry) -> float:
    return time.time() - datetime.fromisoformat(entry["time"]).timestamp()


def told(version: int | None) -> str:
    """A version as people are told of it."""
    return "no version" if version is None else f"version {version}"


def journal_lines(journal: Sequence[Entry]) -> Iterator[str]:
    """The journal for people, the oldest entry first."""
    for entry in journal:
        what = "was found at" if entry["action"] == "found" else "goes to"
        line = f"{entry['time']}  {entry['action']:<8}  {entry['alias']} {what} {told(entry['to'])}"
        yield f"{line}, before {told(entry['from'])}, by {entry['who']}"
        if entry["comparison"]:
            yield f"  comparison: {entry['comparison']['verdict']}"
        if entry["reason"]:
            yield f"  reason: {entry['reason']}"
