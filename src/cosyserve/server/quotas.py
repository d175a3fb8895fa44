"""The limits of keys: whether a request fits, how much is left, and when there is room again."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from typing_extensions import Self

from cosyserve import errors
from cosyserve.errors import CosyError, Fault
from cosyserve.keys import MAIN, Key
from cosyserve.keys.keyring import Keyring
from cosyserve.server.usage import NOTHING, ONE_REQUEST, Amount, Usage
from cosyserve.server.window import Entry, Window

_TICKS = 100  # of the clock in a second
_MINUTE = 60
_WORTH_WAITING = 60  # seconds; OpenAI's clients ignore a longer Retry-After and would ask again at once

_KINDS = (("requests", "requests"), ("characters", "tokens"))  # as they are called here, and by OpenAI
# What a web page may read of an answer.
LIMIT_HEADERS = (
    "Retry-After",
    *(f"x-ratelimit-{each}-{kind}" for _, kind in _KINDS for each in ("limit", "remaining", "reset")),
)

LimitName = Literal["requests_per_minute", "characters_per_minute", "requests_per_day", "characters_per_day"]
_FAULTS: Mapping[LimitName, Fault] = {
    "requests_per_minute": errors.REQUESTS_OF_MINUTE,
    "characters_per_minute": errors.CHARACTERS_OF_MINUTE,
    "requests_per_day": errors.REQUESTS_OF_DAY,
    "characters_per_day": errors.CHARACTERS_OF_DAY,
}


@dataclass(frozen=True)
class Standing:
    """One limit of a key: how much of it is used, after how many seconds what was asked for fits (`wait`), and after
    how many nothing counts any more (`reset`)."""

    name: LimitName
    limit: int | None
    used: int
    wait: float
    reset: float

    @property
    def left(self) -> float:
        return math.inf if self.limit is None else max(0, self.limit - self.used)


class QuotaError(CosyError):
    """A key has used all that it may. `headers` are OpenAI's."""

    def __init__(self, key: Key, standings: Sequence[Standing]) -> None:
        last = max(standings, key=lambda each: each.wait)  # after which none of them refuses
        seconds = math.ceil(last.wait)
        self.limit = last.name
        self.headers = {**headers_of(standings), **({} if seconds <= _WORTH_WAITING else {"x-should-retry": "false"})}
        facts: dict[str, Any] = {"name": key.name, "limit": last.limit, "left": int(last.left)}
        wait, wait_zh = _duration(seconds, " h", " min", " s"), _duration(seconds, " 小时", " 分", " 秒")
        super().__init__(_FAULTS[last.name], retry_after=seconds, wait=wait, wait_zh=wait_zh, **facts)


class _Minute:
    """What one key has used within a minute."""

    def __init__(self) -> None:
        self.requests, self.characters = Window(_MINUTE * _TICKS), Window(_MINUTE * _TICKS)


class Taken:
    """What one request has taken. It is given back if the body of `with` fails."""

    def __init__(self, quotas: "Quotas", key: Key) -> None:
        self._quotas, self.key = quotas, key
        self._day, self._amount = "", NOTHING
        self.characters = 0  # in all
        self.heard = False  # whether there was anything to hear, so that it counts whatever comes
        self._entries: list[tuple[Window, Entry, int]] = []

    def more(self, characters: int) -> None:
        """Take characters of a text that is still arriving; raises as `Quotas.take`."""
        self._quotas.add(self, Amount(0, characters))

    def note(self, day: str, amount: Amount, entries: Iterable[tuple[Window, Entry, int]]) -> None:
        if day != self._day:  # what was taken yesterday is over
            self._day, self._amount = day, NOTHING
        self._amount = self._amount.plus(amount)
        self.characters += amount.characters
        self._entries += entries

    def fail(self) -> None:
        """It ended with an error, and counts only if something was heard of it."""
        if not self.heard:
            self.give_back()

    def give_back(self) -> None:
        """Nothing came of it, so it does not count."""
        for window, entry, amount in self._entries:
            window.give_back(entry, amount)
        if self._day == self._quotas.usage.today():
            self._quotas.discount(self.key, self._amount)
        self._day, self._amount, self._entries = "", NOTHING, []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is not None:
            self.give_back()


