"""`dvc ARGUMENTS` for `make run`: where another process is at work in this checkout, who it is and what to do, exit 75.

Without arguments it only removes what DVC left half written when it was killed, and refuses ever after.

DVC itself says "Unable to acquire lock" then. One `make run` holds a lock of its own until DVC has ended, in which this
process becomes DVC; of any other DVC, its own lock and its list of who reads and writes what tell.
"""

import fcntl
import json
import os
import sys
import time
from pathlib import Path

import psutil

TEMPORARY = Path(".dvc", "tmp")
OWN, DVC_LOCK, RWLOCK = TEMPORARY / "make-run.lock", TEMPORARY / "lock", TEMPORARY / "rwlock"
LOCKED_STAGES = Path("dvc.lock")
PATIENCE_SECONDS = 3
"""As DVC has it: `dvc status`, or an editor's, holds the lock for a moment."""
BUSY = 75


def lock(path: Path) -> int | None:
    """The number of the process that holds this lock (0: unknown), or None: then this process does, to its end."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 99).split()
        os.close(descriptor)
        return int(holder[0]) if holder and holder[0].isdigit() else 0
    if path == OWN:
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        os.set_inheritable(descriptor, True)
    else:
        os.close(descriptor)
    return None


def listed() -> int | None:
    """The number of a process that DVC notes to read or write here, if it is alive."""
    try:
        noted = json.loads(RWLOCK.read_bytes())
        users = [*noted["write"].values(), *(one for several in noted["read"].values() for one in several)]
        return next((int(one["pid"]) for one in users if psutil.pid_exists(int(one["pid"]))), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or what `params check` tells
        return None


def remove_torn() -> int:
    """DVC writes both files in place: killed in that moment, it leaves them empty. Nothing is lost with them: DVC
    restores what ran before from its run cache."""
    for path in (LOCKED_STAGES, RWLOCK):
        if path.is_file() and not path.stat().st_size:
            path.unlink()
            print(f"{path} was empty: DVC was killed while it wrote it. It is removed, and DVC writes it again.")
    return 0


def told(number: int) -> str:
    """A process, for people."""
    try:
        process = psutil.Process(number)
        command = [Path(word).name if "/" in word else word for word in process.cmdline()]
        command = command[1:] if command[1:] and command[0].startswith("python") else command
        return f"process {number}, `{' '.join(command)[:80]}`, for {time.time() - process.create_time():.0f} s"
    except psutil.Error:
        return "another process"


def main(arguments: list[str]) -> int:
    """Become DVC, or say who is at work."""
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    holder = lock(OWN)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while holder is None:
        holder = listed()
        busy = lock(DVC_LOCK)
        if holder is None and busy is None:
            if not arguments:
                return remove_torn()
            os.execvp("dvc", ["dvc", *arguments])  # noqa: S606
        if holder is None and time.monotonic() > deadline:
            holder = busy
        time.sleep(0.1)
    way_out = f"Wait until it ends, or end it with `kill {holder}`," if holder else "Wait until it ends,"
    print(
        f"This checkout is in use: {told(holder)}. {way_out} then run the same command again.\n"
        f"make run: exit {BUSY} (stopped or busy: run the same command again)",
        file=sys.stderr,
    )
    return BUSY


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
