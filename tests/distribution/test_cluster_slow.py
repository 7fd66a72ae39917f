"""Workers in real processes: the roll call, and the watch over each other."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from worker_processes import LIMIT, Start, Started, free_port, until

pytestmark = pytest.mark.slow


# The roll call


@pytest.mark.parametrize("order", [[0, 1], [1, 0], [0, 1, 2], [2, 1, 0]])
def test_all_wait_for_each_other_and_part_in_peace(order: list[int], start: Start) -> None:
    started = start(len(order), order)
    assert [one.ends() for one in started] == [0] * len(order), [one.text() for one in started]
    assert all(re.search("trains\nleaves\n$", one.text()) for one in started)


@pytest.mark.parametrize("first", [0, 2])
def test_nobody_dies_of_one_who_leaves_early(first: int, start: Start) -> None:
    """However long the others then go on without it: here for two silences."""
    after = {str(rank): 3 for rank in range(3) if rank != first}
    started = start(3, silence=1.5, after=after)
    assert [one.ends() for one in started] == [0, 0, 0], [one.text() for one in started]


@pytest.mark.parametrize("first", [0, 1])
def test_who_has_left_no_longer_minds_the_death_of_others(first: int, start: Start) -> None:
    started = start(2, train_of=[0 if rank == first else LIMIT for rank in range(2)], after={str(first): 1})
    started[first].says("^(leaves)$")
    started[1 - first].says("^(trains)$")
    started[1 - first].process.kill()
    assert started[first].ends() == 0, started[first].text()


@pytest.mark.parametrize("first", [1, 2])
def test_a_worker_that_leaves_early_does_not_end_the_watch_over_the_rest(first: int, start: Start) -> None:
    dies = 3 - first
    started = start(3, train_of=[LIMIT if rank != first else 0 for rank in range(3)])
    assert started[first].ends() == 0
    started[dies].says("^(trains)$")
    started[dies].process.kill()
    assert started[0].ends() == 75
    assert re.search(rf"^worker {dies} of 3 \(\S+\) died", started[0].text(), re.M), started[0].text()


def test_a_late_worker_is_waited_for(start: Start) -> None:
    meeting = f"127.0.0.1:{free_port()}"
    [late] = start(2, [1], meeting)
    time.sleep(1)
    [chief] = start(2, [0], meeting)
    assert [chief.ends(), late.ends()] == [0, 0], chief.text() + late.text()


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


def test_workers_that_never_come_are_named_to_all(start: Start) -> None:
    meeting = f"127.0.0.1:{free_port()}"
    started = start(4, [0, 2], meeting, roll_call=2)
    assert [one.ends() for one in started] == [6, 6]
    for one in started:
        assert (
            "MachineError worker 1 of 4 (host unknown), worker 3 of 4 (host unknown) did not come to the roll call at "
            f"{meeting} within 2 s. Expected: all workers" in one.text()
        )


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


def test_a_worker_that_ends_in_an_error_takes_the_others_along(start: Start) -> None:
    started = start(2, train=LIMIT, end={"1": "code"})
    assert [one.ends() for one in started] == [75, 6]
    assert re.search(r"^worker 1 of 2 .* died: its connection ended", started[0].text(), re.M)


def test_a_main_thread_that_holds_the_interpreter_kills_nobody(start: Start) -> None:
    """Its own patience is shorter than its sleep: it must hear what came meanwhile before it judges."""
    started = start(2, end={"0": "hog"}, train=1, silence_of=[2, 8])
    assert [one.ends() for one in started] == [0, 0], [one.text() for one in started]


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
