"""A stage that is done by the process that stands by: what it asks, and what it passes on."""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from keras_pipeline.core import process
from keras_pipeline.standby import under_dvc
from keras_pipeline.standby.address import BEGUN, address, first_environment, same_user

STAGES = ("scan", "fetch", "normalize", "train", "evaluate", "export", "track")
ANSWER_SECONDS = 20.0
"""For how long a stage waits for an answer: it may be importing yet, which the stage would do as slowly."""


def ask(stage: str, training: Path | None = None) -> int | None:
    """Let the process that stands by do this stage, with the words of this command; its exit code. None where none
    stands by for it. `training`: the params, where the stage trains by them."""
    if stage not in STAGES or (name := address()) is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.settimeout(ANSWER_SECONDS)
        try:
            other.connect(name)
            if not same_user(other):
                return None
            request = {
                "arguments": sys.argv[1:],
                "training": training and str(training),
                "folder": str(Path.cwd()),
                "environment": first_environment(),
            }
            socket.send_fds(other, [json.dumps(request).encode()], [0, 1, 2])
            answer = other.recv(32)
            if not answer.startswith(BEGUN):
                return None
            worker = os.pidfd_open(int(answer.removeprefix(BEGUN)))
        except OSError:
            return None  # and what was begun there ends, since nobody listens
        other.settimeout(None)
        with _passing_on(worker) as woken, contextlib.suppress(OSError):
            while other not in select.select([other, woken], [], [])[0]:
                woken.recv(4096)
            if code := other.recv(16):
                return int(code)
    print(f"{stage}: its process was killed, as where memory lacks. Run it again.", file=sys.stderr)
    return 128 + signal.SIGKILL


@contextlib.contextmanager
def _passing_on(worker: int) -> Iterator[socket.socket]:
    """Within, what asks this process to end, to stop or to go on, asks the worker; and so does the end of DVC.

    Gives what has to be waited for too: Python passes a signal on only when its main thread is awake, and the kernel
    may give it to another thread.
    """

    def pass_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(worker, signal.SIGSTOP if number == signal.SIGTSTP else number)
        if number == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)

    passed = (*process.REQUESTS, signal.SIGTSTP, signal.SIGCONT)
    woken, waking = socket.socketpair()
    waking.setblocking(False)
    woke = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    before = {one: signal.signal(one, pass_on) for one in passed if signal.getsignal(one) != signal.SIG_IGN}
    threading.Thread(target=under_dvc.end_with_dvc, daemon=True).start()
    try:
        yield woken
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        signal.set_wakeup_fd(woke)
        woken.close()
        waking.close()
