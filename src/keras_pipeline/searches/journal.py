"""Optuna's file of a search's trials: a line of JSON for each thing that entry, read as one type or refused."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

from pydantic import Field, FiniteFloat, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from keras_pipeline.core import files
from keras_pipeline.core.errors import DataError
from keras_pipeline.core.json_files import Count, Line, Seconds, Size, check_type, parse_json

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

BEGINNING = b'{"op_code":'
"""Of every line."""


class Attributes(TypedDict):
    """What we say of a trial beside its values: the key of its run, how long that took, why it was pruned, and the
    trial that it is done instead of."""

    key: NotRequired[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]]
    seconds: NotRequired[Seconds]
    why: NotRequired[Annotated[str, StringConstraints(pattern=r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f]*$")]]
    instead_of: NotRequired[Count]


ATTRIBUTES = TypeAdapter(Attributes)


class LogEntry(TypedDict):
    """A line. Which keys there are goes by its `op_code`; one that lacks is found when Optuna takes it."""

    op_code: Annotated[int, Field(ge=0, le=10)]
    worker_id: Line
    study_id: NotRequired[Count]
    study_name: NotRequired[Line]
    directions: NotRequired[Annotated[list[Literal[1, 2]], Field(min_length=1, max_length=1)]]
    trial_id: NotRequired[Count]
    state: NotRequired[Annotated[int, Field(ge=0, le=4)]]
    value: NotRequired[FiniteFloat | None]
    values: NotRequired[Annotated[list[FiniteFloat], Field(min_length=1, max_length=1)] | None]
    step: NotRequired[Size]
    intermediate_value: NotRequired[FiniteFloat]
    intermediate_values: NotRequired[dict[str, FiniteFloat]]
    param_name: NotRequired[Line]
    param_value_internal: NotRequired[FiniteFloat]
    distribution: NotRequired[str]
    distributions: NotRequired[dict[str, str]]
    params: NotRequired[dict[str, Any]]
    user_attr: NotRequired[Attributes]
    user_attrs: NotRequired[Attributes]
    system_attrs: NotRequired[dict[str, Any]]
    datetime_start: NotRequired[Line | None]
    datetime_complete: NotRequired[Line]


LOG_ENTRY = TypeAdapter(LogEntry)


def open_journal(path: Path) -> "BaseStorage":
    """The storage in this file, which is created where it is missing.

    Raises DataError, with the line, where something else stands there than what a search has written.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    class Unlocked(JournalFileOpenLock):
        """Whoever writes holds the runs' lock, which ends with its process; Optuna's own would outlive it."""

        def acquire(self) -> bool:
            return True

        def release(self) -> None:
            pass

    class Journal(JournalFileBackend):
        """Reads on from where it was; `ends`: of each line that was read, the place of the next."""

        def __init__(self) -> None:
            super().__init__(str(path), Unlocked(str(path)))
            self.ends = [0]
            self.trials = 0

        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
            with files.open_regular(path, "search run") as file:
                file.seek(self.ends[log_number_from])
                for line in file:
                    if is_torn(line):  # or just being written
                        return
                    entry = self._read(line)
                    self.ends.append(self.ends[-1] + len(line))
                    yield entry

        def _read(self, line: bytes) -> dict[str, Any]:
            try:
                entry: dict[str, Any] = parse_json(line)
                check_type(entry, LOG_ENTRY)
                trial = entry.get("trial_id", 0)
                if "trial_id" in entry and trial >= self.trials:
                    raise ValueError(f"trial_id: got {trial}. Expected: one of the {self.trials} trials before it.")
            except ValueError as fault:
                raise self.refusal(len(self.ends), str(fault).removeprefix("line 1 ")) from None
            self.trials += entry["op_code"] == CREATE_TRIAL
            return entry

        def refusal(self, number: int, fault: str) -> DataError:
            return DataError(f"{path}: line {number}: {fault} {REMEDY}")

    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        files.open_regular(path, "search run").close()
    journal = Journal()
    try:
        return JournalStorage(journal)
    except (DataError, OSError):
        raise
    except Exception as error:  # whatever Optuna raises for what no search has told it
        reason = str(error).strip().split("\n")[0] or "Optuna refuses it"
        found = ascii(f"{reason} is missing" if isinstance(error, KeyError) else reason)[1:-1]
        raise journal.refusal(len(journal.ends) - 1, f"{found}. Expected: what `search run` writes.") from None


CREATE_TRIAL = 4
REMEDY = (
    "`keras-pipeline search run` writes it: move it away and run it again; values that a run was trained with are not "
    "trained again."
)


def is_torn(line: bytes) -> bool:
    """Whether it is the beginning of a line, as a machine leaves it that goes down; some leave zeros."""
    begun = line.rstrip(b"\0")
    return not line.endswith(b"\n") and (begun.startswith(BEGINNING) or BEGINNING.startswith(begun))


def mend_journal(path: Path) -> None:
    """Take away the beginning of a line that a machine which went down left at the end; give one that is whole, as an
    editor leaves it, its end. What else stands there, stays."""
    if not path.is_file():
        return
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    last = content[end:]
    try:
        parse_json(last)
    except ValueError:
        if last and is_torn(last):
            os.truncate(path, end)
        return
    with path.open("ab") as file:
        file.write(b"\n")
