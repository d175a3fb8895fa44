"""What speaks falls asleep and wakes, whoever asks when."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.speech.rest import Rest
from tests.running import HANGS

T = TypeVar("T")


class Voice:
    """A stand-in for what speaks."""

    def __init__(self) -> None:
        self.closed = False


class House:
    """Makes voices and lets go of them, when the test allows it; counts how many there were."""

    def __init__(self, problem: Callable[[], Exception | None] = lambda: None, seconds: float = HANGS) -> None:
        self.problem, self.made, self.tried = problem, 1, 0
        self.may_make, self.may_let_go, self.lets_go = threading.Event(), threading.Event(), threading.Event()
        self.may_make.set()
        self.may_let_go.set()
        self.rest = Rest(Voice(), self._make, self._let_go, seconds)

    def _make(self) -> Voice:
        self.tried += 1
        assert self.may_make.wait(HANGS)
        if problem := self.problem():
            raise problem
        self.made += 1
        return Voice()

    def _let_go(self, voice: Voice) -> None:
        self.lets_go.set()
        assert self.may_let_go.wait(HANGS)
        voice.closed = True

    async def speak(self) -> Voice:
        async with self.rest.awake() as voice:
            for _ in range(3):
                assert not voice.closed
                await asyncio.sleep(0)
        return voice


def run(house: House, work: Awaitable[T]) -> T:
    async def whole() -> T:
        return await work

    try:
        return asyncio.run(whole())
    finally:
        house.rest.close()


def test_all_who_ask_at_once_wake_it_once() -> None:
    house = House()

    async def ask() -> list[Voice]:
        assert await house.rest.sleep()
        assert house.rest.asleep
        assert not await house.rest.sleep()  # it does already
        return await asyncio.gather(*(house.speak() for _ in range(50)))

    assert len(set(run(house, ask()))) == 1
    assert (house.made, house.rest.asleep) == (2, False)


def test_who_asks_while_it_falls_asleep_is_spoken_to() -> None:
    house = House()
    house.may_let_go.clear()

    async def ask() -> Voice:
        falling = asyncio.create_task(house.rest.sleep())
        assert await asyncio.to_thread(house.lets_go.wait, HANGS)
        asking = asyncio.create_task(house.speak())
        await asyncio.sleep(0)
        assert not asking.done()
        house.may_let_go.set()
        assert await falling
        return await asking

    assert not run(house, ask()).closed
    assert house.made == 2


def test_it_does_not_fall_asleep_while_somebody_is_spoken_to() -> None:
    house = House()

    async def ask() -> list[bool]:
        async with house.rest.awake():
            during = await house.rest.sleep()
        return [during, await house.rest.sleep()]

    assert run(house, ask()) == [False, True]


def test_who_leaves_does_not_keep_it_from_waking_for_the_others() -> None:
    house = House()

    async def ask() -> Voice:
        await house.rest.sleep()
        house.may_make.clear()
        leaves, stays = (asyncio.create_task(house.speak()) for _ in range(2))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        house.may_make.set()
        return await stays

    assert not run(house, ask()).closed
    assert house.tried == 1


def test_who_waits_too_long_is_told_so_and_it_wakes_nevertheless() -> None:
    house = House(seconds=0.01)

    async def ask() -> CosyError:
        await house.rest.sleep()
        house.may_make.clear()
        with pytest.raises(CosyError) as told:
            await house.speak()
        house.may_make.set()
        while house.rest.asleep:
            await asyncio.sleep(0)
        await house.speak()
        return told.value

    told = run(house, ask())
    assert (told.fault, told.fault.status) == (errors.WAKING, 503)
    assert told.retry_after


def full() -> Exception:
    return CosyError(errors.NO_ROOM_TO_WAKE, retry_after=10, gib="0.5")


@pytest.mark.parametrize(("problem", "broken"), [(full, False), (lambda: OSError("the disk is gone"), True)])
def test_where_it_cannot_be_woken_all_are_told_and_who_asks_next_tries_again(
    problem: Callable[[], Exception], broken: bool
) -> None:
    house = House(problem)

    async def ask() -> set[type]:
        await house.rest.sleep()
        told = [await asyncio.gather(house.speak(), house.speak(), return_exceptions=True) for _ in range(3)]
        assert (house.rest.asleep, bool(house.rest.broken)) == (True, broken)
        house.problem = lambda: None
        await house.speak()
        return {type(each) for two in told for each in two}

    assert run(house, ask()) == {type(problem())}
    assert (house.tried, house.made) == (4, 2)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["speak", "sleep", "leave"]), st.integers(0, 4)), max_size=12))
def test_nobody_is_spoken_to_by_what_was_let_go_of(actions: list[tuple[str, int]]) -> None:
    """`speak` looks at that each time that others have had a turn."""
    house = House()

    async def act(kind: str, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        if kind == "sleep":
            await house.rest.sleep()
        elif kind == "speak":
            await house.speak()
        else:
            asking = asyncio.create_task(house.speak())
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def all_of_them() -> Voice:
        await asyncio.gather(*(act(*each) for each in actions))
        return await house.speak()

    assert run(house, all_of_them()) is house.rest.loaded
