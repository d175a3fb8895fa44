"""How much was taken lately, and when there is room for more."""

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class Entry:
    """What was taken at one time."""

    time: int
    amount: int


class Window:
    """At most a limit within any `span`, both ends included; everything that fits is let through.

    Times are ticks of the caller's clock, which never goes back. There is one entry for each tick at which something
    was taken, so memory is bounded by the number of ticks in a span.
    """

    def __init__(self, span: int) -> None:
        self._span = span
        self._entries: deque[Entry] = deque()
        self._used = 0

    def used(self, now: int) -> int:
        while self._entries and now - self._entries[0].time > self._span:
            self._used -= self._entries.popleft().amount
        return self._used

    def free_at(self, amount: int, limit: int, now: int) -> int:
        """From when `amount`, which is `limit` at most, fits: now or later."""
        excess = self.used(now) + amount - limit
        free = now
        for entry in self._entries:
            if excess <= 0:
                break
            excess -= entry.amount
            free = entry.time + self._span + 1
        return free

    def empty_at(self, now: int) -> int:
        """From when nothing that was taken counts any more, unless more is taken."""
        return self._entries[-1].time + self._span + 1 if self.used(now) else now

    def take(self, amount: int, now: int) -> Entry:
        self.used(now)
        if not self._entries or self._entries[-1].time < now:
            self._entries.append(Entry(now, 0))
        entry = self._entries[-1]
        entry.amount += amount
        self._used += amount
        return entry

    def give_back(self, entry: Entry, amount: int) -> None:
        """Of what was taken at that time, `amount` no longer counts."""
        if self._entries and entry.time >= self._entries[0].time:  # else it has left the window
            entry.amount -= amount
            self._used -= amount
