"""What waits together goes together, what is alone waits for nobody, and what nobody wants any more is not done."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from keras_pipeline.serving import batching
from keras_pipeline.serving.batching import TOGETHER, Batching
from keras_pipeline.serving.http.answers import Refused


class Network:
    """Gives each input of 4 bytes back as a number. Waits for `free` before, and keeps the sizes of its batches."""

    size = 4

    def __init__(self, *, fails: bool = False) -> None:
        self.free, self.sizes, self.fails = threading.Event(), list[int](), fails
        self.free.set()

    def outputs(self, raw: bytes) -> Any:
        self.free.wait(10)
        self.sizes.append(len(raw) // 4)
        if self.fails:
            raise RuntimeError("out of order")
        return np.frombuffer(raw, "<f4").reshape(-1, 1).copy()


def numbers(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def run(work: Callable[[Batching], Awaitable[Any]]) -> Any:
    async def within() -> Any:
        made = Batching()
        try:
            return await work(made)
        finally:
            made.close()

    return asyncio.run(within())


def test_one_alone_goes_at_once_and_the_others_together() -> None:
    network: Any = Network()

    async def work(waiting: Batching) -> list[float]:
        network.free.clear()
        asked = [asyncio.ensure_future(waiting.outputs(network, numbers(one))) for one in range(10)]
        await asyncio.sleep(0.05)
        assert waiting.waiting == 10
        network.free.set()
        return [float(one[0, 0]) for one in await asyncio.gather(*asked)]

    assert run(work) == list(range(10))
    assert network.sizes == [1, 9]


def test_a_large_request_goes_in_parts_and_others_between() -> None:
    network: Any = Network()
    large = range(3 * TOGETHER + 5)

    async def work(waiting: Batching) -> Any:
        network.free.clear()
        first = asyncio.ensure_future(waiting.outputs(network, numbers(*large)))
        await asyncio.sleep(0)
        other = asyncio.ensure_future(waiting.outputs(network, numbers(7)))
        network.free.set()
        assert (await other).tolist() == [[7]]
        assert not first.done()
        return (await first)[:, 0].tolist()

    assert run(work) == list(large)
    assert max(network.sizes) <= TOGETHER
    assert network.sizes[1] == 1


def test_two_networks_share_no_batch() -> None:
    one, other = Network(), Network()

    async def work(waiting: Batching) -> Any:
        one.free.clear()
        asked = [asyncio.ensure_future(waiting.outputs(network, numbers(1))) for network in (one, other, other, one)]  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        one.free.set()
        await asyncio.gather(*asked)

    run(work)
    assert (one.sizes, other.sizes) == ([1, 1], [2])


def test_a_fault_is_told_to_those_whose_batch_it_was() -> None:
    bad, good = Network(fails=True), Network()

    async def work(waiting: Batching) -> Any:
        asked = [waiting.outputs(network, numbers(1)) for network in (bad, bad, good)]  # type: ignore[arg-type]
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = run(work)
    assert isinstance(first, RuntimeError)
    assert isinstance(second, RuntimeError)
    assert third.tolist() == [[1]]


def test_what_nobody_waits_for_is_not_done() -> None:
    network: Any = Network()

    async def work(waiting: Batching) -> Any:
        network.free.clear()
        asked = [asyncio.ensure_future(waiting.outputs(network, numbers(one))) for one in range(5)]
        await asyncio.sleep(0.05)
        for one in asked[1:4]:
            one.cancel()
        await asyncio.sleep(0)
        network.free.set()
        return [(await one).tolist() for one in (asked[0], asked[4])], waiting.waiting

    assert run(work) == ([[[0]], [[4]]], 0)
    assert network.sizes == [1, 1]


def test_too_many_and_too_much_and_too_long_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network: Any = Network()
    monkeypatch.setattr(batching, "WAITING", 3)
    monkeypatch.setattr(batching, "WAITING_BYTES", 40)

    async def work(waiting: Batching) -> None:
        network.free.clear()
        asked = [asyncio.ensure_future(waiting.outputs(network, numbers(one))) for one in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Refused) as refused:
            await waiting.outputs(network, numbers(*range(9)))
        assert (refused.value.status, refused.value.headers) == (503, ((b"retry-after", b"1"),))
        asked.append(asyncio.ensure_future(waiting.outputs(network, numbers(2))))
        await asyncio.sleep(0)
        with pytest.raises(Refused):
            await waiting.outputs(network, numbers(3))
        monkeypatch.setattr(batching, "LONGEST_SECONDS", -1)
        waiting.expire()
        with pytest.raises(Refused):
            await asked[2]
        network.free.set()
        assert (await asked[0]).tolist() == [[0]]
        assert (await waiting.outputs(network, numbers(*range(9)))).tolist() == [[one] for one in range(9)]

    run(work)
