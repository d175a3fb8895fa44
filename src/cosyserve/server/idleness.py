"""Measures how long no request has come, and decides when a machine that costs money is switched off for it."""

import time

from cosyserve.server.admission import Admission


class Idleness:
    """`minutes` of 0 is never. Counts from the start or the end of the last request that was spoken."""

    def __init__(self, minutes: float, admission: Admission) -> None:
        self._limit, self._admission = minutes * 60, admission
        self._since = time.monotonic()

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the machine is switched off unless a request comes; None if it will not be."""
        if not self._limit:
            return None
        now = time.monotonic()
        if self._admission.active or self._admission.waiting or self._admission.lent:
            self._since = now
        last = max(self._since, self._admission.last_use)
        return max(0.0, self._limit - (now - last))

    def touch(self) -> None:
        """Something is done that is no request."""
        self._since = time.monotonic()

    def cancel(self) -> None:
        """Until the next start."""
        self._limit = 0.0
