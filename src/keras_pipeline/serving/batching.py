"""Requests that wait while the network is busy go through it together; one that finds it free waits for nobody.

No timer: a batch is what has come by the moment the network is free.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from keras_pipeline.serving.http.answers import Refused
from keras_pipeline.serving.network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOGETHER = 64
"""So many inputs go through the network at once; a request with more goes in several parts, others between them."""
WAITING = 256
"""So many requests may wait."""
WAITING_BYTES = 2**25
LONGEST_SECONDS = 10.0
"""A request that waited longer is refused."""


@dataclass(slots=True, eq=False)
class _Part:
    """Inputs of one request that wait."""

    network: Network
    raw: bytes
    done: "asyncio.Future[NDArray[np.float32]]"
    since: float = field(default_factory=time.monotonic)


class Batching:
    """The way to the networks, which one thread runs. To be made and used within the event loop."""

    def __init__(self) -> None:
        self.sizes: deque[int] = deque(maxlen=1000)
        """How many inputs the last batches had."""
        self._loop = asyncio.get_running_loop()
        self.waiting = 0
        """How many requests wait for their answers."""
        self._bytes = 0
        self._waiting: deque[_Part] = deque()
        self._busy = False
        self._batches: queue.SimpleQueue[list[_Part] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True, name="the network")
        self._thread.start()

    async def outputs(self, network: Network, raw: bytes) -> "NDArray[np.float32]":
        """What the network gives for these raw inputs. Raises Refused where too many wait or this waits too long, and
        whatever the network raises."""
        if self.waiting >= WAITING or self._bytes + len(raw) > WAITING_BYTES:
            raise busy()
        self.waiting += 1
        self._bytes += len(raw)
        try:
            most = TOGETHER * network.size
            if len(raw) <= most:
                return await self._part(network, raw)
            parts = [await self._part(network, raw[start : start + most]) for start in range(0, len(raw), most)]
            return np.concatenate(parts)
        finally:
            self.waiting -= 1
            self._bytes -= len(raw)

    def expire(self) -> None:
        """Refuse what has waited too long; to be called at times."""
        oldest = time.monotonic() - LONGEST_SECONDS
        while self._waiting and self._waiting[0].since < oldest:
            part = self._waiting.popleft()
            if not part.done.done():
                part.done.set_exception(busy())

    def close(self) -> None:
        """End the thread when it has done what it has."""
        self._batches.put(None)

    def _part(self, network: Network, raw: bytes) -> "asyncio.Future[NDArray[np.float32]]":
        part = _Part(network, raw, self._loop.create_future())
        self._waiting.append(part)
        if not self._busy:
            self._next()
        return part.done

    def _next(self) -> None:
        """Give the thread what waits, of one network; of requests whose clients left nothing."""
        batch: list[_Part] = []
        count = 0
        while self._waiting:
            part = self._waiting[0]
            more = len(part.raw) // part.network.size
            if batch and (part.network is not batch[0].network or count + more > TOGETHER):
                break
            self._waiting.popleft()
            if not part.done.done():
                batch.append(part)
                count += more
        self._busy = bool(batch)
        if batch:
            self.sizes.append(count)
            self._batches.put(batch)

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            outputs: NDArray[np.float32] | Exception
            try:
                network = batch[0].network
                outputs = network.outputs(batch[0].raw if len(batch) == 1 else b"".join(part.raw for part in batch))
            except Exception as fault:  # of ONNX Runtime: whoever asked is told
                outputs = fault
            self._loop.call_soon_threadsafe(self._deliver, batch, outputs)

    def _deliver(self, batch: list[_Part], outputs: "NDArray[np.float32] | Exception") -> None:
        start = 0
        for part in batch:
            end = start + len(part.raw) // part.network.size
            if not part.done.done():
                if isinstance(outputs, Exception):
                    part.done.set_exception(outputs)
                else:
                    part.done.set_result(outputs[start:end])
            start = end
        self._next()


def busy() -> Refused:
    """What a request is told that comes when too many wait."""
    return Refused(503, "The service is busy. Try again.", (b"retry-after", b"1"))
