"""A process that has imported TensorFlow, Keras and MLflow, and forks one for each program that hidden/warm.py sends.

Started by the first such program; ends with the tests. A fork is as a process that was just started, but for its
parent, its session and the modules that are there already: those of this project are not among them. Standard error of
the server itself is in the file `log` beside its socket.

    python warm_server.py LISTENER PID
"""

import atexit
import gc
import importlib
import io
import marshal
import os
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import types
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

OWN = 200
"""The first number of the server's own descriptors: those of a program are below."""
PACKAGE = "keras_pipeline"
PARENT = "KERAS_PIPELINE_PARENT"
QUIT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Program(NamedTuple):
    """What a client sends: a Python's command line, what its process is like, and the numbers of its open files."""

    words: list[str]
    folder: str
    environment: dict[bytes, bytes]
    umask: int
    cores: list[int]
    ignored: list[int]
    files: list[int]


def load() -> None:
    """Import what a run of the pipeline imports, and forget the modules of this project: each fork has its own."""
    with suppress(ImportError):
        importlib.import_module(f"{PACKAGE}.runs.forkserver")
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    gc.freeze()


def serve(listener: socket.socket, owner: int) -> Program:
    """Fork for each client until the owner (a descriptor of its process) has ended. Returns in the forks."""
    events = selectors.DefaultSelector()
    events.register(listener, selectors.EVENT_READ)
    events.register(owner, selectors.EVENT_READ)
    clients: dict[int, socket.socket] = {}
    forks: dict[int, int] = {}
    while True:
        for key, _ in events.select():
            if key.fileobj is listener:
                client = own(listener.accept()[0])
                with suppress(OSError, EOFError):  # who called is gone
                    program, files = receive(client)
                    fork = os.fork()
                    if not fork:
                        mine = [listener.detach(), owner, client.detach(), *clients]
                        close(*mine, *(one.detach() for one in clients.values()))
                        events.close()
                        take(files, program.files)
                        return program
                    close(*files)
                    ended = high(os.pidfd_open(fork))
                    clients[ended], forks[ended] = client, fork
                    events.register(ended, selectors.EVENT_READ)
                    events.register(client, selectors.EVENT_READ, ended)
                    with suppress(OSError):
                        client.sendall(fork.to_bytes(8, "little"))
            elif key.fileobj == owner:
                for fork in forks.values():
                    end(fork)
                os._exit(0)
            elif key.data in forks:  # a client has ended before its fork
                events.unregister(key.fileobj)
                end(forks[key.data])
            elif key.fileobj in forks:
                _, status = os.waitpid(forks.pop(key.fileobj), 0)
                client = clients.pop(key.fileobj)
                with suppress(OSError):
                    client.sendall((status | 1 << 32).to_bytes(8, "little"))
                with suppress(KeyError):  # it ended before
                    events.unregister(client)
                events.unregister(key.fileobj)
                close(key.fileobj)
                client.close()


def receive(client: socket.socket) -> tuple[Program, list[int]]:
    """The program of a client, and its open files under numbers of the server's own."""
    size, files, _, _ = socket.recv_fds(client, 8, 250)
    length, content = int.from_bytes(size, "little"), b""
    while len(content) < length:
        content += client.recv(length - len(content)) or _gone()
    return Program(*marshal.loads(content)), [high(file) for file in files]


def _gone() -> bytes:
    raise EOFError


def end(fork: int) -> None:
    """Kill a fork and the processes of its group."""
    os.kill(fork, signal.SIGKILL)  # it is not yet waited for, so its number is its own
    with suppress(ProcessLookupError):  # it had no group yet
        os.killpg(fork, signal.SIGKILL)


def high(file: int) -> int:
    """The same open file under a number of the server's own."""
    import fcntl

    moved = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, OWN)
    os.close(file)
    return moved


def own(connection: socket.socket) -> socket.socket:
    return socket.socket(fileno=high(connection.detach()))


def close(*files: int) -> None:
    for file in files:
        os.close(file)


def take(files: list[int], numbers: list[int]) -> None:
    """Open files get the numbers that they have in the client; of 0, 1 and 2, what the client lacks is closed."""
    for file, number in zip(files, numbers, strict=True):
        os.dup2(file, number)
    close(*files, *({0, 1, 2} - set(numbers)))


def become(program: Program) -> None:
    """Be as a process that was just started for a program."""
    os.setsid()
    for number in QUIT:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in program.ignored else default)
    os.umask(program.umask)
    os.sched_setaffinity(0, program.cores)
    os.chdir(program.folder)
    os.environb.clear()
    os.environb.update(program.environment)
    if PARENT in os.environ:  # the client looks at the one that is meant
        os.environ[PARENT] = str(os.getppid())
    time.tzset()
    tempfile.tempdir = None
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    for name, number in (("stdout", 1), ("stderr", 2)):
        with suppress(OSError):  # it may be closed
            setattr(sys, name, opened(number, getattr(sys, name)))
    importlib.invalidate_caches()


def opened(number: int, before: Any) -> io.TextIOWrapper:
    """What is written to this number, as Python opens it: the one before knew another file there."""
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(number, "w", closefd=False)),
        before.encoding,
        before.errors,
        line_buffering=number == 2 or os.isatty(number),
        write_through=bool(os.environ.get("PYTHONUNBUFFERED")),
    )


def run(program: Program, path: list[str]) -> None:
    """Run it as `python WORDS` does; `path`: where a Python without PYTHONPATH looks for modules."""
    kind, *rest = program.words
    folders = [os.path.abspath(one) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]  # noqa: PTH100
    first = {"-m": program.folder, "-c": ""}.get(kind, os.path.dirname(os.path.realpath(kind)))  # noqa: PTH120
    sys.path[:] = [first, *dict.fromkeys([*folders, *path])]
    if kind == "-m":
        sys.argv[:] = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    sys.argv[:] = ["-c", *rest[1:]] if kind == "-c" else program.words
    main: Any = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    if kind == "-c":
        code = compile(rest[0], "<string>", "exec")
    else:
        main.__file__ = kind
        with open(kind, "rb") as file:  # noqa: PTH123
            code = compile(file.read(), kind, "exec")
    exec(code, main.__dict__)


def finish(code: object) -> NoReturn:
    """End as Python does, but leave the modules as they are: to take them down costs a quarter of a second."""
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    code = code or 0
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = 120  # as Python
    os._exit(code & 255)


if __name__ == "__main__":
    listening = own(socket.socket(fileno=int(sys.argv[1])))
    watched = high(os.pidfd_open(int(sys.argv[2])))
    elsewhere = {os.path.dirname(__file__), *os.environ["PYTHONPATH"].split(os.pathsep)}  # noqa: PTH120
    library = [one for one in sys.path if one not in elsewhere]
    load()
    asked = serve(listening, watched)
    become(asked)
    try:
        run(asked, library)
    except SystemExit as stop:
        finish(stop.code)
    except KeyboardInterrupt:
        raise
    except BaseException:
        traceback.print_exc()
        finish(1)
    finish(0)
