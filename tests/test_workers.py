import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from keras_pipeline.core.errors import MachineError, ParamsError
from keras_pipeline.distribution import cluster, launcher
from keras_pipeline.distribution.cluster import Cluster, cluster_environment, cluster_from_environment, meet_workers

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
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start workers by hand, as on several machines: `start(count, ranks, **settings)`, in the order of `ranks`."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    all_started: list[Started] = []

    def run(count: int, ranks: list[int] | None = None, meeting: str = "", **settings: Any) -> list[Started]:
        meeting = meeting or f"127.0.0.1:{free_port()}"
        settings.setdefault("digests", [{"params": "a"}] * count)
        found = {}
        for rank in range(count) if ranks is None else ranks:
            command = [sys.executable, str(script), json.dumps(settings)]
            output = tmp_path / f"output-{len(all_started)}"
            found[rank] = Started(command, place(rank, count, meeting), output)
            all_started.append(found[rank])
        return [found[rank] for rank in sorted(found)]

    yield run
    for started in all_started:
        started.process.kill()
        started.process.wait(LIMIT)


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


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start a launcher: `launch(count, **settings)`; afterwards it must have left no process."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    all_started: list[Started] = []

    def run(count: int, **settings: Any) -> Started:
        settings.setdefault("digests", [{"params": "a"}] * count)
        command = [sys.executable, "-c", LAUNCHER, str(script), json.dumps([count, settings])]
        all_started.append(Started(command, {}, tmp_path / f"output-{len(all_started)}"))
        return all_started[-1]

    yield run
    for started in all_started:
        started.process.kill()
        started.process.wait(LIMIT)
        pids = map(int, re.findall(r"pid (\d+)", started.text()))
        until(lambda pids=list(pids): not any(map(runs, pids)), lambda: "a worker was left behind")


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


# Who takes part, by the variables


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize(("rank", "count"), [(0, 1), (0, 2), (2, 3)])
def test_a_place_in_the_cluster_survives_the_variables(strategy: str, rank: int, count: int) -> None:
    addresses = tuple(f"host-{number}.example:{4000 + number}" for number in range(1 if strategy == "ddp" else count))
    cluster = Cluster(rank, count, addresses, "host-0.example:5000")
    environ = cluster_environment(strategy, cluster)
    assert list(environ) == [*NAMES[strategy], "KERAS_PIPELINE_ROLL_CALL"]
    assert cluster_from_environment(strategy, {"PATH": "/bin", **environ}) == cluster


def test_the_variables_are_those_of_the_frameworks() -> None:
    cluster = Cluster(1, 2, ("a:1", "b:2"), "a:3")
    assert json.loads(cluster_environment("multi_worker", cluster)["TF_CONFIG"]) == {
        "cluster": {"worker": ["a:1", "b:2"]},
        "task": {"type": "worker", "index": 1},
    }
    assert cluster_environment("data_parallel", cluster) == {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": "a:1,b:2",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
        "KERAS_DISTRIBUTION_PROCESS_ID": "1",
        "KERAS_PIPELINE_ROLL_CALL": "a:3",
    }
    assert cluster_environment("ddp", Cluster(1, 2, ("[::1]:1",), "a:3")) == {
        "MASTER_ADDR": "[::1]",
        "MASTER_PORT": "1",
        "WORLD_SIZE": "2",
        "RANK": "1",
        "KERAS_PIPELINE_ROLL_CALL": "a:3",
    }


def test_without_variables_and_without_workers_there_is_no_cluster() -> None:
    for strategy in (*NAMES, "none", "mirrored"):
        assert (
            cluster.cluster_from_environment(strategy, {"LOCAL_RANK": "0", "KERAS_PIPELINE_ROLL_CALL": "a:1"}) is None
        )
    assert cluster.cluster_from_environment("mirrored", {"TF_CONFIG": "nonsense"}) is None


def test_the_roll_call_is_by_default_beside_the_chief() -> None:
    environ = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "WORLD_SIZE": "2", "RANK": "1"}
    assert cluster.cluster_from_environment("ddp", environ) == cluster.Cluster(
        1, 2, ("10.0.0.1:29500",), "10.0.0.1:29501"
    )


