"""The files that DVC reads before any stage does, read with care: what makes DVC refuse them, or never end.

The one reader of dvc.lock. Each fault names file, line and repair, as DVC does not.
"""

import json
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from keras_pipeline.core.errors import DataError
from keras_pipeline.strict_yaml.nodes import CONFLICT, ShallowScanner, syntax_fault

MAX_BYTES, MAX_VALUES, MAX_DEPTH = 128 * 1024, 8_000, 32
"""Of a file for DVC, with all aliases written out: the time that DVC takes grows with them without end."""
LOCK, PIPELINE, SCORES = "dvc.lock", "dvc.yaml", "reports/metrics.json"
SETTINGS = (".dvc/config", ".dvc/config.local", ".dvcignore")
RWLOCK = Path(".dvc", "tmp", "rwlock")
SCHEMA = "2.0"
RESTORED = "what was trained before is restored, not trained again"
ANEW = f"Restore the committed one, `git checkout HEAD -- {{0}}`, or `rm {{0}} && dvc repro`: {RESTORED}."
THEIRS = (
    "Take one side and let DVC bring it in line: `git checkout --theirs {0} && dvc repro`; where nothing is being "
    f"merged, `rm {{0}} && dvc repro`: {RESTORED}."
)
BY_HAND = "Keep one side of the conflict, delete its markers, then `git add {0}`."


class LockedFile(NamedTuple):
    """A file's MD5 as dvc.lock has it; `legacy`: as DVC 2 took it, of a text with line feeds only."""

    md5: str
    legacy: bool


@dataclass(frozen=True)
class LockedStage:
    """What dvc.lock says of a stage: its files by their paths."""

    deps: Mapping[str, LockedFile]
    outs: Mapping[str, LockedFile]


def find_faults(folder: Path) -> list[str]:
    """What is wrong with the files in `folder` that DVC reads, a line each, with file, line and repair; none where a
    file is absent. Takes less than a second, whatever is in them."""
    return list(_faults(folder))


def _faults(folder: Path) -> Iterator[str]:
    for name, check in ((PIPELINE, _read_pipeline), (LOCK, read_lock)):
        try:
            content = _content(folder / name)
            if content is not None:
                check(content, str(folder / name))
        except DataError as error:
            yield str(error)
    pointers = [path for pattern in ("*.dvc", "*/*.dvc") for path in sorted(folder.glob(pattern))[:100]]
    others = {
        folder / SCORES: THEIRS,
        **dict.fromkeys((folder / name for name in SETTINGS), BY_HAND),
        **dict.fromkeys((path for path in pointers if path.is_file()), BY_HAND),
    }
    for path, repair in others.items():
        try:
            _refuse_conflict(_content(path) or b"", str(path), repair)
        except DataError as error:
            yield str(error)


def find_torn_lock(folder: Path) -> str | None:
    """What is wrong with DVC's list of who reads and writes what: DVC refuses a torn one for ever. A second look tells
    that from one that is being written."""
    path = folder / RWLOCK
    for _ in range(3):
        try:
            if isinstance(json.loads(path.read_bytes()), dict):
                return None
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            pass
        sleep(0.1)
    return f"{path} is torn: DVC was ended while it wrote it, and refuses it: rm -r {path}"


def read_lock(content: bytes, name: str, repair: str = "") -> dict[str, LockedStage]:
    """The stages that dvc.lock with this content knows; `name` is what messages call it, `repair` what they advise.

    Raises DataError with file, line and repair for conflict markers, for what is empty, half written or no YAML, and
    for another schema.
    """
    _refuse_conflict(content, name, repair or THEIRS)
    values = _plain(content, name, repair or ANEW)
    anew = (repair or ANEW).format(name)
    if not content.strip():
        raise DataError(f"{name}:1: this file is empty: DVC was ended while it wrote it. {anew}")
    if not isinstance(values, dict) or "schema" not in values:
        raise DataError(f"{name}:1: this is not what `dvc repro` writes: it says no schema. {anew}")
    if (schema := values["schema"]) != SCHEMA:
        raise DataError(
            f"{name}:1: of schema {str(schema)[:20]!r}, which another version of DVC wrote. Expected: '{SCHEMA}'. "
            f"Install that version. {anew}"
        )
    try:
        stages = values.get("stages", {})
        return {name: _stage(entry) for name, entry in stages.items()}
    except (TypeError, KeyError, AttributeError):
        raise DataError(f"{name}: stages: not what `dvc repro` writes, or only half of it. {anew}") from None


def load_lock(folder: Path) -> dict[str, LockedStage]:
    """`read_lock` of the file in `folder`; no stages where there is none."""
    content = _content(folder / LOCK)
    return {} if content is None else read_lock(content, str(folder / LOCK))


def _stage(entry: Mapping[str, Any]) -> LockedStage:
    """A stage as DVC's own schema has it; raises TypeError, KeyError or AttributeError where it is not so."""
    if not entry["cmd"] or not set(entry) <= {"cmd", "deps", "params", "outs"}:
        raise TypeError
    for block in entry.get("params", {}).values():
        block.items()
    return LockedStage(_files(entry, "deps"), _files(entry, "outs"))


