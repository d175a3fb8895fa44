"""A flag that a signal's handler may set."""

import time

_TICK = 0.2  # seconds; a handler that returns does not end a sleep


class Flag:
    """`threading.Event` takes a lock when it is set, and the interrupted thread may hold that lock: with two signals at
    once, or one during a wait, the process would block forever."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float) -> bool:
        """Whether it is set, now or within that many seconds."""
        ends = time.monotonic() + seconds
        while not self._set and (left := ends - time.monotonic()) > 0:
            time.sleep(min(_TICK, left))
        return self._set
