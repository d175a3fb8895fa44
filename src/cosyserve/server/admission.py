"""Limits how many requests are synthesized at once and how many may wait, and tells the others so.

What is left may be borrowed for work that nobody listens to, and is taken back when a request comes for it.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio

from cosyserve import errors
from cosyserve.errors import CosyError, Fault

_RETRY_AFTER_RANGE = (1, 60)  # seconds
_RECENT = 0.2  # weight of the newest stream in the mean duration
_LOOK_SECONDS = 1.0  # between looks for room, which may also come by a growing number of streams

Result = TypeVar("Result")


class Admission:
    """A place for each stream, whose number may grow, and a bounded queue before them, first come, first served. A
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
        self._left = asyncio.Event()  # once something has come free
        self._lent: list[asyncio.Future[Any]] = []
        self._returning = 0  # places that were borrowed and come free in a moment
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
                self._release()
                self._mean_seconds += _RECENT * (time.monotonic() - started - self._mean_seconds)
        finally:
            if self.active == self.waiting == 0:
                self._idle.set()

    @property
    def lent(self) -> int:
        """The number of places that are borrowed."""
        return len(self._lent)

    async def borrow(self, work: Callable[[], Awaitable[Result]]) -> Result | None:
        """Do `work` in a place that no request needs, once there is one; None if a request came for the place, and the
        work was cancelled for it. One place is always left free where there are several. Raises `CS-SRV-002` after
        `close`."""
        await self._room()
        task = asyncio.ensure_future(work())
        task.add_done_callback(self._given_back)
        self._lent.append(task)
        try:
            await asyncio.wait({task})
        finally:
            self._end(task)
        return None if task.cancelled() else task.result()

    def close(self) -> None:
        """Take no new requests; running and waiting ones finish. What is borrowed is given back at once."""
        self._open = False
        for task in tuple(self._lent):
            self._end(task)
        self._left.set()

    async def idle(self) -> None:
        """Return once nothing runs and nothing waits."""
        await self._idle.wait()

    async def _room(self) -> None:
        """Take a place as soon as no request can need it."""
        while True:
            if not self._open:
                raise CosyError(errors.STOPPING, retry_after=_RETRY_AFTER_RANGE[0])
            self._make_places()
            if not self.waiting and self._places.value > min(1, self._made - 1):
                self._places.acquire_nowait()
                return
            self._left.clear()
            with anyio.move_on_after(_LOOK_SECONDS):
                await self._left.wait()

    def _release(self) -> None:
        self._places.release()
        self._left.set()

    def _end(self, task: "asyncio.Future[Any]") -> None:
        """Have a place given back, which may take a moment."""
        if task in self._lent:
            self._lent.remove(task)
            self._returning += 1
            task.cancel()

    def _given_back(self, task: "asyncio.Future[Any]") -> None:
        if task in self._lent:
            self._lent.remove(task)
        else:
            self._returning -= 1
        self._release()

    def _make_places(self) -> None:
        while self._made < self._streams():
            self._places.release()
            self._made += 1

    async def _wait(self) -> None:
        with suppress(anyio.WouldBlock):
            self._places.acquire_nowait()
            return
        if self._lent and self._returning <= self.waiting:
            self._end(self._lent[-1])  # it has done the least of its work
        if self.waiting >= self._queue + self._returning:
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
