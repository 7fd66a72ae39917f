"""The process that stands by, and its forks that do stages in the place of those that ask."""

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NoReturn

from keras_pipeline.core import interpreter, process, temporary
from keras_pipeline.core.errors import PipelineError
from keras_pipeline.standby.address import BEGUN, SWITCH, code_state, same_user

IDLE_SECONDS = 120.0
"""For how long it waits for the next stage, when the last one has ended."""
LOOK_SECONDS = 5.0
"""How often it looks whether the code is still the one that it has loaded."""


def leave(name: bytes | None) -> None:
    """Fork the process that listens under this `address`, if nobody does; whatever fails, there is none.

    Keras must be imported, and TensorFlow must not have looked for devices.
    """
    if name is None or not (sys.__stdout__ and sys.__stderr__):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        code = code_state()
        listener.bind(name)
        listener.listen()
        begun_by = os.pidfd_open(os.getpid())
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            if not os.fork():
                _stand_by(listener, begun_by, code)
        finally:
            os.close(begun_by)


def _stand_by(listener: socket.socket, begun_by: int, code: list[tuple[str, int, int, int]]) -> NoReturn:
    """Be the fork, and never come back to what its parent was doing."""
    try:
        _close_all_but(listener.fileno(), begun_by)
        _forget_parent()
        Path("/proc/self/comm").write_text("keras-standby", encoding="utf-8")
        with temporary.own_folder():
            import keras_pipeline.runs.forkserver  # noqa: F401 - in a session of its own it imports what stages need

            gc.freeze()
            _listen(listener, begun_by, code)
    finally:
        os._exit(0)


def _close_all_but(*kept: int) -> None:
    """Let go of all files, and so of their locks; read and write nothing."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
    for _ in range(3):
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _forget_parent() -> None:
    """Have nothing of it left: its answers to requests to end, its outputs, its folder for temporary files, its time,
    its current folder."""
    for request in process.REQUESTS:
        if signal.getsignal(request) is not signal.SIG_IGN:
            signal.signal(request, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    sys.unraisablehook, threading.excepthook = sys.__unraisablehook__, threading.__excepthook__
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    tempfile.tempdir = None
    process.forget_time()
    os.chdir("/")


def _listen(listener: socket.socket, begun_by: int, code: list[tuple[str, int, int, int]]) -> None:
    """Serve, until nobody asked for IDLE_SECONDS or the code is another one."""
    at_work: dict[int, int | None] = {begun_by: None}  # by its descriptor each process and its number, if it is a child
    quiet_since = time.monotonic()
    while at_work or time.monotonic() - quiet_since < IDLE_SECONDS:
        found = select.select([listener.fileno(), *at_work], [], [], LOOK_SECONDS)[0]
        with contextlib.suppress(OSError):
            if listener.fileno() in found:
                asking = listener.accept()[0]
                with asking:
                    if same_user(asking) and (worker := _fork_for(asking)):
                        at_work[os.pidfd_open(worker)] = worker
        for descriptor in [one for one in at_work if one in found]:
            if number := at_work.pop(descriptor):
                os.waitpid(number, 0)
            os.close(descriptor)
            quiet_since = time.monotonic()
        if not found and code_state() != code:
            return


def _fork_for(asking: socket.socket) -> int:
    worker = os.fork()
    if not worker:
        _work(asking)
    return worker


def _work(asking: socket.socket) -> NoReturn:
    """Be the stage for whoever asks: everything is as in a new process, but for the imports."""
    code = 70
    try:
        _close_all_but(asking.fileno())
        text, descriptors, _, _ = socket.recv_fds(asking, 2**17, 3)
        for descriptor, own in zip(descriptors, range(3), strict=True):
            os.dup2(descriptor, own)
            os.close(descriptor)
        _open_outputs()
        asked = json.loads(text)
        sys.argv[1:] = asked["arguments"]
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.environ[SWITCH] = "off"  # it asks nobody, and leaves none
        tempfile.tempdir = None
        interpreter.settle()
        if asked["training"] and not _is_plain(Path(asked["training"])):
            os._exit(code)  # whoever asks does it
        asking.send(BEGUN + b"%d" % os.getpid())
        threading.Thread(target=_end_with, args=(asking,), daemon=True).start()
        sys.modules.pop("keras_pipeline.cli.main", None)
        runpy.run_module("keras_pipeline.cli.main", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        with contextlib.suppress(OSError):
            asking.send(b"%d" % code)
        os._exit(code)


def _open_outputs() -> None:
    """Have Python's streams for what the descriptors 1 and 2 are now, as at its start: a pipe is no file."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        stream = os.fdopen(descriptor, "w", encoding=before.encoding, errors=before.errors, closefd=False)
        lines = descriptor == 2 or stream.isatty() or before.write_through  # python -u
        stream.reconfigure(line_buffering=lines, write_through=before.write_through)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _is_plain(params: Path) -> bool:
    """Whether these params, if they are good ones, ask for a training with what this process has imported."""
    from keras_pipeline.checks.params import load_params
    from keras_pipeline.distribution.strategies import is_plain

    with contextlib.suppress(PipelineError, OSError):
        return is_plain(load_params(params).train, os.environ)
    return False


def _end_with(asking: socket.socket) -> None:
    """End this process at once when the one that asked is gone: it was killed."""
    with contextlib.suppress(OSError):
        asking.recv(1)
    os._exit(128 + signal.SIGKILL)
