"""What this machine lets the process have: asked before it is needed, and told when it was lacking."""

import errno
import mmap
import os
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from keras_pipeline.core.errors import MachineError

# fmt: off
MACHINE_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK,
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE,
    errno.ENOMEM, errno.EAGAIN,
}
# fmt: on
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""The numbers of an OSError that are the machine's, and those of a disk that takes no more."""
NO_ROOM = re.compile("No space left on device|[Qq]uota exceeded|File too large|database or disk is full")
NO_MEMORY = re.compile(
    "Cannot allocate memory|[Uu]nable to allocate|bad_alloc|failed to map segment|OOM when allocating|ResourceExhausted"
)
NO_MORE = re.compile("Too many open files|can't start new thread|Resource temporarily unavailable")
"""How libraries say that something is lacking, in exceptions of their own."""


def lacking(error: BaseException) -> str | None:
    """What the machine lacked, in a sentence or two, where `error` or what it came of says that; else None."""
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        where = f"{error.filename or 'a file'}: {error.strerror}"
        if error.errno in FULL:
            needed = "".join(f", {note}" for note in getattr(error, "__notes__", []))
            return f"{where} ({room(Path(os.fsdecode(error.filename or '.')))}{needed}). {WAY_OUT}"
        return f"{where}. {WAY_OUT}"
    for one in _causes(error):
        said = f"{type(one).__name__}: {one}".split("\n")[0][:200]
        if isinstance(one, MemoryError) or NO_MEMORY.search(said):
            return (
                f"Memory is exhausted{_limits('vd')}. Use a smaller network or train.batch_size, or end other programs."
            )
        if NO_ROOM.search(said):
            return f"{said} ({room(Path.cwd())}). {WAY_OUT}"
        if NO_MORE.search(said):
            return f"{said}: there are no more for this process{_limits('nu')}. Raise the limit, then run it again."
    return None


WAY_OUT = "Make room, give permission or name another path, then run it again."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and what it came of, one after the other."""
    seen: list[BaseException] = []
    while error and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def room(path: Path) -> str:
    """How much may still be written where `path` is or would be: "12.3 MB are free there"."""
    with suppress(OSError):
        folder = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
        found = os.statvfs(folder)
        told = f"{found.f_bavail * found.f_frsize / 1e6:,.1f} MB are free there"
        if found.f_files and not found.f_favail:
            told += ", and not one more file"
        largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        return told if largest == resource.RLIM_INFINITY else f"{told}, a file may have {largest:,} bytes (ulimit -f)"
    return "how much is free there is not known"


LIMITS = {"v": resource.RLIMIT_AS, "d": resource.RLIMIT_DATA, "n": resource.RLIMIT_NOFILE, "u": resource.RLIMIT_NPROC}
"""The limits of a process by the letter that `ulimit` has for them."""


def _limits(letters: str) -> str:
    """Those of these that are set, for people."""
    own = {letter: resource.getrlimit(LIMITS[letter])[0] for letter in letters}
    told = [
        f"ulimit -{letter} {limit // 1024 if letter in 'vd' else limit}"
        for letter, limit in own.items()
        if limit != resource.RLIM_INFINITY
    ]
    return f" ({', '.join(told)})" if told else ""


def available_cores() -> int:
    """How many of the machine's cores this process may use, 1 at least."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_numpy() -> None:
    """Raise MachineError where the limits of this process leave too little for NumPy, which takes memory a core."""
    cores = os.cpu_count() or 1
    require_memory("NumPy", (250 + 45 * cores) * 10**6, (150 + 40 * cores) * 10**6)


def numpy_threads() -> int:
    """How many threads NumPy starts when it is imported: one for each core but the first. Where it does not get one,
    its library sends this process the signal of Ctrl-C, and who pressed nothing would be told of an interruption."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1  # macOS has another library
    wanted = [os.environ.get(f"{name}_NUM_THREADS", "") for name in ("OPENBLAS", "GOTO", "OMP")]
    return min(cores, next((int(one) for one in wanted if re.fullmatch("[1-9][0-9]{0,3}", one)), cores)) - 1


def require_memory(what: str, addresses: int, data: int) -> None:
    """Raise MachineError where this process may not have so many bytes of addresses and of data more.

    Libraries of C++ end the process without a word where they get none, so this is asked before `what` is imported.
    """
    kinds = {"v": (addresses, mmap.PROT_READ), "d": (data, mmap.PROT_READ | mmap.PROT_WRITE)}
    for letter, (size, protection) in kinds.items():
        try:
            mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, protection).close()
        except (OSError, MemoryError):
            kind = "addresses" if letter == "v" else "memory"
            raise MachineError(
                f"{what} needs {size / 1e9:.1f} GB of {kind} more, and may not have them{_limits(letter)}. "
                "Raise the limit, or end other programs."
            ) from None


def require_threads(what: str, count: int) -> None:
    """Raise MachineError where this process may not start so many threads: it starts them, for a moment."""
    enough = threading.Event()
    threads = [threading.Thread(target=enough.wait, daemon=True) for _ in range(count)]
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
    except (RuntimeError, MemoryError):
        raise MachineError(
            f"{what} needs {count} threads here, and {started} could be started{_limits('u')}. Raise the limit "
            "(`ulimit -u`, or the container's), or end other programs."
        ) from None
    finally:
        enough.set()
