import asyncio

import pytest

from cosyserve.server.pulse import Debt, Pulse, WatchedSynthesizer
from cosyserve.speech.synthesizer import Options
from tests.standins import FailingSynthesizer, GatedSynthesizer

pytestmark = pytest.mark.anyio


async def test_silence_is_counted_while_somebody_waits_and_nobody_gets_anything() -> None:
    stuck = GatedSynthesizer()
    stuck.budget = 0
    watched = WatchedSynthesizer(stuck)
    voice = watched.voices["tone"]
    assert watched.pulse.silent_seconds == 0
    streams = [watched.synthesize("abc", voice, Options()) for _ in range(2)]
    waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    while watched.pulse.silent_seconds < 0.1:
        await asyncio.sleep(0.01)
    waiting[0].cancel()  # a client that gives up changes nothing for the other
    await asyncio.wait(waiting[:1])
    assert watched.pulse.silent_seconds >= 0.1
    stuck.budget = 1
    await waiting[1]
    assert watched.pulse.silent_seconds == 0
    for stream in streams:
        await stream.aclose()
    assert stuck.inside == 0


async def test_silence_between_two_pulls_is_nobodys_fault() -> None:
    watched = WatchedSynthesizer(GatedSynthesizer())
    stream = watched.synthesize("abc", watched.voices["tone"], Options())
    await anext(stream)
    assert watched.pulse.silent_seconds == 0  # the reader takes its time
    await stream.aclose()


async def test_a_failure_is_an_answer() -> None:
    watched = WatchedSynthesizer(FailingSynthesizer())
    with pytest.raises(RuntimeError):
        await anext(watched.synthesize("fail", watched.voices["tone"], Options()))
    assert watched.pulse.silent_seconds == 0


async def test_waits_may_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("cosyserve.server.pulse.time.monotonic", lambda: now[0])
    pulse = Pulse()
    with pulse.waiting(Debt()):
        now[0] += 5
        with pulse.waiting(Debt()):
            now[0] += 5
            assert pulse.silent_seconds == 10
        now[0] += 1
        assert pulse.silent_seconds == 1
    assert pulse.silent_seconds == 0


async def test_whoever_owes_text_is_owed_no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("cosyserve.server.pulse.time.monotonic", lambda: now[0])
    pulse, slow, other = Pulse(), Debt(), Debt()
    with pulse.waiting(slow):
        with pulse.excused(slow):
            now[0] += 50
            assert pulse.silent_seconds == 0
            with pulse.waiting(other):
                now[0] += 3
                assert pulse.silent_seconds == 3  # which another waits for
        now[0] += 2
        assert pulse.silent_seconds == 2  # from when its text came