class Quotas:
    """A minute is any 60 seconds, a day is one of UTC. A refusal takes nothing, and `refused` hears of it: of the key
    and the limit. For the event loop."""

    def __init__(
        self,
        keyring: Keyring,
        usage: Usage,
        refused: Callable[[str, str], None] = lambda key, limit: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.usage = usage
        self._keyring, self._refused, self._clock = keyring, refused, clock
        self._minutes: dict[str, _Minute] = {}

    def take(self, key: Key, characters: int) -> Taken:
        """Count a request against the limits of its key as they are now; raises `CS-QUOTA-…`, and `CS-AUTH-001` if the
        key has been revoked."""
        taken = Taken(self, key)
        self.add(taken, Amount(1, characters))
        return taken

    def add(self, taken: Taken, amount: Amount) -> None:
        """Count as much more for the same request; raises the same."""
        taken.key = key = self.expect(taken.key, amount)
        now, minute = self._now(), self._minute(key)
        counts = ((minute.requests, amount.requests), (minute.characters, amount.characters))
        entries = [(window, window.take(count, now), count) for window, count in counts if count]
        taken.note(self.usage.today(), amount, entries)
        self._count(key, amount)

    def expect(self, key: Key, amount: Amount = ONE_REQUEST) -> Key:
        """The key as it is now, if so much more fits; raises the same if not."""
        current = self._keyring.current(key)
        if current is None:
            raise CosyError(errors.KEY_REFUSED)
        _expect_possible(current, amount.characters)
        standings = self.standings(current, amount)
        if any(each.wait for each in standings):
            error = QuotaError(current, standings)
            self._refused(current.name, error.limit)
            raise error
        return current

    def headers(self, key: Key) -> Mapping[str, str]:
        """How much is left of its limits as they are now."""
        return headers_of(self.standings(self._keyring.current(key) or key))

    def discount(self, key: Key, amount: Amount) -> None:
        """So much less has been used today."""
        self._count(key, Amount(-amount.requests, -amount.characters))

    def _count(self, key: Key, amount: Amount) -> None:
        self.usage.add(key.name, amount, keep=self._keyring.by_name)

    def standings(self, key: Key, more: Amount = NOTHING) -> list[Standing]:
        """What the key has used of each of its limits, and how long `more` has to wait."""
        now, minute, limits = self._now(), self._minute(key), key.limits
        today, midnight = self.usage.of(key.name), self.usage.seconds_left()
        return [
            _of_minute("requests_per_minute", limits.requests_per_minute, minute.requests, more.requests, now),
            _of_minute("characters_per_minute", limits.characters_per_minute, minute.characters, more.characters, now),
            _of_day("requests_per_day", limits.requests_per_day, today.requests, more.requests, midnight),
            _of_day("characters_per_day", limits.characters_per_day, today.characters, more.characters, midnight),
        ]

    def _minute(self, key: Key) -> _Minute:
        """Counts of keys that are gone are dropped."""
        if key.name not in self._minutes:
            known = {MAIN.name, *self._keyring.named}
            self._minutes = {name: minute for name, minute in self._minutes.items() if name in known}
            self._minutes[key.name] = _Minute()
        return self._minutes[key.name]

    def _now(self) -> int:
        return math.floor(self._clock() * _TICKS)


def headers_of(standings: Iterable[Standing]) -> Mapping[str, str]:
    """How much is left, under the names of OpenAI's servers: of a minute's limit and a day's, the one with less. Tokens
    are characters, as in `usage`."""
    headers = {}
    for what, called in _KINDS:
        limited = [each for each in standings if each.limit is not None and each.name.startswith(what)]
        if limited:
            least = min(limited, key=lambda each: each.left)
            headers[f"x-ratelimit-limit-{called}"] = str(least.limit)
            headers[f"x-ratelimit-remaining-{called}"] = str(int(least.left))
            headers[f"x-ratelimit-reset-{called}"] = _duration(math.ceil(least.reset), "h", "m", "s", "")
    return headers


def _expect_possible(key: Key, characters: int) -> None:
    """Raises `CS-QUOTA-005` for a text that no waiting would help."""
    limits = key.limits
    for limit, window, window_zh in (
        (limits.characters_per_minute, "minute", "分钟"),
        (limits.characters_per_day, "day", "天"),
    ):
        if limit is not None and characters > limit:
            facts: dict[str, Any] = {"characters": characters, "limit": limit, "window": window, "window_zh": window_zh}
            raise CosyError(errors.TEXT_OVER_QUOTA, name=key.name, **facts)


def _of_minute(name: LimitName, limit: int | None, window: Window, more: int, now: int) -> Standing:
    wait = window.free_at(more, limit, now) - now if limit and more else 0
    return Standing(name, limit, window.used(now), wait / _TICKS, (window.empty_at(now) - now) / _TICKS)


def _of_day(name: LimitName, limit: int | None, used: int, more: int, midnight: float) -> Standing:
    exceeds = limit is not None and more and used + more > limit
    return Standing(name, limit, used, midnight if exceeds else 0, midnight if used else 0)


def _duration(seconds: int, hours: str, minutes: str, last: str, between: str = " ") -> str:
    """Without leading units that are 0: `12s`, `6m0s`."""
    parts = [(seconds // 3600, hours), (seconds // 60 % 60, minutes), (seconds % 60, last)]
    while len(parts) > 1 and not parts[0][0]:
        del parts[0]
    return between.join(f"{count}{unit}" for count, unit in parts)