def test_the_chief_alone_may_be_known() -> None:
    environ = dict(zip(NAMES["data_parallel"], ("a:1", "3", "2"), strict=True))
    assert cluster.cluster_from_environment("data_parallel", environ) == cluster.Cluster(2, 3, ("a:1",), "a:2")


def task(workers: object, index: object = 0, **more: object) -> str:
    return json.dumps({"cluster": {"worker": workers, **more}, "task": {"type": "worker", "index": index}})


ADDRESSES, COUNT, RANK = NAMES["data_parallel"]
DDP = dict(zip(NAMES["ddp"], ("a", "1000", "2", "1"), strict=True))
KERAS = dict(zip(NAMES["data_parallel"], ("a:1,b:1", "2", "1"), strict=True))


@pytest.mark.parametrize(
    ("strategy", "environ", "message"),
    [
        *(
            ("multi_worker", {"TF_CONFIG": text}, "TF_CONFIG: received .* Expected: JSON such as")
            for text in [
                "",
                "{",
                "[]",
                "3",
                "[" * 100_000,
                '{"cluster": {"worker": ["a:1"]}}',
                '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
                task("a:1"),
                task([]),
                task([1, 2]),
                task(["a:1"], "0"),
                task(["a:1"], True),
                task(["a:1"], -1),
                task(["a:1"], None),
                task(["a:1"], ps=["b:1"]),
            ]
        ),
        ("multi_worker", {"TF_CONFIG": task(["a:1", "b:2"], 2)}, "TF_CONFIG: received 'worker 2'.* from 0 to 1"),
        ("multi_worker", {"TF_CONFIG": task(["a", "b:2"])}, "TF_CONFIG: received 'a,b:2'.* host:port"),
        ("multi_worker", {"TF_CONFIG": task(["a:1", "a:1"])}, "TF_CONFIG: received 'a:1,a:1'.* each another"),
        ("multi_worker", {"TF_CONFIG": task(["a:1", "a:2"])}, "KERAS_PIPELINE_ROLL_CALL: received 'a:2'"),
        ("data_parallel", {ADDRESSES: "a:1"}, f"{COUNT}: received 'nothing'.*because {ADDRESSES} is set"),
        ("data_parallel", {**KERAS, ADDRESSES: ""}, f"{ADDRESSES}: received ''.*host:port"),
        ("data_parallel", {**KERAS, ADDRESSES: "a:1, b:1"}, f"{ADDRESSES}: received 'a:1, b:1'"),
        ("data_parallel", {**KERAS, ADDRESSES: "a:1,b:1,c:1"}, f"{ADDRESSES}: received '3 addresses'.*: 2, as {COUNT}"),
        ("data_parallel", {**KERAS, COUNT: "two"}, f"{COUNT}: received 'two'.*a whole number from 1"),
        ("data_parallel", {**KERAS, COUNT: "0"}, f"{COUNT}: received '0'.*a whole number from 1"),
        ("data_parallel", {**KERAS, RANK: "-1"}, f"{RANK}: received '-1'.*a whole number from 0"),
        ("data_parallel", {**KERAS, RANK: "2"}, f"{RANK}: received 'worker 2'.*from 0 to 1"),
        ("ddp", {**DDP, "RANK": "²"}, "RANK: received '²'"),
        ("ddp", {**DDP, "WORLD_SIZE": "1"}, "RANK: received 'worker 1'.*from 0 to 0"),
        ("ddp", {**DDP, "MASTER_PORT": "0"}, "MASTER_ADDR and MASTER_PORT: received 'a:0'"),
        ("ddp", {**DDP, "MASTER_PORT": "65536"}, "MASTER_ADDR and MASTER_PORT: received 'a:65536'"),
        *(
            ("ddp", {**DDP, "MASTER_ADDR": host}, f"MASTER_ADDR and MASTER_PORT: received '{re.escape(host)}:1000'")
            for host in ("", "a..b", ".a", "ä", "[::1", "a" * 64)
        ),
        ("ddp", {**DDP, "MASTER_ADDR": "a b"}, "MASTER_ADDR and MASTER_PORT: received 'a b:1000'"),
        ("ddp", {**DDP, "MASTER_PORT": "65535"}, "KERAS_PIPELINE_ROLL_CALL: received 'a:65536'"),
        ("ddp", {**DDP, "KERAS_PIPELINE_ROLL_CALL": "a"}, "KERAS_PIPELINE_ROLL_CALL: received 'a'"),
        *(
            ("ddp", {other: DDP[other] for other in DDP if other != name}, f"{name}: received 'nothing'")
            for name in DDP
        ),
    ],
)  # fmt: skip
def test_variables_that_make_no_sense_are_refused_by_name(strategy: str, environ: dict[str, str], message: str) -> None:
    with pytest.raises(ParamsError, match=f"^{message}") as caught:
        cluster.cluster_from_environment(strategy, environ)
    assert "Mend it where this worker is started" in str(caught.value)
    assert len(str(caught.value)) < 800


