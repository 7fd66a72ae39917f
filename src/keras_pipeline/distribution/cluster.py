"""The workers of a training of several processes: who they are, by the frameworks' own environment variables; whether
all are there; and the watch they keep over each other.
"""

import contextlib
import json
import os
import queue
import re
import select
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from keras_pipeline.core.errors import BusyError, MachineError, ParamsError

VARIABLES = {
    "multi_worker": ("TF_CONFIG",),
    "data_parallel": tuple(f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")),
    "ddp": ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK"),
}
"""The strategies that have workers, each with the variables by which its framework learns of them."""
ROLL_CALL = "KERAS_PIPELINE_ROLL_CALL"


@dataclass(frozen=True)
class Cluster:
    """Who takes part: this process is worker `rank` of `count`, 0 the chief. Addresses are host:port.

    `addresses`: of all workers in order, or of the chief alone where its framework needs no more. At `roll_call` the
    chief listens for the others.
    """

    rank: int
    count: int
    addresses: tuple[str, ...]
    roll_call: str

    def name(self, rank: int, host: str) -> str:
        """A worker as every message calls it: `worker 1 of 2 (host)`."""
        return f"worker {rank} of {self.count} ({host})"


def cluster_environment(strategy: str, cluster: Cluster) -> dict[str, str]:
    """The variables that tell a process of a strategy in `VARIABLES` its rank, for `cluster_from_environment`."""
    host, port = cluster.addresses[0].rsplit(":", 1)
    task = {"cluster": {"worker": cluster.addresses}, "task": {"type": "worker", "index": cluster.rank}}
    count, rank = str(cluster.count), str(cluster.rank)
    values = {
        "multi_worker": (json.dumps(task),),
        "data_parallel": (",".join(cluster.addresses), count, rank),
        "ddp": (host, port, count, rank),
    }
    return dict(zip(VARIABLES[strategy], values[strategy], strict=True)) | {ROLL_CALL: cluster.roll_call}


def cluster_from_environment(strategy: str, environ: Mapping[str, str]) -> Cluster | None:
    """This process's place by the variables of its strategy; None where none is set, or the strategy has none.

    The roll call is at KERAS_PIPELINE_ROLL_CALL, by default at the port after the chief's. Raises ParamsError naming
    the variable that is lacking or makes no sense.
    """
    names = VARIABLES.get(strategy, ())
    given = [name for name in names if name in environ]
    if not given:
        return None
    for name in names:
        if name not in environ:
            raise _refusal(name, "nothing", f"a value, because {given[0]} is set")
    first, *others = [environ[name] for name in names]
    if strategy == "multi_worker":
        rank, addresses = _tensorflow_task(first)
        count = len(addresses)
    else:
        addresses = first.split(",") if strategy == "data_parallel" else [f"{first}:{others[0]}"]
        count, rank = _number(names[-2], others[-2], least=1), _number(names[-1], others[-1], least=0)
    if not all(map(_is_address, addresses)) or len(set(addresses)) < len(addresses):
        raise _refusal(" and ".join(names[:-2]) or names[0], ",".join(addresses), "host:port, each another one")
    if len(addresses) not in {1, count}:
        raise _refusal(names[0], f"{len(addresses)} addresses", f"{count}, as {names[1]} says, or the chief's alone")
    if rank >= count:
        raise _refusal(names[-1], f"worker {rank}", f"a number from 0 to {count - 1}, because there are {count}")
    host, port = addresses[0].rsplit(":", 1)
    meeting = environ.get(ROLL_CALL, f"{host}:{int(port) + 1}")
    if not _is_address(meeting) or meeting in addresses:
        raise _refusal(ROLL_CALL, meeting, "the chief's host and a port that no worker uses, the same for every worker")
    return Cluster(rank, count, tuple(addresses), meeting)


def _tensorflow_task(text: str) -> tuple[int, list[str]]:
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        config = json.loads(text)
        addresses, task = config["cluster"]["worker"], config["task"]
        texts = isinstance(addresses, list) and addresses and all(isinstance(address, str) for address in addresses)
        index = type(task["index"]) is int and task["index"] >= 0
        if texts and index and set(config["cluster"]) == {task["type"]} == {"worker"}:
            return task["index"], addresses
    example = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
    raise _refusal("TF_CONFIG", text, f"JSON such as {example}")


def _number(name: str, text: str, least: int) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) < least:
        raise _refusal(name, text, f"a whole number from {least}")
    return int(text)


def _is_address(text: str) -> bool:
    matched = re.fullmatch(r"(?a:(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?|\[[\w:.]+\]):([0-9]{1,5})", text)
    return matched is not None and 0 < int(matched[1]) < 65536


