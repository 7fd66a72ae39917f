"""The command line with limits and mounts of its own: python under_limits.py JSON, and the command's arguments.

The JSON is {"limit": {NAME: number}, "mount": SHELL}. It is a program so that it can be forked from a process that has
imported the frameworks: what is limited and mounted is so for the fork alone.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from keras_pipeline.cli import main

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000


def unshare() -> None:
    """Let this process see mounts of its own, as the root of a namespace of users."""
    user, group = os.getuid(), os.getgid()
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(NEW_USER | NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "no namespace of its own")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path(f"/proc/self/{name}").write_text(text)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    if asked["mount"]:
        unshare()
        subprocess.run(["sh", "-ec", asked["mount"]], check=True)
        os.chdir(Path.cwd())  # into what may have been mounted there
    for name, number in asked["limit"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (number, number))
    sys.exit(main.main(sys.argv[2:]))
