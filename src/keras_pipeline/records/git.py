"""What git says of this folder, in git's own words where it refuses: nothing is taken for clean that was not asked."""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import StringConstraints
from typing_extensions import TypedDict

from keras_pipeline.core.errors import MachineError, masked
from keras_pipeline.core.terminal import shown

SET_BY_GIT = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_PREFIX", "GIT_NAMESPACE",
)  # fmt: skip
"""What git itself sets for the programs that it calls, such as hooks: they would name another repository."""
PATIENCE_SECONDS = 10.0
"""A training does not wait longer for git's answer."""
NO_REPOSITORY, NO_COMMIT, UNKNOWN = "no repository", "no commit yet", "unknown: "


def run_git(folder: Path, *arguments: str, timeout: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Git's exit code, output and errors, in English; what is no UTF-8 in it stays as surrogates.

    Raises MachineError where git cannot be run, or takes longer than so many seconds: then it has ended, with
    whatever it had started.
    """
    command = ["git", "--no-optional-locks", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
    command += ["-c", "advice.detachedHead=false", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in SET_BY_GIT}
    environment |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
            process_group=0,
        )
    except FileNotFoundError as error:
        if str(error.filename) == str(folder):
            raise MachineError(f"{folder}: this folder was removed. Run the command in one that is there.") from None
        raise MachineError("git is not installed, and what is recorded is found by its commit. Install git.") from None
    except OSError as error:
        raise MachineError(f"git cannot be run: {error.strerror}. Mend that, see `command -v git`.") from None
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise MachineError(
                    f"git {arguments[0]} did not answer within {timeout:.0f} s. Is the disk of {folder} slow or gone?"
                ) from None
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def refusal(errors: str) -> str:
    """The line in which git says why it refuses, and the command that it names as the way out."""
    lines = [line for line in errors.splitlines() if line.strip()] or ["git gave no reason"]
    said = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[0]).strip()
    remedy = next((line.strip() for line in lines if line.startswith("\tgit ")), "")
    text = masked(f"{said} (its remedy: {remedy})" if remedy else said)
    return shown(" ".join(text.split()))


Commit = Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}([0-9a-f]{24})?$")]


class Git(TypedDict):
    """The commit, or None; whether tracked files differ from it, None where git could not be asked; and why one of
    them is None: NO_REPOSITORY, NO_COMMIT, or UNKNOWN with git's words. Earlier records have no `reason`."""

    commit: Commit | None
    dirty: bool | None
    reason: NotRequired[str]


def git_state(folder: Path | None = None) -> Git:
    """What git says of `folder`, or of the current one. Never raises: what git refuses is the reason."""
    try:
        here = folder or Path.cwd()
        done = run_git(here, "status", "--porcelain=v2", "--branch", "--untracked-files=no", timeout=PATIENCE_SECONDS)
        # Of a damaged repository git says the same words as of none.
        found = any((one / ".git").exists() for one in (here, *here.parents))
    except (MachineError, OSError) as error:
        return {"commit": None, "dirty": None, "reason": f"{UNKNOWN}{error}"}
    if done.returncode:
        absent = "not a git repository" in done.stderr and not found
        reason = NO_REPOSITORY if absent else f"{UNKNOWN}{refusal(done.stderr)}"
        return {"commit": None, "dirty": None, "reason": reason}
    lines = done.stdout.splitlines()
    head = dict(line.removeprefix("# branch.").split(" ", 1) for line in lines if line.startswith("# branch."))
    dirty = not all(line.startswith("#") for line in lines)
    if head["oid"] != "(initial)":
        return {"commit": head["oid"], "dirty": dirty}
    if head["head"] == "(unknown)":  # where a new branch has a name
        return {"commit": None, "dirty": None, "reason": f"{UNKNOWN}git cannot read the branch of HEAD: `git fsck`"}
    return {"commit": None, "dirty": dirty, "reason": NO_COMMIT}


def is_unknown(git: Mapping[str, Any]) -> bool:
    """Whether git was asked and could not tell: neither that there is no commit, nor that there is one."""
    return str(git.get("reason", "")).startswith(UNKNOWN)


def describe_git(git: Mapping[str, Any]) -> str:
    """A record's commit in a few words: "0123456789ab with changes", or why there is none."""
    if not git["commit"]:
        return str(git.get("reason", "no commit"))
    return f"{git['commit'][:12]}{' with changes' if git['dirty'] else ''}"
