"""Who takes part, by the variables, and the roll call in one process."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from keras_pipeline.core.errors import MachineError, ParamsError
from keras_pipeline.distribution import cluster
from keras_pipeline.distribution.cluster import Cluster, cluster_environment, cluster_from_environment, meet_workers
from worker_processes import LIMIT, NAMES, free_port

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


def test_a_worker_that_never_comes_is_named_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ROLL_CALL_SECONDS", 0.1)
    here = Cluster(0, 2, ("a:1", "b:2"), f"127.0.0.1:{free_port()}")
    with pytest.raises(MachineError, match=r"^worker 1 of 2 \(b:2\) did not come to the roll call at 127"):
        meet_workers(here, {})
