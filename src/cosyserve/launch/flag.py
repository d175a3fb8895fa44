"""A flag that a signal's handler may set."""

import time

_TICK = 0.2  # seconds; a handler that returns does not end a sleep


class Flag:
    """`threading.Event` is set under a lock, which the thread that is interrupted may hold: two signals at once, or one
    during a wait, and it stands still forever."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float) -> bool:
        """Whether it is set, at once or within so many seconds."""
        ends = time.monotonic() + seconds
        while not self._set and (left := ends - time.monotonic()) > 0:
            time.sleep(min(_TICK, left))
        return self._set