def split_address(address: str) -> tuple[str, int]:
    """Of "host:port" or "[host]:port"."""
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def _refusal(name: str, received: str, expected: str) -> ParamsError:
    return ParamsError(
        f"{name}: received {received[:300]!r}. Expected: {expected}. Mend it where this worker is started, or "
        "unset the variables of the cluster for a training that starts its own workers."
    )


ROLL_CALL_SECONDS = 40.0
"""How long the chief waits for all workers, and a worker for the chief."""
SILENCE_SECONDS = 25.0
"""Whoever is not heard for so long counts as dead; each speaks eight times as often."""
HELLO_SECONDS = 5.0
LINE_BYTES = 65536
MEND = "See what the workers printed, mend it, then start all of them again."


class _Link:
    """One connection, which takes and brings JSON objects; `peer` is what the other side said of itself."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.socket = connection
        self.socket.settimeout(seconds)
        self.peer: dict[str, Any] = {}
        self._lines = connection.makefile("rb")

    def send(self, **message: object) -> None:
        with contextlib.suppress(OSError):  # who is gone is noticed by whoever listens
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """The next message. Raises OSError: TimeoutError for silence, others for an end or for nonsense."""
        message = None
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(self._lines.readline(LINE_BYTES))
        if not isinstance(message, dict):
            raise ConnectionError("the connection ended, or what came makes no sense")
        return message

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


def meet_workers(cluster: Cluster, digests: Mapping[str, str]) -> "Watch":
    """Wait until all workers are there and have the same `digests`, such as `{"params": …}`; each worker calls it.

    Raises ParamsError in all of them, naming who differs from the chief and in what. Raises MachineError naming who
    did not come within `ROLL_CALL_SECONDS`; the chief that does not answer; the address where it cannot listen.
    """
    host = socket.gethostname()
    if cluster.rank:
        return Watch(cluster, [_call_chief(cluster, {"rank": cluster.rank, "host": host, "digests": dict(digests)})])
    present = _wait_for_workers(cluster)
    fault = _unlike(cluster, host, digests, present) or _absent(cluster, present)
    if not fault:
        for link in present.values():
            link.send(chief=host)
        return Watch(cluster, list(present.values()))
    for link in present.values():
        _dismiss(link, fault)
    raise fault


def _wait_for_workers(cluster: Cluster) -> dict[int, _Link]:
    present: dict[int, _Link] = {}
    arrivals: queue.Queue[_Link] = queue.Queue()
    deadline = time.monotonic() + ROLL_CALL_SECONDS
    with _listener(cluster) as listener:
        listener.settimeout(0.1)
        while len(present) < cluster.count - 1 and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # nobody called, or hung up again
                link = _Link(listener.accept()[0], HELLO_SECONDS)
                threading.Thread(target=_greet, args=(link, arrivals), daemon=True).start()
            while not arrivals.empty():
                link = arrivals.get()
                rank, name = link.peer["rank"], cluster.name(link.peer["rank"], link.peer["host"])
                if not 0 < rank < cluster.count:
                    _dismiss(link, ParamsError(f"{name}: the chief expects only 1 to {cluster.count - 1}. {MEND}"))
                    continue
                if rank in present:  # its process was started again
                    _dismiss(present[rank], ParamsError(f"{name} came again and takes the place of this one. {MEND}"))
                present[rank] = link
    return present


def _listener(cluster: Cluster) -> socket.socket:
    host, port = split_address(cluster.roll_call)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family)
    except OSError as error:
        raise MachineError(
            f"{cluster.roll_call}: the chief cannot listen for the other workers there ({error.strerror}). Expected: "
            f"an address of this machine and a free port. End what uses it, or set {ROLL_CALL} for all workers."
        ) from error


def _greet(link: _Link, arrivals: queue.Queue[_Link]) -> None:
    """Pass on a worker that says who it is; hang up on anybody else."""
    with contextlib.suppress(OSError):
        link.peer = link.receive()
        rank, host, digests = (link.peer.get(name) for name in ("rank", "host", "digests"))
        if type(rank) is int and isinstance(host, str) and host.isprintable() and isinstance(digests, dict):
            arrivals.put(link)
            return
    link.close()


def _dismiss(link: _Link, fault: ParamsError | MachineError) -> None:
    link.send(exit=fault.exit_code, text=str(fault))
    link.close()


def _call_chief(cluster: Cluster, hello: Mapping[str, object]) -> _Link:
    deadline = time.monotonic() + ROLL_CALL_SECONDS
    reason = ""
    while time.monotonic() < deadline:
        verdict: dict[str, Any] = {}
        link = None
        try:
            connection = socket.create_connection(split_address(cluster.roll_call), timeout=HELLO_SECONDS)
            link = _Link(connection, ROLL_CALL_SECONDS + HELLO_SECONDS)  # the chief may have come later
            link.send(**hello)
            verdict = link.receive()
            reason = "something else answers"  # TCP can connect a port to itself where nobody listens yet
        except OSError as error:
            reason = getattr(error, "strerror", None) or str(error)
        if link and "chief" in verdict:
            link.peer = {"rank": 0, "host": verdict["chief"]}
            return link
        if link:
            link.close()
        if "text" in verdict:
            raise (ParamsError if verdict.get("exit") == ParamsError.exit_code else MachineError)(verdict["text"])
        time.sleep(0.2)
    raise MachineError(
        f"{cluster.roll_call}: the chief did not answer there within {ROLL_CALL_SECONDS:g} s ({reason}). "
        f"Expected: worker 0, started in that time and listening there. {MEND}"
    )


def _unlike(
    cluster: Cluster, host: str, digests: Mapping[str, str], present: Mapping[int, _Link]
) -> ParamsError | None:
    faults = ""
    for rank, link in sorted(present.items()):
        theirs = link.peer["digests"]
        names = [name for name in digests if theirs.get(name) != digests[name]]
        if names:
            pairs = [f"{name} ({str(theirs.get(name))[:12]!r}, not {digests[name][:12]!r})" for name in names]
            faults += f"{cluster.name(rank, link.peer['host'])} differs from the chief ({host}) in {', '.join(pairs)}. "
    return ParamsError(f"{faults}Expected: the same params, data and code everywhere. {MEND}") if faults else None


def _absent(cluster: Cluster, present: Mapping[int, _Link]) -> MachineError | None:
    known = cluster.addresses if len(cluster.addresses) == cluster.count else ("host unknown",) * cluster.count
    names = [cluster.name(rank, known[rank]) for rank in range(1, cluster.count) if rank not in present]
    if not names:
        return None
    return MachineError(
        f"{', '.join(names)} did not come to the roll call at {cluster.roll_call} within {ROLL_CALL_SECONDS:g} s. "
        f"Expected: all workers, started in that time and able to reach this address. {MEND}"
    )


class Watch:
    """The watch of a worker over the others, from the roll call until `leave()`.

    When one of them dies or falls silent, it prints which to standard error and ends this process with code 75, at
    once and without any cleaning up: the main thread may wait for the dead one in a call that no signal ends.
    """

    def __init__(self, cluster: Cluster, links: Sequence[_Link]) -> None:
        self._cluster = cluster
        self._links = links
        self._left = threading.Event()
        self._ending = threading.Lock()
        self._standard_error = os.dup(2)  # what TensorFlow writes to 2 while it starts is withheld
        threading.Thread(target=self._speak, daemon=True).start()
        for link in links:
            threading.Thread(target=self._listen, args=(link,), daemon=True).start()

    def leave(self) -> None:
        """This worker is done: its end, from here on, is no death, and it no longer minds that of others."""
        self._left.set()
        for link in self._links:
            link.send(left=True)

    def _speak(self) -> None:
        while not self._left.wait(SILENCE_SECONDS / 8):
            for link in self._links:
                link.send(alive=True)

    def _listen(self, link: _Link) -> None:
        link.socket.settimeout(SILENCE_SECONDS)
        try:
            message = link.receive()
            while "left" not in message:
                if "died" in message:
                    self._end(str(message["died"]))
                message = link.receive()
        except OSError as error:
            name = self._cluster.name(link.peer["rank"], link.peer["host"])
            silent = f"it was silent for {SILENCE_SECONDS:g} s"
            self._end(f"{name} died: {silent if isinstance(error, TimeoutError) else 'its connection ended'}")

    def _end(self, text: str) -> None:
        if self._left.is_set():
            return
        self._ending.acquire()  # for good: all name the one that was missed first
        for link in self._links:
            link.send(died=text)
        end_process(f"{text}; this worker ends too, run the same command again", self._standard_error)


def end_process(text: str, descriptor: int) -> NoReturn:
    """End this process at once with code 75, whatever its main thread waits for; the text goes to the descriptor."""
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [descriptor], [], 1)[1]:  # a full pipe that nobody reads must not hold it up
            os.write(descriptor, f"{text}\n".encode())
    os._exit(BusyError.exit_code)
