"""Limits how many requests are synthesized at once and how many may wait, and tells the others so.

What is left may be borrowed for work that nobody listens to, and is taken back when a request comes for it.
"""

import asyncio
import bisect
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

from cosyserve import errors
from cosyserve.errors import CosyError, Fault
from cosyserve.keys import MAIN

_RETRY_AFTER_RANGE = (1, 60)  # seconds
_RECENT = 0.2  # weight of the newest stream in the mean duration
_LOOK_SECONDS = 1.0  # between looks for room, which may also come by a growing number of streams

Result = TypeVar("Result")


@dataclass(order=True)
class _Waiter:
    """A request in the queue: those of a lower rank first, then first come, first served."""

    rank: int
    number: int
    place: asyncio.Future[None] = field(compare=False, default_factory=asyncio.Future)


class Admission:
    """A place for each stream, whose number may change, and a bounded queue before them: the lowest rank first, then
    first come, first served. A request that finds the queue full gets `full`, unless one of a higher rank waits, which
    then gets it instead. One that waits too long gets `late`."""

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
        self._free, self._made = 0, 0
        self._line: list[_Waiter] = []  # nobody waits while a place is free
        self._numbers = 0
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
    async def place(self, rank: int = MAIN.rank) -> AsyncIterator[None]:
        """Hold a place; raises `full` or `late` (`CS-BUSY-…`) when none comes free and `CS-SRV-002` after `close`."""
        if not self._open:
            raise CosyError(errors.STOPPING, retry_after=_RETRY_AFTER_RANGE[0])
        self._idle.clear()
        self._make_places()
        try:
            await self._wait(rank)
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
        task.add_done_callback(self._returned)
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
            if self._free > (1 if self._made > 1 else 0):
                self._free -= 1
                return
            self._left.clear()
            with anyio.move_on_after(_LOOK_SECONDS):
                await self._left.wait()

    def _end(self, task: "asyncio.Future[Any]") -> None:
        """Have a borrowed place given back, which may take a moment."""
        if task in self._lent:
            self._lent.remove(task)
            self._returning += 1
            task.cancel()

    def _returned(self, task: "asyncio.Future[Any]") -> None:
        if task in self._lent:
            self._lent.remove(task)
        else:
            self._returning -= 1
        self._give_back()

    def _make_places(self) -> None:
        while self._made < self._streams():
            self._made += 1
            self._release()
        while self._made > self._streams() and self._free:
            self._made -= 1
            self._free -= 1

    def _give_back(self) -> None:
        if self._made > self._streams():  # there is room for fewer than when it was made
            self._made -= 1
        else:
            self._release()

    def _release(self) -> None:
        """Give a place to the next in line, or keep it for who comes."""
        while self._line:
            place = self._line.pop(0).place
            if not place.done():  # else its request has been cancelled
                place.set_result(None)
                return
        self._free += 1
        self._left.set()

    async def _wait(self, rank: int) -> None:
        if self._free:
            self._free -= 1
            return
        if self._lent and self._returning <= self.waiting:
            self._end(self._lent[-1])  # it has done the least of its work
        if self.waiting >= self._queue + self._returning:
            self._make_room(rank)
        self._numbers += 1
        waiter = _Waiter(rank, self._numbers)
        bisect.insort(self._line, waiter)
        self.waiting += 1
        try:
            with anyio.fail_after(self._queue_seconds):
                await waiter.place
        except TimeoutError:
            self._leave(waiter)
            raise CosyError(self._late, retry_after=self._retry_after(), seconds=self._queue_seconds) from None
        except BaseException:
            self._leave(waiter)
            raise
        finally:
            self.waiting -= 1

    def _make_room(self, rank: int) -> None:
        """Send away the last in line for a request of a lower rank, or raise `full`."""
        full = CosyError(self._full, retry_after=self._retry_after(), streams=self._made, waiting=self.waiting)
        last = next((waiter for waiter in reversed(self._line) if not waiter.place.done()), None)
        if last is None or last.rank <= rank:
            raise full
        self._line.remove(last)
        last.place.set_exception(full)

    def _leave(self, waiter: _Waiter) -> None:
        """Go without a place, and pass on one that came at the same moment."""
        if waiter in self._line:
            self._line.remove(waiter)
        elif waiter.place.done() and not waiter.place.cancelled() and waiter.place.exception() is None:
            self._release()

    def _retry_after(self) -> int:
        """Seconds until the queue has moved on, at the pace of the latest streams."""
        low, high = _RETRY_AFTER_RANGE
        return max(low, min(high, math.ceil(self._mean_seconds * (self.waiting + 1) / self._made)))