# The roll call


def test_a_chief_without_workers_need_not_wait() -> None:
    cluster.meet_workers(cluster.Cluster(0, 1, ("a:1",), f"127.0.0.1:{free_port()}"), {"params": "a"}).leave()


def test_a_taken_or_foreign_address_of_the_roll_call_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        meeting = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(MachineError, match=rf"^{meeting}: the chief cannot listen .*Address already in use"):
            cluster.meet_workers(cluster.Cluster(0, 2, ("a:1",), meeting), {})
    with pytest.raises(MachineError, match=r"^192\.0\.2\.1:4000: the chief cannot listen .*assign requested address"):
        cluster.meet_workers(cluster.Cluster(0, 2, ("a:1",), "192.0.2.1:4000"), {})


@contextmanager
def stranger(answer: bytes) -> Iterator[str]:
    """The address of a server that says this to everybody and then stays on the line."""
    held = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                held.append(listener.accept()[0])
                held[-1].sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(LIMIT)
    for connection in held:
        connection.close()


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n", b"{}\n", b"[" * 70_000 + b"\n", b"\xff\n"])
def test_a_worker_is_not_fooled_by_a_stranger_at_the_chiefs_address(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ROLL_CALL_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "HELLO_SECONDS", 0.1)
    with (
        stranger(answer) as meeting,
        pytest.raises(MachineError, match=rf"^{meeting}: the chief did not answer there within 0.1 s \(\w"),
    ):
        cluster.meet_workers(cluster.Cluster(1, 2, ("a:1",), meeting), {})


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "no-such-host.invalid"])
def test_a_worker_names_the_chief_that_is_not_there(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ROLL_CALL_SECONDS", 0.1)
    meeting = f"{host}:{free_port()}"
    with pytest.raises(MachineError, match=rf"^{re.escape(meeting)}: the chief did not answer .*Expected: worker 0"):
        cluster.meet_workers(cluster.Cluster(1, 2, ("a:1",), meeting), {})


def test_a_port_that_tcp_connects_to_itself_is_no_chief(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()

    def connect(address: object, timeout: float) -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.bind(("127.0.0.1", port))
        connection.connect(("127.0.0.1", port))
        return connection

    monkeypatch.setattr(cluster, "ROLL_CALL_SECONDS", 0.1)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(MachineError, match="something else answers"):
        cluster.meet_workers(cluster.Cluster(1, 2, ("a:1",), f"127.0.0.1:{port}"), {})
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.slow
@pytest.mark.parametrize("order", [[0, 1], [1, 0], [0, 1, 2], [2, 1, 0]])
def test_all_wait_for_each_other_and_part_in_peace(order: list[int], start: Start) -> None:
    started = start(len(order), order)
    assert [one.ends() for one in started] == [0] * len(order), [one.text() for one in started]
    assert all(re.search("trains\nleaves\n$", one.text()) for one in started)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 2])
