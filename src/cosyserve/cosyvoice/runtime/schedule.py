"""Which hops are made now. A pure function of what is ready and of when each listener runs dry.

A batch costs little more for many streams than for one, so it pays to wait for company, as long as nobody is near the
end of what was given. Who has heard nothing yet waits for others of that kind alone, and only for a moment: those who
ask at the same time are spoken to at the same time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NEAR = 0.35  # seconds of sound that a listener has left, below which nothing is waited for
TOGETHER = 0.03  # seconds that a first hop waits for others whose tokens are being drawn
_COMPANY = 0.5  # the share of all streams that is worth a batch
_TURN = 1.0  # seconds within which what nobody listens to yet has a turn


@dataclass(frozen=True)
class Candidate:
    """A stream, as the schedule sees it."""

    ready: bool  # its next hop can be made
    heard: bool  # its listener has begun to listen
    since: float  # when it was admitted, or had its last hop; where it is ready for its first, when it became so
    dry: float = math.inf  # when its listener has nothing left; never if nobody listens while it is made


@dataclass(frozen=True)
class Decision:
    """The hops to be made now, as indices in the order of their urgency; where there are none, when to look again even
    if nothing happens until then."""

    now: tuple[int, ...] = ()
    wait: float = math.inf


def schedule(candidates: Sequence[Candidate], width: int, now: float) -> Decision:
    """At most `width` hops: first those of who has heard nothing, then those whose listeners run dry first."""
    ready = [number for number, each in enumerate(candidates) if each.ready]
    if not ready:
        return Decision()
    ready.sort(key=lambda number: (candidates[number].heard, _latest(candidates[number], coming=True)))
    coming = width > 1 and any(not each.ready and not each.heard for each in candidates)
    near = min(_latest(candidates[number], coming) for number in ready)
    waited_for = coming and not candidates[ready[0]].heard
    if near <= now or (not waited_for and len(ready) >= min(width, _COMPANY * len(candidates))):
        return Decision(tuple(ready[:width]))
    return Decision(wait=near)


def can_stand_still(candidates: Sequence[Candidate], now: float) -> bool:
    """Whether nobody needs a token soon: everybody's next hop can be made, or has time."""
    return all(each.ready or (each.heard and each.dry - now > NEAR) for each in candidates)


def _latest(each: Candidate, coming: bool) -> float:
    """When its hop may not wait any longer, where first hops of others are coming."""
    if not each.heard:
        return each.since + TOGETHER if coming else -math.inf
    return min(each.dry - NEAR, each.since + _TURN if math.isinf(each.dry) else math.inf)