def _files(stage: Mapping[str, Any], kind: str) -> dict[str, LockedFile]:
    files = {}
    if not isinstance(entries := stage.get(kind, []), list):
        raise TypeError
    for one in entries:
        if not all(one.values()) or not re.fullmatch(r"([0-9a-f]{32}(\.dir)?)?", one.get("md5", "")):
            raise TypeError
        files[one["path"]] = LockedFile(one.get("md5", ""), one.get("hash") != "md5")
    return files


def _read_pipeline(content: bytes, name: str) -> None:
    _refuse_conflict(content, name, BY_HAND)
    _plain(content, name, "Mend it, or `git checkout HEAD -- {0}`.")


def _content(path: Path) -> bytes | None:
    """At most one byte more than is read of a regular file; None where there is none."""
    try:
        if stat.S_ISREG(mode := path.stat().st_mode):
            with path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if not path.is_symlink():
            return None
        raise DataError(f"{path}: a link to {path.readlink()}, where no file is. Replace the link.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}. Expected: a file; see `ls -l {path}`.") from None
    kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
    raise DataError(
        f"{path}: this is {kind}, where DVC wants a file. Move it away, then `git checkout HEAD -- {path}`."
    )


def _refuse_conflict(content: bytes, name: str, repair: str) -> None:
    text = content[:MAX_BYTES].decode(errors="replace").replace("\r\n", "\n")
    if match := CONFLICT.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise DataError(f"{name}:{line}: a git conflict marker, '{match[1]}'. {repair.format(name)}")


def _plain(content: bytes, name: str, repair: str) -> Any:
    """The blocks, lists and texts in YAML `content`, all scalars as text."""
    if len(content) > MAX_BYTES:
        raise DataError(f"{name}: larger than {MAX_BYTES // 1024} KiB, which none is. {repair.format(name)}")
    try:
        return _Builder(name, repair).build(content.decode())
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise DataError(f"{name}:{line}: the byte 0x{byte:02x} is not UTF-8. {repair.format(name)}") from None
    except MarkedYAMLError as error:
        (line, column), _key, message = syntax_fault(error)
        raise DataError(f"{name}:{line}:{column}: {message} {repair.format(name)}") from None
    except ReaderError as error:
        line = content.decode().count("\n", 0, error.position) + 1
        raise DataError(f"{name}:{line}: a character that YAML does not allow. {repair.format(name)}") from None
    except DataError:
        raise
    except (ValueError, OverflowError):  # ruamel.yaml gives the number of "\U00110000" to chr() unchecked
        raise DataError(f"{name}: an escape names no character, as '\\U00110000'. {repair.format(name)}") from None


class _Builder:
    """Builds plain values from YAML's events, without recursion, and counts what aliases would make of them."""

    def __init__(self, name: str, repair: str) -> None:
        self.name, self.repair = name, repair
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.count = 0

    def build(self, text: str) -> Any:
        yaml = YAML(typ="safe", pure=True)
        yaml.Scanner = ShallowScanner
        root: list[Any] = []
        open_nodes: list[tuple[Any, list[Any], str | None, int]] = [(None, root, None, 0)]
        for event in yaml.parse(text):
            if isinstance(event, MappingStartEvent | SequenceStartEvent):
                open_nodes.append((event, [], event.anchor, self.count))
                self.counted(event, 1, len(open_nodes))
            elif isinstance(event, MappingEndEvent | SequenceEndEvent):
                begun, parts, anchor, before = open_nodes.pop()
                value = _mapping(parts) if isinstance(begun, MappingStartEvent) else parts
                if anchor:
                    self.anchors[anchor] = value, self.count - before
                open_nodes[-1][1].append(value)
            elif isinstance(event, ScalarEvent):
                self.counted(event, 1)
                if event.anchor:
                    self.anchors[event.anchor] = event.value, 1
                open_nodes[-1][1].append(event.value)
            elif isinstance(event, AliasEvent):
                value, size = self.anchors.get(event.anchor, (None, MAX_VALUES))
                self.counted(event, size)
                open_nodes[-1][1].append(value)
        return root[0] if root else None

    def counted(self, event: Any, more: int, depth: int = 0) -> None:
        """Raise DataError where there is too much, so far."""
        self.count += more
        if self.count > MAX_VALUES or depth > MAX_DEPTH:
            what = f"more than {MAX_VALUES:,} values" if self.count > MAX_VALUES else f"more than {MAX_DEPTH} levels"
            mark = event.start_mark
            raise DataError(
                f"{self.name}:{mark.line + 1}:{mark.column + 1}: {what}, with its aliases ('*') written out: DVC would "
                f"read it for very long. {self.repair.format(self.name)}"
            )


def _mapping(parts: list[Any]) -> dict[Any, Any]:
    return {key: value for key, value in zip(parts[::2], parts[1::2], strict=True) if isinstance(key, str)}
