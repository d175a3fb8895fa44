"""How long nothing has been asked for, and when a machine that costs money is therefore switched off."""

import time

from cosyserve.server.admission import Admission


class Idleness:
    """`minutes` of 0 is never. Counts from the start or the end of the last request that was spoken."""

    def __init__(self, minutes: float, admission: Admission) -> None:
        self._limit, self._admission = minutes * 60, admission
        self._since = time.monotonic()

    @property
    def seconds_left(self) -> float | None:
        """Until the machine is switched off if nothing is asked for, None where it will not be."""
        if not self._limit:
            return None
        now = time.monotonic()
        if self._admission.active or self._admission.waiting:
            self._since = now
        last = max(self._since, self._admission.last_use)
        return max(0.0, self._limit - (now - last))

    def cancel(self) -> None:
        """Until the next start."""
        self._limit = 0.0
