"""A program whose output is a terminal, as wide as one likes."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import suppress


def run_on_terminal(code: str, columns: int = 80, **environment: str) -> str:
    """What the terminal of a Python program was given until its end, which has to be a good one."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdin=follower, stdout=follower, stderr=follower,
        env={**known, "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(follower)
    content = b""
    with suppress(OSError):  # which is how Linux tells the end
        while part := os.read(leader, 65_536):
            content += part
    os.close(leader)
    assert program.wait() == 0, content
    return content.decode("utf-8", "replace")