def test_nobody_dies_of_one_who_leaves_early(first: int, start: Start) -> None:
    """However long the others then go on without it: here for two silences."""
    after = {str(rank): 3 for rank in range(3) if rank != first}
    started = start(3, silence=1.5, after=after)
    assert [one.ends() for one in started] == [0, 0, 0], [one.text() for one in started]


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])
def test_who_has_left_no_longer_minds_the_death_of_others(first: int, start: Start) -> None:
    started = start(2, train_of=[0 if rank == first else LIMIT for rank in range(2)], after={str(first): 1})
    started[first].says("^(leaves)$")
    started[1 - first].says("^(trains)$")
    started[1 - first].process.kill()
    assert started[first].ends() == 0, started[first].text()


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 2])
def test_a_worker_that_leaves_early_does_not_end_the_watch_over_the_rest(first: int, start: Start) -> None:
    dies = 3 - first
    started = start(3, train_of=[LIMIT if rank != first else 0 for rank in range(3)])
    assert started[first].ends() == 0
    started[dies].says("^(trains)$")
    started[dies].process.kill()
    assert started[0].ends() == 75
    assert re.search(rf"^worker {dies} of 3 \(\S+\) died", started[0].text(), re.M), started[0].text()


@pytest.mark.slow
def test_a_late_worker_is_waited_for(start: Start) -> None:
    meeting = f"127.0.0.1:{free_port()}"
    [late] = start(2, [1], meeting)
    time.sleep(1)
    [chief] = start(2, [0], meeting)
    assert [chief.ends(), late.ends()] == [0, 0], chief.text() + late.text()


@pytest.mark.slow
def test_every_worker_names_those_that_differ_and_in_what(start: Start) -> None:
    same = {"params": "a" * 64, "data": "b" * 64, "count": "3"}
    started = start(3, digests=[same, {**same, "params": "c" * 64, "count": "2"}, {"params": "a" * 64, "count": "3"}])
    assert [one.ends() for one in started] == [2, 2, 2]
    for one in started:
        assert re.search(
            r"^ParamsError worker 1 of 3 \(\S+\) differs from the chief \(\S+\) in "
            r"params \('cccccccccccc', not 'aaaaaaaaaaaa'\), count \('2', not '3'\)\. "
            r"worker 2 of 3 \(\S+\) differs from the chief \(\S+\) in data \('None', not 'bbbbbbbbbbbb'\)\. "
            r"Expected: the same params, data and code everywhere\. See .* start all of them again\.$",
            one.text(),
            re.M,
        ), one.text()
        assert "trains" not in one.text()


@pytest.mark.slow
def test_workers_that_never_come_are_named_to_all(start: Start) -> None:
    meeting = f"127.0.0.1:{free_port()}"
    started = start(4, [0, 2], meeting, roll_call=2)
    assert [one.ends() for one in started] == [6, 6]
    for one in started:
        assert (
            "MachineError worker 1 of 4 (host unknown), worker 3 of 4 (host unknown) did not come to the roll call at "
            f"{meeting} within 2 s. Expected: all workers" in one.text()
        )


def test_a_worker_that_never_comes_is_named_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ROLL_CALL_SECONDS", 0.1)
    here = Cluster(0, 2, ("a:1", "b:2"), f"127.0.0.1:{free_port()}")
    with pytest.raises(MachineError, match=r"^worker 1 of 2 \(b:2\) did not come to the roll call at 127"):
        meet_workers(here, {})


@pytest.mark.slow
def test_strangers_do_not_disturb_the_roll_call(start: Start) -> None:
    meeting = f"127.0.0.1:{free_port()}"
    [chief] = start(2, [0], meeting)
    nonsense = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
        b"{}\n",
        b"[]\n",
        b"x" * 200_000,
        b"[" * 60_000 + b"\n",
    ]
    hello = {"rank": 1, "host": "b", "digests": {}}
    nonsense += [
        json.dumps({**hello, **wrong}).encode() + b"\n"
        for wrong in ({"rank": "1"}, {"host": "\x1b[2J"}, {"digests": 3})
    ]
    with ExitStack() as lines:

        def call(text: bytes) -> socket.socket:
            connection = until(lambda: _connect(meeting), chief.text)
            with suppress(OSError):
                connection.sendall(text)
            return lines.enter_context(connection)

        for text in nonsense * 3:
            call(text)
        for rank in (-1, 0, 2):
            with suppress(ConnectionError):
                answer = call(json.dumps({**hello, "rank": rank}).encode() + b"\n").recv(10_000)
                assert json.loads(answer)["text"].startswith(f"worker {rank} of 2 (b): the chief expects only 1 to 1")
        call(b"").close()
        [worker] = start(2, [1], meeting)
        assert [chief.ends(), worker.ends()] == [0, 0], chief.text() + worker.text()


