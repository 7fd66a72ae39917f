"""The client of tests/support/warm_server.py: a Python program that starts is run by a fork of a server, if it may be.

sitecustomize.py calls `hand_over` in each process whose environment names the servers. From then on that process only
stands for the fork: it passes signals on, and ends as the fork ends. When it is killed, so is the fork.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

VARIABLE = "WARM_SERVERS"
"""Of the environment: the folder of the servers' sockets, and the process with which all servers end: PID:FOLDER."""
HIDDEN = str(Path(__file__).parent)
TESTS = Path(HIDDEN).parent
COUNTING = (
    "TF_", "XLA_", "KERAS_", "OMP_", "OPENBLAS_", "GOTO_", "MKL_", "ONEDNN_",
    "DNNL_", "NPY_", "GRPC_", "GLOG_", "ABSL_", "MPL", "MLFLOW_LOGGING", "MLFLOW_CONFIGURE", "MALLOC_", "LD_",
    "LANG", "LC_", "PYTHON",
)  # fmt: skip
"""How variables begin that count when packages are imported: each set of their values has a server of its own."""
NOT_COUNTING = ("KERAS_PIPELINE_", "KERAS_BACKEND", "TF_CONFIG", "PYTHONPATH", "PYTHONUNBUFFERED")
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "2", "GRPC_VERBOSITY": "ERROR", "GLOG_minloglevel": "2",
    "KERAS_HOME": os.devnull, "PYTHONSAFEPATH": "1",
}  # fmt: skip
"""As a process of the pipeline sets them, for itself and those that it starts."""
PARENT = "KERAS_PIPELINE_PARENT"
"""Of the environment of a worker: the process that started it, with which it ends."""
LOOK_SECONDS = 0.5


def hand_over() -> None:
    """Let a server run the program of this process, and end as it ends; return where it must run here."""
    environment = dict(os.environ)
    if sys.platform == "linux" and may_be_warm(words(), environment) and not _limited():
        _run_by(_connect(*environment[VARIABLE].split(":", 1), environment))


def words() -> list[str]:
    """The command line of this process, without what is the same for all."""
    first, *rest = sys.orig_argv[1:] or [""]
    return rest if first == "-P" else [first, *rest]


def may_be_warm(words: list[str], environment: dict[str, str]) -> bool:
    """Whether a program is the pipeline's command, or one of the tests, and none that can see JAX or PyTorch."""
    hidden = {"jax", "jaxlib", "torch"} <= set(environment.get("HIDDEN_PACKAGES", "").split())
    if not hidden or not words:
        return False
    if words[0] == "-m":
        return words[1:2] == ["keras_pipeline.cli.main"]
    if words[0] == "-c":
        return "keras_pipeline" in words[1]
    return not words[0].startswith("-") and (Path(words[0]).name == "keras-pipeline" or Path(words[0]).parent == TESTS)


def _limited() -> bool:
    """Whether this process has limits of its own, which a fork of the server would not have."""
    import resource

    kinds = (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU)
    return any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in kinds)


def _connect(pid: str, folder: str, environment: dict[str, str]) -> Any:
    """A connection to the server for such an environment, which is started if there is none."""
    import socket
    import zlib

    counting = QUIET | {
        name: value
        for name, value in environment.items()
        if name.startswith(COUNTING) and not name.startswith(NOT_COUNTING)
    }
    path = Path(folder) / f"{zlib.crc32(repr(sorted(counting.items())).encode()):08x}"
    if not path.exists():
        with socket.socket(socket.AF_UNIX) as listener:
            own = path.with_name(f"{path.name}-{os.getpid()}")
            listener.bind(str(own))
            listener.listen(64)
            try:
                os.link(own, path)
            except FileExistsError:  # another process was first
                pass
            else:
                _start_server(listener.fileno(), pid, folder, counting | {"PATH": environment["PATH"]})
            own.unlink()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


def _start_server(listener: int, pid: str, folder: str, counting: dict[str, str]) -> None:
    """Start it apart from this process, whose signals and streams are not its own."""
    if os.fork():
        return
    os.setsid()
    os.set_inheritable(listener, True)
    streams = [os.open(os.devnull, os.O_RDONLY), os.open(f"{folder}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)]
    for stream, number in zip((streams[0], streams[1], streams[1]), range(3), strict=True):
        os.dup2(stream, number)
    hidden = os.environ["HIDDEN_PACKAGES"]
    environment = counting | {"HOME": folder, "PYTHONPATH": HIDDEN, "HIDDEN_PACKAGES": hidden}
    os.chdir(folder)
    os.umask(0o022)
    os.execve(sys.executable, [sys.executable, str(TESTS / "warm_server.py"), str(listener), pid], environment)


def _run_by(connection: Any) -> None:
    import fcntl
    import marshal
    import signal
    import socket

    passed = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, passed)
    umask = os.umask(0)
    files = []
    for number in sorted(int(path.name) for path in Path("/proc/self/fd").iterdir()):
        try:
            if number != connection.fileno() and not fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                files.append(number)
        except OSError:  # the listing's own
            continue
    ignored = [int(number) for number in (*passed, signal.SIGQUIT) if signal.getsignal(number) == signal.SIG_IGN]
    request = marshal.dumps(
        (words(), str(Path.cwd()), dict(os.environb), umask, list(os.sched_getaffinity(0)), ignored, files)
    )
    socket.send_fds(connection, [len(request).to_bytes(8, "little")], files)
    connection.sendall(request)
    fork = int.from_bytes(connection.recv(8), "little")

    def pass_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(fork, number)

    for number in set(passed) - set(ignored):
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
    parent = os.environ.get(PARENT)
    connection.settimeout(LOOK_SECONDS if parent else None)
    answer = b""
    while fork:
        try:
            answer = connection.recv(8)
            break
        except TimeoutError:
            if str(os.getppid()) != parent:  # whoever started this worker is gone, and so it goes, with its fork
                os._exit(75)
    status = int.from_bytes(answer, "little")
    if not fork or not status & 1 << 32:  # the server is gone
        os.write(2, b"the warm server is gone: see tests/support/warm_server.py\n")
        os._exit(70)
    status &= (1 << 32) - 1
    if os.WIFSIGNALED(status):
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))
