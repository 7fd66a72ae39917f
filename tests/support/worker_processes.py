"""Workers and launchers as real processes."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from keras_pipeline.distribution.cluster import Cluster, cluster_environment

LIMIT = 60
NAMES = {
    "multi_worker": ["TF_CONFIG"],
    "data_parallel": [
        "KERAS_DISTRIBUTION_JOB_ADDRESSES",
        "KERAS_DISTRIBUTION_NUM_PROCESSES",
        "KERAS_DISTRIBUTION_PROCESS_ID",
    ],
    "ddp": ["MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK"],
}
WORKER = """\
import json, os, signal, subprocess, sys, time
from keras_pipeline.core import errors; from keras_pipeline.distribution import cluster, launcher

if "KERAS_PIPELINE_PARENT" in os.environ:
    launcher.end_with_parent(int(os.environ["KERAS_PIPELINE_PARENT"]))
settings = json.loads(sys.argv[1])
rank = int(os.environ["RANK"])
cluster.ROLL_CALL_SECONDS = settings.get("roll_call", 40)
cluster.SILENCE_SECONDS = settings.get("silence_of", [settings.get("silence", 25)] * 9)[rank]
print("pid", os.getpid(), flush=True)
print("a word on standard error", file=sys.stderr)
try:
    watch = cluster.meet_workers(cluster.cluster_from_environment("ddp", os.environ), settings["digests"][rank])
except errors.PipelineError as error:
    print(type(error).__name__, error, file=sys.stderr)
    sys.exit(error.exit_code)
end = settings.get("end", {}).get(str(rank))
if end == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if end == "withheld":  # as TensorFlow's start does
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
print("trains", flush=True)
if end == "hog":  # one call of some seconds that holds the interpreter's lock
    sys.setswitchinterval(100)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        pass
    sys.setswitchinterval(0.005)
if end == "code":
    os._exit(6)
if end == "child":
    print("pid", subprocess.Popen(["sleep", "120"]).pid, flush=True)
time.sleep(settings.get("train_of", [settings.get("train", 0)] * 9)[rank])
watch.leave()
print("leaves", flush=True)
time.sleep(settings.get("after", {}).get(str(rank), 0))
"""
"""A worker, told in its argument how long what lasts and how each rank ends."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def place(rank: int, count: int, meeting: str) -> dict[str, str]:
    cluster = Cluster(rank, count, ("127.0.0.1:9",), meeting)
    return cluster_environment("ddp", cluster)


class Started:
    """A process with its output in a file, gone with all its children when the test is over."""

    def __init__(self, command: list[str], environ: Mapping[str, str], output: Path) -> None:
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                command, env={**os.environ, **environ}, stdout=file, stderr=subprocess.STDOUT
            )

    def text(self) -> str:
        return self.output.read_text()

    def says(self, pattern: str) -> str:
        """Wait for a line; what its first group holds."""
        return until(lambda: (found := re.search(pattern, self.text(), re.M)) and found[found.re.groups], self.text)

    def ends(self, seconds: float = LIMIT) -> int:
        return self.process.wait(seconds)


def until(question: Callable[[], Any], story: Callable[[], str] = str) -> Any:
    """What `question` answers once that is true."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.02)
    raise TimeoutError(story())


Start = Callable[..., list[Started]]
Launch = Callable[..., Started]
LAUNCHER = """\
import json, os, signal, sys
from keras_pipeline.distribution import launcher
class Terminated(KeyboardInterrupt):
    number = signal.SIGTERM
def terminate(number, frame):
    raise Terminated
signal.signal(signal.SIGTERM, terminate)
signal.signal(signal.SIGINT, signal.default_int_handler)
count, settings = json.loads(sys.argv[2])
vars(launcher).update(settings.get("launcher", {}))
try:
    code = launcher.launch_workers([sys.executable, sys.argv[1], json.dumps(settings)], count, "ddp", os.environ)
except KeyboardInterrupt as interruption:
    print("interrupted", type(interruption).__name__)
    sys.exit(99)
print("launch", code)
sys.exit(code)
"""


def runs(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def pids(launcher: Started, count: int) -> list[int]:
    """The process numbers of the workers once all of them train, by rank."""
    until(lambda: launcher.text().count("trains") == count, launcher.text)
    found: dict[int, int] = {}
    for rank, pid in re.findall(r"^(?:\[worker (\d)\] )?pid (\d+)", launcher.text(), re.M):
        found.setdefault(int(rank or 0), int(pid))  # a worker's child comes after it
    return [found[rank] for rank in range(count)]
