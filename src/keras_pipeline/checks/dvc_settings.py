"""DVC's own answers about its settings: it alone knows where they stand, in the project, the user's home or beyond."""

import os
import stat
import subprocess
from pathlib import Path

from keras_pipeline.core import process
from keras_pipeline.core.errors import MachineError, masked

PATIENCE_SECONDS = 60.0
SITE_CACHE = ".dvc-site-cache"
"""In the project: the default is a folder that every user of the machine may write into."""


def ask_dvc(folder: Path, *arguments: str) -> str:
    """What `dvc` with these arguments prints in `folder`. Raises MachineError with DVC's own words where it refuses."""
    try:
        done = subprocess.run(
            process.python("-m", "dvc", *arguments),
            cwd=folder,
            env={
                **os.environ,
                **process.UTF8_OUTPUT,
                "DVC_NO_ANALYTICS": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MachineError(f"`dvc {' '.join(arguments)}` did not end within {PATIENCE_SECONDS:.0f} s.") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        said = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
        raise MachineError(f"DVC refuses: {masked(said.removeprefix('ERROR: '))}")
    return done.stdout.strip()


def cache_folder(folder: Path) -> Path:
    """DVC's cache of the project in `folder`, as `dvc cache dir` has it. Raises MachineError where DVC refuses, or the
    cache is not there although it was put there by a setting, or cannot be read."""
    named = ask_dvc(folder, "cache", "dir")
    cache = Path(named)
    try:
        with os.scandir(cache):
            return cache
    except FileNotFoundError:
        if cache == folder.absolute() / ".dvc" / "cache":
            return cache  # nothing was run here yet
        reason = "it is not there. Is its disk mounted?"
    except OSError as error:
        reason = f"{error.strerror}."
    raise MachineError(
        f"DVC's cache {masked(named)}: {reason} `dvc config --list --show-origin` names the file that says so."
    )


def site_cache(folder: Path) -> Path:
    """Where DVC keeps what it unpickles, when it is called in `folder`."""
    named = os.environ.get("DVC_SITE_CACHE_DIR") or ask_dvc(folder, "config", "core.site_cache_dir")
    return Path(named or "/var/tmp/dvc")  # noqa: S108


def site_cache_fault(folder: Path) -> str | None:
    """How another user of this machine could let DVC run a program of his in the project in `folder`, and what ends
    that; None where he cannot."""
    folder = folder.absolute()
    for depth in range(1, 5):  # DVC takes the setting from the folder in which it is called
        for stray in folder.glob(f"{'[!.]*/' * depth}{SITE_CACHE}"):
            return f"{stray} was made by DVC, called in that folder, for everyone to write into: rm -r {stray}"
    named = site_cache(folder)
    found = folder / named
    ours = folder in found.parents
    setting = f"dvc config --local core.site_cache_dir {folder / SITE_CACHE}"
    remedy = f"mkdir -p -m 700 {found} {found}/repo" if ours else setting
    if not named.is_absolute():
        return f"DVC takes its site cache {named} from whatever folder it is called in: {setting}"
    try:
        status = found.lstat()
    except OSError:
        return f"DVC's site cache {found} is not there, and DVC would make it open to every user: {remedy}"
    if ours and found.resolve() != folder.resolve() / found.relative_to(folder):
        return f"DVC's site cache {found} is a link to elsewhere: git checkout HEAD -- {found} && chmod 700 {found}"
    if ours:
        remedy = f"rm -rf {found}/repo/* && chmod 700 {found} {found}/repo"
    for path in (found, *(found.rglob("*") if status.st_mode & 0o077 else ())):
        status = path.lstat()
        if status.st_uid != os.geteuid():
            return f"{path} belongs to another user, and DVC runs what it finds there: {remedy}"
        if status.st_mode & 0o022 and not stat.S_ISLNK(status.st_mode):
            return f"{path} can be written by others, and DVC runs what it finds there: {remedy}"
    return None
