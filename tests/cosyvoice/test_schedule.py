"""The schedule in a simulation: a clock of its own, tokens that come, listeners in real time, a card with a cost."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.cosyvoice.runtime.schedule import NEAR, TOGETHER, Candidate, Decision, can_stand_still, schedule

FIRST, HOP = 0.16, 1.0  # seconds of sound of the first hop and of those after it


@dataclass
class Listener:
    """A stream with its client: it comes at `at`, wants `hops`, and its hop n has its tokens at `drawn[n]`."""

    at: float
    hops: int
    drawn: float  # seconds from one hop's tokens to the next's
    slow: float = 0.0  # seconds for which the client takes nothing, now and then
    leaves: float = math.inf  # when it cancels
    made: list[float] = field(default_factory=list)  # when each hop was

    def tokens_at(self) -> float:
        return self.at + (len(self.made) + 1) * self.drawn

    def over(self, now: float) -> bool:
        return len(self.made) == self.hops or self.leaves <= now

    def given(self) -> float:
        return FIRST + (len(self.made) - 1) * HOP if self.made else 0.0

    def dry(self) -> float:
        return self.made[0] + self.given() if self.made else math.inf

    def takes(self, now: float) -> bool:
        return not self.made or self.made[-1] + self.slow <= now

    def silence(self) -> float:
        """What a listener in real time hears of it."""
        heard, silent = math.inf, 0.0
        for number, when in enumerate(self.made):
            heard = when if number == 0 else heard
            silent += max(0.0, when - heard)
            heard = max(heard, when) + (HOP if number else FIRST)
        return silent

    def candidate(self, now: float) -> Candidate:
        since = self.made[-1] if self.made else max(self.at, self.tokens_at() if self.tokens_at() <= now else self.at)
        return Candidate(self.tokens_at() <= now, bool(self.made), since, self.dry())


def cost(width: int) -> float:
    """Seconds of a batch, as measured: one stream 50 ms, 16 streams 90."""
    return 0.047 + 0.0027 * width


Decide = Callable[[Sequence[Candidate], int, float], Decision]


def simulated(
    listeners: list[Listener], width: int, slots: int, decide: Decide = schedule
) -> list[tuple[float, Decision]]:
    """All of it, from the first that comes to the last sound; what was decided when."""
    now, waiting, speaking = 0.0, sorted(listeners, key=lambda each: each.at), list[Listener]()
    decisions: list[tuple[float, Decision]] = []
    for _ in range(100_000):
        while waiting and waiting[0].at <= now and len(speaking) < slots:
            speaking.append(waiting.pop(0))
        speaking = [each for each in speaking if not each.over(now)]
        if not (waiting or speaking):
            return decisions
        taking = [each for each in speaking if each.takes(now)]
        decision = decide([each.candidate(now) for each in taking], width, now)
        decisions.append((now, decision))
        if decision.now:
            now += cost(len(decision.now))
            for number in decision.now:
                taking[number].made.append(now)
            continue
        coming = [each.tokens_at() for each in taking] + [each.made[-1] + each.slow for each in speaking if each.made]
        coming += [each.leaves for each in speaking] + [each.at for each in waiting[:1]] + [decision.wait]
        now = min([each for each in coming if each > now], default=math.inf)
        assert now < math.inf, "it stands still"
    raise AssertionError("it has no end")


LISTENERS = st.lists(
    st.builds(
        Listener,
        at=st.floats(0, 20),
        hops=st.integers(1, 12),
        drawn=st.floats(0.02, 0.1),
        slow=st.sampled_from([0.0, 0.0, 0.0, 3.0]),
        leaves=st.one_of(st.just(math.inf), st.floats(1, 30)),
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=200)
@given(listeners=LISTENERS, width=st.integers(1, 16))
def test_everybody_hears_all_of_it(listeners: list[Listener], width: int) -> None:
    """Nobody starves, whatever comes and goes; who leaves has had no more than the whole."""
    simulated(listeners, width, slots=32)
    for each in listeners:
        assert len(each.made) == each.hops or each.leaves < math.inf


@settings(max_examples=200)
@given(listeners=LISTENERS)
def test_nobody_hears_silence_while_the_card_suffices(listeners: list[Listener]) -> None:
    """24 listeners at most are far less than the card could speak to, and their tokens come in time. The second
    hop of some is a blink late where many come at once, as the first sounds for 160 ms."""
    for each in listeners:
        each.slow, each.leaves = 0.0, math.inf
    simulated(listeners, width=16, slots=32)
    assert max(each.silence() for each in listeners) < cost(16) + cost(1)  # at worst a wide batch had just begun


def test_32_staggered_listeners_hear_no_silence() -> None:
    listeners = [Listener(at=0.9 * number, hops=9, drawn=0.1) for number in range(32)]
    simulated(listeners, width=32, slots=32)
    assert [each.silence() for each in listeners] == [0.0] * 32


@given(listeners=LISTENERS, width=st.integers(1, 16))
def test_nobody_waits_for_company_who_is_near_the_end(listeners: list[Listener], width: int) -> None:
    for now, decision in simulated(listeners, width, slots=32):
        if not decision.now:
            assert decision.wait > now


CANDIDATES = st.lists(
    st.builds(
        Candidate, st.booleans(), st.booleans(), st.floats(0, 10), st.one_of(st.floats(0, 20), st.just(math.inf))
    ),
    max_size=20,
)


@given(candidates=CANDIDATES, width=st.integers(1, 16), now=st.floats(0, 15))
def test_the_most_urgent_come_first_and_none_is_left_out(candidates: list[Candidate], width: int, now: float) -> None:
    decision = schedule(candidates, width, now)
    ready = [number for number, each in enumerate(candidates) if each.ready]
    assert {*decision.now} <= {*ready}
    if decision.now:
        assert len(decision.now) == min(width, len(ready))  # the card is never half used
        left = [number for number in ready if number not in decision.now]
        firsts = [number for number in decision.now if not candidates[number].heard]
        assert decision.now[: len(firsts)] == tuple(firsts)  # who has heard nothing comes first
        if any(not candidates[number].heard for number in left):
            assert len(firsts) == width
    elif ready:
        assert all(candidates[number].dry - NEAR > now for number in ready if candidates[number].heard)
        for number in ready:  # nobody waits for a first sound, but a moment for others who ask at the same time
            if not candidates[number].heard:
                assert any(not each.ready and not each.heard for each in candidates)
                assert candidates[number].since + TOGETHER > now


@given(candidates=CANDIDATES, now=st.floats(0, 15))
def test_tokens_stand_still_for_nobody_who_needs_them(candidates: list[Candidate], now: float) -> None:
    needs = [each for each in candidates if not each.ready and (not each.heard or each.dry - NEAR <= now)]
    assert can_stand_still(candidates, now) == (not needs)


def test_waiting_for_company_makes_fewer_and_wider_batches() -> None:
    """24 staggered listeners whose tokens come at twice the speed of speech, here and where nothing ever waits."""

    def at_once(candidates: Sequence[Candidate], width: int, now: float) -> Decision:
        return Decision(tuple(number for number, each in enumerate(candidates) if each.ready)[:width])

    batches = []
    for decide in (schedule, at_once):
        listeners = [Listener(at=0.17 * number, hops=10, drawn=0.5) for number in range(24)]
        decided = [len(decision.now) for _, decision in simulated(listeners, 16, 32, decide) if decision.now]
        assert sum(decided) == 240
        batches.append(len(decided))
    assert batches[0] < 0.7 * batches[1]
