"""Sleep: the loaded model is let go of while nobody needs it, and loaded again for the next request.

Falling asleep and waking take turns in a thread of their own. A request that comes meanwhile waits for that, and
requests that come together wake the model once.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from cosyserve import errors
from cosyserve.errors import CosyError

log = logging.getLogger(__name__)

_RETRY_AFTER = 5  # seconds: about as long as waking takes
_FAILURES = 3  # in a row, other than for want of memory, after which the process counts as broken


class Sleeper(Protocol):
    """What a server needs to know of `Rest`."""

    @property
    def asleep(self) -> bool:
        """From the moment when it begins to fall asleep until it can speak again."""
        ...

    async def sleep(self) -> bool:
        """Whether it fell asleep: not while somebody is spoken to."""
        ...


S = TypeVar("S")


class Rest(Generic[S]):
    """`make` loads the model, in a thread. If it raises, the model stays asleep, and the next request tries again.
    `let_go` is called in the same thread once nobody uses the model."""

    def __init__(self, loaded: S, make: Callable[[], S], let_go: Callable[[S], None], seconds: float) -> None:
        """Awake, with `loaded`. A request waits for at most `seconds` until it wakes."""
        self._loaded: S | None = loaded
        self._make, self._let_go, self._seconds = make, let_go, seconds
        self._lock, self._users = threading.Lock(), 0
        self._waking: Future[S] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rest")
        self._failures = 0
        self.broken = ""
        """Why it will not wake again in this process."""

    @property
    def loaded(self) -> S | None:
        """None where it is asleep."""
        return self._loaded

    @property
    def asleep(self) -> bool:
        return self._loaded is None

    @asynccontextmanager
    async def awake(self) -> AsyncIterator[S]:
        """The loaded model, which stays awake until the body ends. Raises `CS-SLEEP-002` if waking takes too long, and
        what `make` raises."""
        with self._lock:
            self._users += 1
        try:
            yield await self._woken()
        finally:
            with self._lock:
                self._users -= 1

    async def sleep(self) -> bool:
        return await asyncio.wrap_future(self._thread.submit(self._sleep))

    def close(self) -> S | None:
        """The loaded model if it is awake. To be called once, at the end."""
        self._thread.shutdown(cancel_futures=True)
        return self._loaded

    async def _woken(self) -> S:
        with self._lock:
            if self._loaded is not None:
                return self._loaded
            self._waking = waking = self._waking or self._thread.submit(self._wake)
        woken = asyncio.wrap_future(waking)
        woken.add_done_callback(_seen)
        await asyncio.wait((woken,), timeout=self._seconds)  # a client that leaves does not end it for the others
        if not woken.done():
            raise CosyError(errors.WAKING, retry_after=_RETRY_AFTER, seconds=self._seconds)
        return woken.result()

    def _wake(self) -> S:
        try:
            loaded = self._make()
        except Exception as problem:
            with self._lock:
                self._waking = None
            self._judge(problem)
            raise
        with self._lock:
            self._loaded, self._waking, self._failures = loaded, None, 0
        return loaded

    def _judge(self, problem: Exception) -> None:
        log.warning("The model could not be woken: %s", problem)
        if isinstance(problem, CosyError) and problem.fault is errors.NO_ROOM_TO_WAKE:
            return  # others have the memory, and may give it back
        self._failures += 1
        if self._failures >= _FAILURES:
            self.broken = f"it could not be woken {_FAILURES} times, the last time because: {problem}"

    def _sleep(self) -> bool:
        with self._lock:
            if self._users or self._loaded is None:
                return False
            loaded, self._loaded = self._loaded, None
        try:
            self._let_go(loaded)
        except Exception:  # of a device that is lost, which the next request will be told
            log.exception("The model could not be let go of")
        return True


def _seen(woken: "asyncio.Future[S]") -> None:
    """Look at the failure, as nobody else does if the client has left; asyncio would complain of that."""
    if not woken.cancelled():
        woken.exception()