def _connect(meeting: str) -> socket.socket | None:
    host, port = meeting.split(":")
    with suppress(ConnectionError):
        return socket.create_connection((host, int(port)), timeout=LIMIT)
    return None


@pytest.mark.slow
def test_the_last_process_of_a_rank_counts(start: Start) -> None:
    """One that was killed and started anew, and one that was started twice, which is told so."""
    meeting = f"127.0.0.1:{free_port()}"
    [chief] = start(3, [0], meeting)
    hello = b'{"rank": 1, "host": "b", "digests": {"params": "a"}}\n'
    with until(lambda: _connect(meeting), chief.text) as killed:
        killed.sendall(hello)
    with until(lambda: _connect(meeting), chief.text) as replaced:
        replaced.sendall(hello)
        time.sleep(0.5)
        [again] = start(3, [1], meeting)
        told = json.loads(replaced.makefile().readline())
    assert told["exit"] == 2
    assert re.match(r"worker 1 of 3 \(\S+\) came again and takes the place of this one\. See", told["text"])
    [last] = start(3, [2], meeting)
    assert [one.ends() for one in (chief, again, last)] == [0, 0, 0]


# The watch


def trained(start: Start, count: int, **settings: Any) -> list[Started]:
    started = start(count, train=LIMIT, **settings)
    for one in started:
        one.says("^(trains)$")
    return started


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_every_worker_ends_with_the_killed_one_and_names_it(dies: int, start: Start) -> None:
    for _ in range(5):
        started = trained(start, 3, end={"2": "withheld"})
        began = time.monotonic()
        started[dies].process.kill()
        left = [one for one in started if one is not started[dies]]
        assert [one.ends() for one in left] == [75, 75]
        assert time.monotonic() - began < 10
        for one in left:
            assert (
                len(re.findall(rf"^worker {dies} of 3 \(\S+\) died: its connection ended; this", one.text(), re.M)) == 1
            )
            assert one.text().count("died") == 1


@pytest.mark.slow
@pytest.mark.parametrize("stops", [0, 1, 2])
def test_a_stopped_worker_counts_as_dead_after_its_silence(stops: int, start: Start) -> None:
    started = trained(start, 3, silence=1.5)
    began = time.monotonic()
    started[stops].process.send_signal(signal.SIGSTOP)
    left = [one for one in started if one is not started[stops]]
    assert [one.ends() for one in left] == [75, 75]
    assert 1 < time.monotonic() - began < 15
    for one in left:
        assert re.search(rf"^worker {stops} of 3 \(\S+\) died: it was silent for 1.5 s", one.text(), re.M), one.text()
    started[stops].process.send_signal(signal.SIGCONT)
    assert started[stops].ends() == 75
    assert re.search(rf"^worker {stops} of 3 .* silent", started[stops].text(), re.M), started[stops].text()


@pytest.mark.slow
def test_a_worker_that_ends_in_an_error_takes_the_others_along(start: Start) -> None:
    started = start(2, train=LIMIT, end={"1": "code"})
    assert [one.ends() for one in started] == [75, 6]
    assert re.search(r"^worker 1 of 2 .* died: its connection ended", started[0].text(), re.M)


@pytest.mark.slow
def test_a_main_thread_that_holds_the_interpreter_kills_nobody(start: Start) -> None:
    """Its own patience is shorter than its sleep: it must hear what came meanwhile before it judges."""
    started = start(2, end={"0": "hog"}, train=1, silence_of=[2, 8])
    assert [one.ends() for one in started] == [0, 0], [one.text() for one in started]


