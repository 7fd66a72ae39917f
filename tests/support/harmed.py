"""A finished pipeline to which harm is done, what a command makes of it, and which of the problems that is."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import harms
from fault_catalogue import Try
from places import SUPPORT

NOT_OURS = {".lock", "__pycache__"}
"""Names that a command may write wherever it is."""


class ProblemError(AssertionError):
    """What came of a fault and should not; `kind`: one of the catalogue's problems."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


@dataclass(frozen=True)
class Ended:
    """An ended command; `code` is None where it did not end in time."""

    code: int | None
    output: str


Run = Callable[[list[str], Try], Ended]
"""Runs the words of a command in the current folder."""


def check(one: Try, root: Path, temporary: Path, run: Run) -> None:
    """Do the harm in `root`, run the command, and raise the ProblemError that comes of it, if one does. What `run`
    starts sees `temporary`, an empty folder, as the one for temporary files."""
    for harm in one.harm:
        harms.do(harm, root)
    before = digests(root)
    ended = run(shlex.split(one.run), one)
    _check_end(one, ended, temporary)
    for path in _differing(before, digests(root)):
        if not path.startswith(tuple(one.changes)):
            raise ProblemError("lost runs", f"{path} is not as it was\n{ended.output}")
    if one.again:
        again = run(shlex.split(one.again), Try(run=one.again, seconds=one.seconds, place=one.place))
        if again.code != 0:
            raise ProblemError("by hand", f"`{one.again}` ends in {again.code}\n{again.output}")


def _check_end(one: Try, ended: Ended, temporary: Path) -> None:
    if ended.code is None:
        raise ProblemError("hangs", f"`{one.run}` has not ended after {one.seconds} s\n{ended.output}")
    reports = [path.read_text() for path in temporary.glob("keras-pipeline-*.txt")]
    if "Traceback (most recent call last)" in ended.output or reports:
        raise ProblemError("tracebacks", "\n".join([ended.output, *reports]))
    if ended.code not in one.codes:
        raise ProblemError("other", f"exit {ended.code}, expected {one.codes}\n{ended.output}")
    for pattern in one.said:
        if not re.search(pattern, ended.output, re.MULTILINE):
            raise ProblemError("other", f"/{pattern}/ is not said:\n{ended.output}")
    if left := sorted(path.name for path in temporary.iterdir()):
        raise ProblemError("lost runs", f"left in the folder for temporary files: {', '.join(left)}")


def digests(root: Path) -> dict[str, str]:
    """What each file and link below `root` holds, by its path."""
    return {str(path.relative_to(root)): text for path, text in _contents(root)}


def _contents(root: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(root.rglob("*")):
        if NOT_OURS & set(path.parts):
            continue
        if path.is_symlink():
            yield path, f"to {path.readlink()}"
        elif path.is_file():
            yield path, hashlib.sha256(path.read_bytes()).hexdigest()


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))


def in_a_process(environment: Mapping[str, str]) -> Run:
    """Commands are processes of their own, within the limits and mounts of their try."""

    def run(words: list[str], one: Try) -> Ended:
        asked = json.dumps({"limit": one.limit, "mount": one.mount})
        process = subprocess.Popen(
            [sys.executable, SUPPORT / "under_limits.py", asked, *words],
            env={**os.environ, **environment, **one.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=one.seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            return Ended(None, output)
        return Ended(process.returncode, output)

    return run


def can_mount() -> bool:
    """Whether this machine lets a process have mounts of its own."""
    command = ["unshare", "-rm", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0
