"""The processes of a training of several: their launcher on this machine, and what each does when it is gone."""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from keras_pipeline.core.errors import BusyError
from keras_pipeline.core.process import UTF8_OUTPUT
from keras_pipeline.distribution.cluster import LINE_BYTES, Cluster, cluster_environment, end_process

MOMENT_SECONDS = 10.0
"""For so long the workers may end by themselves once one of them has failed."""
STOP_SECONDS = 5.0
RUN_AGAIN = BusyError.exit_code
MEANT_EXITS = {2, 3, 4, 5, 6, 7, 70, RUN_AGAIN}
PARENT = "KERAS_PIPELINE_PARENT"


def end_with_parent(parent: int) -> None:
    """From here on this process ends with code 75 within a second of the end of process `parent`, its parent."""
    standard_error = os.dup(2)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        end_process(f"the process {parent} that started this worker is gone; it ends too", standard_error)

    threading.Thread(target=watch, daemon=True).start()


def launch_workers(command: Sequence[str], count: int, strategy: str, environ: Mapping[str, str]) -> int:
    """Run `command` as `count` workers on this machine until all have ended; the exit code of the whole.

    The chief writes to this process's output, the others' lines are printed behind `[worker 1] `. Returns 0 when all
    end with 0. When one does not, the others are stopped, and its code is returned, or 75 where that code says nothing
    to a user, as after a signal. On KeyboardInterrupt the signal is passed on and the exception raised again. No
    worker outlives this call; each calls `end_with_parent` with KERAS_PIPELINE_PARENT, so none outlives this process.
    """
    *addresses, meeting = _free_addresses(count + 1)
    known = tuple(addresses[:1] if strategy == "ddp" else addresses)
    processes: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    print(end="", flush=True)
    try:
        for rank in range(count):
            place = cluster_environment(strategy, Cluster(rank, count, known, meeting))
            processes.append(_start(command, rank, {**environ, **place}))
            for pipe, stream in ((processes[rank].stdout, sys.stdout), (processes[rank].stderr, sys.stderr)):
                if pipe:
                    readers.append(threading.Thread(target=_forward, args=(pipe, rank, stream), daemon=True))
                    readers[-1].start()
        cause = _wait(processes)
        if cause:
            _stop(processes, signal.SIGTERM)
    except KeyboardInterrupt as interruption:
        _stop(processes, getattr(interruption, "number", signal.SIGINT))
        raise
    finally:
        _stop(processes, signal.SIGKILL)
        for reader in readers:
            reader.join(STOP_SECONDS)
    if not cause:
        return 0
    rank, code = cause
    name = f" ({signal.Signals(-code).name})" if -code in set(signal.Signals) else ""
    print(f"worker {rank} of {count} ended with code {code}{name}; all workers are stopped", file=sys.stderr)
    return code if code in MEANT_EXITS else RUN_AGAIN


def _start(command: Sequence[str], rank: int, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    output = subprocess.PIPE if rank else None
    # Unbuffered, Python writes a line and its end apart: between the two of the chief another's line could come.
    own = {PARENT: str(os.getpid()), "LOCAL_RANK": str(rank), "PYTHONUNBUFFERED": "1" if rank else ""}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**environ, **own, **(UTF8_OUTPUT if rank else {})},
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that its children can be stopped with it
    )


def _free_addresses(count: int) -> list[str]:
    with contextlib.ExitStack() as open_together:
        listeners = [open_together.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]


def _forward(pipe: IO[str], rank: int, stream: IO[str]) -> None:
    with pipe:
        for line in iter(lambda: pipe.readline(LINE_BYTES), ""):
            with contextlib.suppress(OSError):  # nobody reads us; the worker must not stand still for that
                print(f"[worker {rank}] {line.rstrip()}\n", end="", file=stream, flush=True)


def _wait(processes: Sequence[subprocess.Popen[str]]) -> tuple[int, int] | None:
    """The rank and code of the worker whose end ended all, None for a good end; others may run on for a moment."""
    codes: dict[int, int] = {}
    deadline = math.inf
    while len(codes) < len(processes) and time.monotonic() < deadline:
        for rank, process in enumerate(processes):
            if rank not in codes and _ended(process):
                codes[rank] = process.returncode
                if codes[rank]:
                    deadline = min(deadline, time.monotonic() + MOMENT_SECONDS)
        time.sleep(0.05)
    failed = [(rank, code) for rank, code in codes.items() if code]
    # 75 is what the others end with because of it, and one look may find several ended.
    return next((end for end in failed if end[1] != RUN_AGAIN), failed[0] if failed else None)


def _stop(processes: Sequence[subprocess.Popen[str]], number: int) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        if not _ended(process):
            _signal_group(process, number)
    while not all(_ended(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)


def _ended(process: subprocess.Popen[str]) -> bool:
    """Whether a worker has ended. What it started ends with it, now: later the number may be a stranger's."""
    if process.returncode is None and process.poll() is not None:
        _signal_group(process, signal.SIGKILL)
    return process.returncode is not None


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
