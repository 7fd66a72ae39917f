"""keras-pipeline in forks of this process: its outputs are real descriptors, and it starts in a moment."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from keras_pipeline.cli import main
from keras_pipeline.stages import evaluate, fetch, normalize, track, train  # noqa: F401  # by this process, once
from places import SHIPPED


class Ended(NamedTuple):
    """How it ended: its exit code, 120 where Python itself could not flush an output, and what it wrote."""

    code: int
    out: str
    err: str


def in_folder(folder: Path) -> Callable[..., Ended]:
    """What runs commands there, with the shipped params.yaml and no mirror that answers.

    `out`, `err`: "left" for a pipe that nobody reads, "full" for a full disk; `closed_0` and so on: that descriptor is;
    `encoding`: of both outputs.
    """
    shutil.copy(SHIPPED, folder / "params.yaml")

    def run(
        command: str,
        out: str = "",
        err: str = "",
        *,
        closed_0: bool = False,
        closed_1: bool = False,
        closed_2: bool = False,
        encoding: str = "utf-8",
    ) -> Ended:
        with tempfile.TemporaryDirectory() as place:
            targets = {1: _target(out, Path(place, "out")), 2: _target(err, Path(place, "err"))}
            closed = [number for number, wanted in enumerate((closed_0, closed_1, closed_2)) if wanted]

            def begin() -> int:
                os.chdir(folder)
                os.environ["KERAS_PIPELINE_MIRRORS"] = "/nowhere"
                for number, descriptor in targets.items():
                    os.dup2(descriptor, number)
                for number in closed:
                    os.close(number)
                streams = [_stream(number, encoding) for number in (1, 2)]
                sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]
                try:
                    code = main.main(command.split())
                except SystemExit as end:
                    code = int(end.code or 0)
                for stream in streams:
                    try:
                        if stream:
                            stream.flush()
                    except OSError:
                        code = 120
                return code

            code = run_forked(begin)
            for descriptor in targets.values():
                os.close(descriptor)
            written = [path.read_text(encoding=encoding) if path.exists() else "" for path in _paths(place)]
            return Ended(code, *written)

    return run


def run_forked(function: Callable[[], int | None]) -> int:
    """The exit code of a fork of this process that does this and nothing else; 111 where it raises."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)
    code = 111
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        threading.excepthook = threading.__excepthook__
        code = function() or 0
    except BaseException:
        with contextlib.suppress(OSError):
            os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _paths(place: str) -> tuple[Path, Path]:
    return Path(place, "out"), Path(place, "err")


def _target(kind: str, path: Path) -> int:
    if kind == "left":
        reading, writing = os.pipe()
        os.close(reading)
        return writing
    return os.open("/dev/full" if kind == "full" else path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)


def _stream(number: int, encoding: str) -> "object | None":
    try:
        return open(number, "w", buffering=1 if number == 2 else -1, encoding=encoding, closefd=False)
    except OSError:
        return None
