"""Who takes part in a training of several processes, as the frameworks' own environment variables say it."""

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from keras_pipeline.errors import ParamsError

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


def environment(strategy: str, cluster: Cluster) -> dict[str, str]:
    """The variables that tell a process of a strategy in `VARIABLES` its place; `from_environment` reads them."""
    host, port = cluster.addresses[0].rsplit(":", 1)
    task = {"cluster": {"worker": cluster.addresses}, "task": {"type": "worker", "index": cluster.rank}}
    count, rank = str(cluster.count), str(cluster.rank)
    values = {
        "multi_worker": (json.dumps(task),),
        "data_parallel": (",".join(cluster.addresses), count, rank),
        "ddp": (host, port, count, rank),
    }
    return dict(zip(VARIABLES[strategy], values[strategy], strict=True)) | {ROLL_CALL: cluster.roll_call}


def from_environment(strategy: str, environ: Mapping[str, str]) -> Cluster | None:
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


def host_and_port(address: str) -> tuple[str, int]:
    """Of "host:port" or "[host]:port"."""
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def _refusal(name: str, received: str, expected: str) -> ParamsError:
    return ParamsError(
        f"{name}: received {received[:300]!r}. Expected: {expected}. Mend it where this worker is started, or "
        "unset the variables of the cluster for a training that starts its own workers."
    )
