"""A process that stands by for the next stages, with all that they import imported.

Half the time of a short `dvc exp run` is importing the same libraries again in each stage. So `train` leaves a fork of
itself, taken before TensorFlow looks for devices or starts a thread. It listens under a name that is a digest of all
that could make a difference: the user, the environment, the limits, Python, what is installed, and the code. Who comes
with another one of these finds nobody, and imports for itself. Each stage that DVC runs is done by a fork of it, in the
place of the one that asks: in its folder, with its outputs, its requests to end, and its exit code.

It ends when nobody asked for IDLE_SECONDS, or when the code has changed. KERAS_PIPELINE_STANDBY=off: there is none.
"""

import contextlib
import gc
import hashlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from keras_pipeline.cli import under_dvc
from keras_pipeline.core import interpreter, process, temporary
from keras_pipeline.core.errors import PipelineError
from keras_pipeline.distribution import launcher
from keras_pipeline.models import settings

SWITCH = "KERAS_PIPELINE_STANDBY"
STAGES = ("fetch", "normalize", "train", "evaluate", "track")
IDLE_SECONDS = 120.0
"""For how long it waits for the next stage, when the last one has ended."""
LOOK_SECONDS = 5.0
"""How often it looks whether the code is still the one that it has loaded."""
ANSWER_SECONDS = 20.0
"""For how long a stage waits for an answer: it may be importing yet, which the stage would do as slowly."""
OF_EACH_STAGE = ("_", "SHLVL", "OLDPWD", "PWD")
"""The variables, beside DVC's own, in which stages may differ: each gets its own."""
RIGHTS = ("Umask", "SigIgn", "Cap", "NoNewPrivs", "Seccomp")
_LIMITS = [getattr(resource, name) for name in sorted(dir(resource)) if name.startswith("RLIMIT_")]
_BEGUN = b"process "
_serving = False
"""Whether this process is a fork that does a stage."""


def address() -> bytes | None:
    """The name under which the process for this stage listens, whether there is one or not; None where there can be
    none. To be asked before anything is imported or changed."""
    outside = sys.platform != "linux" or "DVC_STAGE" not in os.environ or launcher.PARENT in os.environ
    if outside or os.environ.get(SWITCH) == "off" or _serving:
        return None
    environment = {name: value for name, value in _first_environment().items() if not name.startswith("DVC_")}
    if settings.variables("taken away", environment):
        return None  # each stage says that they are not used
    try:
        what = {
            "user": [os.getuid(), os.getgid(), sorted(os.getgroups())],
            "environment": sorted(one for one in environment.items() if one[0] not in OF_EACH_STAGE),
            "limits": [resource.getrlimit(limit) for limit in _LIMITS],
            "processor": [os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0))],
            "rights": [line for line in _lines("status") if line.startswith(RIGHTS)] + _lines("cgroup"),
            "python": [sys.prefix, sys.version, str(sys.flags), str(sys._xoptions), _command()],
            "code": _code(),
        }
    except OSError:
        return None
    return b"\0keras-pipeline-" + hashlib.sha256(json.dumps(what).encode()).hexdigest().encode()


def _lines(name: str) -> list[str]:
    return Path("/proc/self", name).read_text(encoding="utf-8").splitlines()


def _command() -> list[str]:
    """How Python and this program were called, without the words of the command."""
    return sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]


def _first_environment() -> dict[str, str]:
    """As this process got it, whatever was changed since."""
    pairs = [pair.partition(b"=") for pair in Path("/proc/self/environ").read_bytes().split(b"\0") if pair]
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _code() -> list[tuple[str, int, int, int]]:
    """Of each file of this package, and of each folder from which is imported, when it was changed; raises OSError."""
    package = Path(interpreter.OWN_FOLDER, "keras_pipeline")
    paths = [*sorted(package.rglob("*.py")), *(Path(folder) for folder in sys.path if Path(folder).is_dir())]
    found = [(str(path), path.stat()) for path in paths]
    return [(path, state.st_ino, state.st_size, state.st_mtime_ns) for path, state in found]


def leave(name: bytes | None) -> None:
    """Fork the process that listens under this `address`, if nobody does; whatever fails, there is none.

    Keras must be imported, and TensorFlow must not have looked for devices.
    """
    if name is None or not (sys.__stdout__ and sys.__stderr__):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        code = _code()
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
                    if _same_user(asking) and (worker := _fork_for(asking)):
                        at_work[os.pidfd_open(worker)] = worker
        for descriptor in [one for one in at_work if one in found]:
            if number := at_work.pop(descriptor):
                os.waitpid(number, 0)
            os.close(descriptor)
            quiet_since = time.monotonic()
        if not found and _code() != code:
            return


def _same_user(other: socket.socket) -> bool:
    """Whether the kernel says that this user is at the other end."""
    found = other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", found)[1] == os.getuid())


def _fork_for(asking: socket.socket) -> int:
    worker = os.fork()
    if not worker:
        _work(asking)
    return worker


def _work(asking: socket.socket) -> NoReturn:
    """Be the stage for whoever asks: everything is as in a new process, but for the imports."""
    global _serving
    _serving, code = True, 70
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
        tempfile.tempdir = None
        interpreter.settle()
        if asked["training"] and not _is_plain(Path(asked["training"])):
            os._exit(code)  # whoever asks does it
        asking.send(_BEGUN + b"%d" % os.getpid())
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


def ask(stage: str, training: Path | None = None) -> int | None:
    """Let the process that stands by do this stage, with the words of this command; its exit code. None where none
    stands by for it. `training`: the params, where the stage trains by them."""
    if stage not in STAGES or (name := address()) is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.settimeout(ANSWER_SECONDS)
        try:
            other.connect(name)
            if not _same_user(other):
                return None
            request = {
                "arguments": sys.argv[1:],
                "training": training and str(training),
                "folder": str(Path.cwd()),
                "environment": _first_environment(),
            }
            socket.send_fds(other, [json.dumps(request).encode()], [0, 1, 2])
            answer = other.recv(32)
            if not answer.startswith(_BEGUN):
                return None
            worker = os.pidfd_open(int(answer.removeprefix(_BEGUN)))
        except OSError:
            return None  # and what was begun there ends, since nobody listens
        other.settimeout(None)
        with _passing_on(worker), contextlib.suppress(OSError):
            if code := other.recv(16):
                return int(code)
    print(f"{stage}: its process was killed, as where memory lacks. Run it again.", file=sys.stderr)
    return 128 + signal.SIGKILL


@contextlib.contextmanager
def _passing_on(worker: int) -> Iterator[None]:
    """Within, what asks this process to end, to stop or to go on, asks the worker; and so does the end of DVC."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(worker, signal.SIGSTOP if number == signal.SIGTSTP else number)
        if number == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)

    passed = (*process.REQUESTS, signal.SIGTSTP, signal.SIGCONT)
    before = {one: signal.signal(one, pass_on) for one in passed if signal.getsignal(one) != signal.SIG_IGN}
    threading.Thread(target=under_dvc.end_with_dvc, daemon=True).start()
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
