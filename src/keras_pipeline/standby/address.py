"""Under which name the process listens that stands by for a stage: a digest of all that must be the same."""

import hashlib
import json
import os
import resource
import socket
import struct
import sys
from pathlib import Path

from keras_pipeline.core import interpreter
from keras_pipeline.distribution import launcher
from keras_pipeline.models import settings

SWITCH = "KERAS_PIPELINE_STANDBY"
"""The environment variable that is "off" where no process is to stand by."""
OF_EACH_STAGE = ("_", "SHLVL", "OLDPWD", "PWD")
"""The variables, beside DVC's own, in which stages may differ: each gets its own."""
RIGHTS = ("Umask", "SigIgn", "Cap", "NoNewPrivs", "Seccomp")
"""How the lines of /proc/self/status begin that say what a process may do."""
LIMITS = [getattr(resource, name) for name in sorted(dir(resource)) if name.startswith("RLIMIT_")]
BEGUN = b"process "
"""How the answer begins that a stage was begun, before the number of its process."""


def address() -> bytes | None:
    """The name under which the process for this stage listens, whether there is one or not; None where there can be
    none. To be asked before anything is imported or changed."""
    outside = sys.platform != "linux" or "DVC_STAGE" not in os.environ or launcher.PARENT in os.environ
    if outside or os.environ.get(SWITCH) == "off":
        return None
    environment = {name: value for name, value in first_environment().items() if not name.startswith("DVC_")}
    if settings.variables("taken away", environment):
        return None  # each stage says that they are not used
    try:
        what = {
            "user": [os.getuid(), os.getgid(), sorted(os.getgroups())],
            "environment": sorted(one for one in environment.items() if one[0] not in OF_EACH_STAGE),
            "limits": [resource.getrlimit(limit) for limit in LIMITS],
            "processor": [os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0))],
            "rights": [line for line in _lines("status") if line.startswith(RIGHTS)] + _lines("cgroup"),
            "python": [sys.prefix, sys.version, str(sys.flags), str(sys._xoptions), _command()],
            "code": code_state(),
        }
    except OSError:
        return None
    return b"\0keras-pipeline-" + hashlib.sha256(json.dumps(what).encode()).hexdigest().encode()


def _lines(name: str) -> list[str]:
    return Path("/proc/self", name).read_text(encoding="utf-8").splitlines()


def _command() -> list[str]:
    """How Python and this program were called, without the words of the command."""
    return sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]


def first_environment() -> dict[str, str]:
    """As this process got it, whatever was changed since."""
    pairs = [pair.partition(b"=") for pair in Path("/proc/self/environ").read_bytes().split(b"\0") if pair]
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def code_state() -> list[tuple[str, int, int, int]]:
    """Of each file of this package, and of each folder from which is imported, when it was changed; raises OSError."""
    package = Path(interpreter.OWN_FOLDER, "keras_pipeline")
    paths = [*sorted(package.rglob("*.py")), *(Path(folder) for folder in sys.path if Path(folder).is_dir())]
    found = [(str(path), path.stat()) for path in paths]
    return [(path, state.st_ino, state.st_size, state.st_mtime_ns) for path, state in found]


def same_user(other: socket.socket) -> bool:
    """Whether the kernel says that this user is at the other end."""
    found = other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", found)[1] == os.getuid())