@pytest.mark.slow
def test_a_death_is_told_although_standard_error_is_withheld_or_full(tmp_path: Path) -> None:
    """TensorFlow's start replaces file descriptor 2; a pipe that nobody reads must not keep a worker alive."""
    for full in (False, True):
        reading, writing = os.pipe()
        if full:
            os.set_blocking(writing, False)
            with suppress(BlockingIOError):
                while True:
                    os.write(writing, b"x" * 4096)
            os.set_blocking(writing, True)
        code = (
            "import os, time; from keras_pipeline.distribution import launcher\n"
            "parents = iter([7])\nos.getppid = lambda: next(parents, 1)\nlauncher.end_with_parent(7)\n"
            f"os.dup2(os.open({str(tmp_path / 'withheld')!r}, os.O_CREAT | os.O_WRONLY), 2)\n"
            "time.sleep(60)"
        )
        worker = subprocess.Popen([sys.executable, "-c", code], stderr=writing)
        os.close(writing)
        assert worker.wait(LIMIT) == 75
        with os.fdopen(reading, "rb") as pipe:
            assert full or pipe.read() == b"the process 7 that started this worker is gone; it ends too\n"


# The launcher


@pytest.mark.slow
def test_launch_runs_all_and_marks_the_lines_of_all_but_the_chief(launch: Launch) -> None:
    launcher = launch(3, train=0.1)
    assert launcher.ends() == 0
    lines = sorted(re.sub(r"pid \d+", "pid", launcher.text()).splitlines())
    own = ["a word on standard error", "leaves", "pid", "trains"]
    assert lines == sorted([*own, *(f"[worker {rank}] {line}" for rank in (1, 2) for line in own), "launch 0"])
    assert launcher.text().endswith("launch 0\n")


@pytest.mark.parametrize("strategy", NAMES)
def test_launch_tells_every_worker_its_place(strategy: str, capfd: pytest.CaptureFixture[str]) -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    assert launcher.launch_workers([sys.executable, "-I", "-c", code], 2, strategy, {"KEPT": "yes", "RANK": "9"}) == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    assert lines[0].startswith("[worker 1] {")
    chief, other = json.loads(lines[1]), json.loads(lines[0].removeprefix("[worker 1] "))
    for rank, environ in enumerate([chief, other]):
        assert (environ["KEPT"], environ["LOCAL_RANK"]) == ("yes", str(rank))
        assert environ["KERAS_PIPELINE_PARENT"] == str(os.getpid())
        place = cluster.cluster_from_environment(strategy, environ)
        assert place is not None
        assert (place.rank, place.count, len(place.addresses)) == (rank, 2, 1 if strategy == "ddp" else 2)
        assert len({*place.addresses, place.roll_call}) == len(place.addresses) + 1
        assert place.roll_call == chief["KERAS_PIPELINE_ROLL_CALL"]


def in_rank(*codes: str) -> list[str]:
    """A command whose worker `rank` runs `codes[rank]`."""
    return [sys.executable, "-I", "-c", f"import os, sys, time; exec({codes!r}[int(os.environ['RANK'])])"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codes", "line", "code"),
    [
        (("pass", "sys.exit(2)"), "worker 1 of 2 ended with code 2; all", 2),
        (("sys.exit(75)", "time.sleep(0.02); sys.exit(6)"), "worker 1 of 2 ended with code 6; all", 6),
        (("sys.exit(75)", "pass"), "worker 0 of 2 ended with code 75; all", 75),
        (("os.kill(os.getpid(), 9)", "sys.exit(75)"), r"worker 0 of 2 ended with code -9 \(SIGKILL\); all", 75),
        (("sys.exit(1)", "time.sleep(1); sys.exit(3)"), "worker 0 of 2 ended with code 1; all", 75),
        (("sys.exit(3)", "time.sleep(60)"), "worker 0 of 2 ended with code 3; all", 3),
        (("sys.exit(4)", STUBBORN), "worker 0 of 2 ended with code 4; all", 4),
        (("os.kill(os.getpid(), 35)", "pass"), "worker 0 of 2 ended with code -35; all", 75),
    ],
)
def test_launch_returns_the_code_that_matters(
    codes: tuple[str, str], line: str, code: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "MOMENT_SECONDS", 1.0)
    monkeypatch.setattr(launcher, "STOP_SECONDS", 0.5)
    began = time.monotonic()
    assert launcher.launch_workers(in_rank(*codes), 2, "ddp", {}) == code
    assert time.monotonic() - began < 10
    assert re.fullmatch(f"{line} workers are stopped\n", capfd.readouterr().err)
    assert not psutil.Process().children(recursive=True)


