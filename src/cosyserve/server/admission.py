"""Limits how many requests are synthesized at once and how many may wait, and tells the others so."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio

from cosyserve import errors
from cosyserve.errors import CosyError, Fault

_RETRY_AFTER_RANGE = (1, 60)  # seconds
_RECENT = 0.2  # weight of the newest stream in the mean duration


class Admission:
    """A place for each stream, whose number may change, and a bounded queue before them, first come, first served. A
    request that finds the queue full gets `full`, one that waits too long `late`."""

    def __init__(
        self,
        streams: Callable[[], int],
        queue: int,
        queue_seconds: float,
        full: Fault = errors.QUEUE_FULL,
        late: Fault = errors.QUEUE_TIMEOUT,
    ) -> None:
        self._streams, self._queue, self._queue_seconds = streams, queue, queue_seconds
        self._full, self._late = full, late
        self._places, self._made = anyio.Semaphore(0), 0
        self._mean_seconds = 1.0
        self._open = True
        self._idle = asyncio.Event()
        self._idle.set()
        self.active = 0
        self.waiting = 0
        self.last_use = -math.inf  # of the monotonic clock, when the last stream ended

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place; raises `full` or `late` (`CS-BUSY-…`) when none comes free and `CS-SRV-002` after `close`."""
        if not self._open:
            raise CosyError(errors.STOPPING, retry_after=_RETRY_AFTER_RANGE[0])
        self._idle.clear()
        self._make_places()
        try:
            await self._wait()
            started = time.monotonic()
            self.active += 1
            try:
                yield
            finally:
                self.active -= 1
                self.last_use = time.monotonic()
                self._give_back()
                self._mean_seconds += _RECENT * (time.monotonic() - started - self._mean_seconds)
        finally:
            if self.active == self.waiting == 0:
                self._idle.set()

    def close(self) -> None:
        """Take no new requests; running and waiting ones finish."""
        self._open = False

    async def idle(self) -> None:
        """Return once nothing runs and nothing waits."""
        await self._idle.wait()

    def _make_places(self) -> None:
        while self._made < self._streams():
            self._places.release()
            self._made += 1

    def _give_back(self) -> None:
        if self._made > self._streams():  # there is room for fewer than when it was made
            self._made -= 1
        else:
            self._places.release()

    async def _wait(self) -> None:
        with suppress(anyio.WouldBlock):
            self._places.acquire_nowait()
            return
        if self.waiting >= self._queue:
            raise CosyError(self._full, retry_after=self._retry_after(), streams=self._made, waiting=self.waiting)
        self.waiting += 1
        try:
            with anyio.fail_after(self._queue_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise CosyError(self._late, retry_after=self._retry_after(), seconds=self._queue_seconds) from None
        finally:
            self.waiting -= 1

    def _retry_after(self) -> int:
        """Seconds until the queue has moved on, at the pace of the latest streams."""
        low, high = _RETRY_AFTER_RANGE
        return max(low, min(high, math.ceil(self._mean_seconds * (self.waiting + 1) / self._made)))