@pytest.mark.slow
def test_launch_asks_before_it_kills(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "MOMENT_SECONDS", 1.0)
    polite = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit('asked')); time.sleep(60)"
    assert launcher.launch_workers(in_rank("time.sleep(0.5); sys.exit(3)", polite), 2, "ddp", {}) == 3
    assert "[worker 1] asked\n" in capfd.readouterr().err


def test_launch_without_a_program_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        launcher.launch_workers(["no-such-program"], 2, "ddp", {})
    begun = []

    def start(command: object, rank: int, environ: Mapping[str, str]) -> subprocess.Popen[str]:
        if rank:
            raise OSError("no more processes")
        begun.append(subprocess.Popen(["sleep", "60"], text=True, start_new_session=True))
        return begun[0]

    monkeypatch.setattr(launcher, "_start", start)
    with pytest.raises(OSError, match="no more processes"):
        launcher.launch_workers(["anything"], 2, "ddp", {})
    assert begun[0].returncode == -signal.SIGKILL


def test_broken_text_and_endless_lines_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    code = r"import os; os.environ['RANK'] == '1' and os.write(1, b'\xff\n' + b'x' * 200_000 + b'\nlast')"
    assert launcher.launch_workers([sys.executable, "-I", "-c", code], 2, "ddp", {}) == 0
    lines = capfd.readouterr().out.splitlines()
    assert all(line.startswith("[worker 1] ") for line in lines)
    assert (lines[0], lines[-1]) == ("[worker 1] \ufffd", "[worker 1] last")
    assert sum(line.count("x") for line in lines) == 200_000


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_launch_ends_all_when_one_is_killed(dies: int, launch: Launch) -> None:
    for _ in range(3):
        launcher = launch(2, train=LIMIT)
        began = time.monotonic()
        os.kill(pids(launcher, 2)[dies], signal.SIGKILL)
        assert launcher.ends() == 75
        assert time.monotonic() - began < 10
        other = r"\[worker 1\] " if dies == 0 else ""
        assert re.search(rf"^{other}worker {dies} of 2 \(\S+\) died: its connection ended", launcher.text(), re.M)
        assert f"worker {dies} of 2 ended with code -9 (SIGKILL); all workers are stopped" in launcher.text()


@pytest.mark.slow
def test_a_stopped_worker_of_a_launcher_is_killed_with_its_children(launch: Launch) -> None:
    launcher = launch(
        2, train=LIMIT, silence=1, end={"1": "child"}, launcher={"MOMENT_SECONDS": 0.5, "STOP_SECONDS": 0.5}
    )
    worker = pids(launcher, 2)[1]
    launcher.says(r"^\[worker 1\] pid (\d+)\n(?s:.*)\[worker 1\] pid")
    os.kill(worker, signal.SIGSTOP)
    assert launcher.ends() == 75
    assert "worker 0 of 2 ended with code 75; all workers are stopped" in launcher.text()


@pytest.mark.slow
def test_the_children_of_a_killed_worker_end_too(launch: Launch) -> None:
    launcher = launch(2, train=LIMIT, end={"1": "child"})
    worker = pids(launcher, 2)[1]
    launcher.says(r"^\[worker 1\] pid (\d+)\n(?s:.*)\[worker 1\] pid")
    os.kill(worker, signal.SIGKILL)
    assert launcher.ends() == 75


@pytest.mark.slow
def test_the_workers_of_a_killed_launcher_end(launch: Launch) -> None:
    for _ in range(2):
        launcher = launch(2, train=LIMIT)
        found = pids(launcher, 2)
        launcher.process.kill()
        until(lambda found=found: not any(map(runs, found)), launcher.text)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated")])
@pytest.mark.parametrize("deaf", [False, True])
def test_an_interruption_is_passed_on_and_raised(number: int, name: str, deaf: bool, launch: Launch) -> None:
    launcher = launch(2, train=LIMIT, end={"0": "deaf", "1": "deaf"} if deaf else {}, launcher={"STOP_SECONDS": 1})
    pids(launcher, 2)
    began = time.monotonic()
    launcher.process.send_signal(number)
    assert launcher.ends() == 99
    assert (time.monotonic() - began > 1) == deaf
    assert launcher.text().endswith(f"interrupted {name}\n")
    assert "ended with code" not in launcher.text()
