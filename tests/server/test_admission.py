import asyncio
import math
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.server.admission import Admission
from tests.conftest import Serving
from tests.running import HANGS
from tests.standins import GatedSynthesizer


def test_first_come_first_served_up_to_the_limits() -> None:
    async def run() -> None:
        admission = Admission(streams=lambda: 2, queue=3, queue_seconds=10)
        order: list[int] = []
        release = asyncio.Event()

        async def request(number: int) -> None:
            async with admission.place():
                order.append(number)
                assert admission.active <= 2
                await release.wait()

        tasks = [asyncio.create_task(request(number)) for number in range(5)]
        await asyncio.sleep(0)  # one turn: every request has asked
        assert (admission.active, admission.waiting) == (2, 3)
        with pytest.raises(CosyError) as full:
            async with admission.place():
                pass
        assert full.value.fault.id == "CS-BUSY-001"
        assert full.value.retry_after
        release.set()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]
        assert (admission.active, admission.waiting) == (0, 0)

    asyncio.run(run())


def test_who_waits_gets_a_place_that_there_was_not_room_for_before() -> None:
    async def run() -> None:
        streams = 1
        admission = Admission(streams=lambda: streams, queue=5, queue_seconds=HANGS)
        release = asyncio.Event()

        async def request() -> None:
            async with admission.place():
                await release.wait()

        tasks = [asyncio.create_task(request()) for _ in range(3)]
        await asyncio.sleep(0)
        assert (admission.active, admission.waiting) == (1, 2)
        streams = 3
        tasks.append(asyncio.create_task(request()))
        while admission.active < 3:
            await asyncio.sleep(0)
        assert admission.waiting == 1
        release.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_a_full_queue_makes_room_for_a_lower_rank_alone() -> None:
    async def run() -> None:
        admission = Admission(streams=lambda: 1, queue=2, queue_seconds=HANGS)
        served: list[str] = []

        async def request(name: str, rank: int) -> None:
            async with admission.place(rank):
                served.append(name)

        async with admission.place():
            waiting = [asyncio.create_task(request(name, 2)) for name in ("first", "last")]
            await asyncio.sleep(0)
            with pytest.raises(CosyError, match="CS-BUSY-001"):
                await request("no lower", 2)
            waiting.append(asyncio.create_task(request("lower", 0)))
            await asyncio.sleep(0)
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert served == ["lower", "first"]
        assert isinstance(ended[1], CosyError) and ended[1].fault.id == "CS-BUSY-001"
        assert (admission.active, admission.waiting) == (0, 0)

    asyncio.run(run())


@given(
    st.integers(1, 3), st.lists(st.tuples(st.sampled_from(["come", "end", "leave"]), st.integers(0, 5)), max_size=30)
)
def test_the_lowest_rank_is_served_first_and_no_place_is_idle_or_lost(
    streams: int, steps: list[tuple[str, int]]
) -> None:
    async def run() -> None:
        admission = Admission(lambda: streams, queue=100, queue_seconds=HANGS)
        waiting: dict[tuple[int, int], asyncio.Task[None]] = {}  # by rank and arrival
        served: dict[tuple[int, int], asyncio.Event] = {}

        async def request(who: tuple[int, int]) -> None:
            async with admission.place(who[0]):
                assert who == min(waiting)
                del waiting[who]
                done = served[who] = asyncio.Event()
                await done.wait()

        for number, (step, pick) in enumerate(steps):
            if step == "come":
                who = (pick % 3, number)
                waiting[who] = asyncio.create_task(request(who))
            elif step == "end" and served:
                served.pop(sorted(served)[pick % len(served)]).set()
            elif step == "leave" and waiting:
                waiting.pop(sorted(waiting)[pick % len(waiting)]).cancel()
            for _ in range(3):  # turns of the loop
                await asyncio.sleep(0)
            assert admission.active == len(served) <= streams
            assert not waiting or len(served) == streams
            assert admission.waiting == len(waiting)
        while served:
            served.popitem()[1].set()
            for _ in range(3):
                await asyncio.sleep(0)
        assert (admission.active, admission.waiting) == (0, 0)

    asyncio.run(run())


@pytest.mark.parametrize("leaving", [True, False])
def test_a_place_that_comes_to_one_who_leaves_goes_to_the_next(leaving: bool) -> None:
    async def run() -> None:
        admission = Admission(lambda: 1, queue=2, queue_seconds=HANGS)
        served: list[str] = []

        async def request(name: str) -> None:
            async with admission.place():
                served.append(name)

        async with admission.place():
            tasks = [asyncio.create_task(request(name)) for name in ("first", "second")]
            await asyncio.sleep(0)
        if leaving:
            tasks[0].cancel()  # it has been given the place and has not woken
        await asyncio.gather(*tasks, return_exceptions=True)
        assert served == (["second"] if leaving else ["first", "second"])
        assert (admission.active, admission.waiting) == (0, 0)

    asyncio.run(run())


def test_where_there_is_less_room_than_before_fewer_are_let_in() -> None:
    async def run() -> None:
        streams = 3
        admission = Admission(streams=lambda: streams, queue=5, queue_seconds=HANGS)

        async def request(release: asyncio.Event) -> None:
            async with admission.place():
                await release.wait()

        first, later = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(request(first)) for _ in range(3)]
        await asyncio.sleep(0)
        streams = 1
        first.set()
        await asyncio.gather(*tasks)
        tasks = [asyncio.create_task(request(later)) for _ in range(3)]
        await asyncio.sleep(0)
        assert (admission.active, admission.waiting) == (1, 2)
        streams = 3
        later.set()
        await asyncio.gather(*tasks)
        streams = 1  # while nobody speaks
        tasks = [asyncio.create_task(request(asyncio.Event())) for _ in range(3)]
        await asyncio.sleep(0)
        assert (admission.active, admission.waiting) == (1, 2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def test_waiting_ends_in_time() -> None:
    async def run() -> None:
        admission = Admission(streams=lambda: 1, queue=1, queue_seconds=0.01)
        async with admission.place():
            with pytest.raises(CosyError) as late:
                async with admission.place():
                    pass
            assert late.value.fault.id == "CS-BUSY-002"
        async with admission.place():
            assert admission.active == 1

    asyncio.run(run())


def test_who_gives_up_waiting_takes_no_place() -> None:
    async def run() -> None:
        admission = Admission(streams=lambda: 1, queue=5, queue_seconds=10)

        async def request() -> None:
            async with admission.place():
                pass

        async with admission.place():
            waiting = [asyncio.create_task(request()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            await asyncio.sleep(0)
            assert admission.waiting == 2
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (admission.active, admission.waiting) == (0, 0)
        await asyncio.wait_for(admission.idle(), HANGS)

    asyncio.run(run())


def test_closing_lets_the_running_finish_and_refuses_the_new() -> None:
    async def run() -> None:
        admission = Admission(streams=lambda: 1, queue=1, queue_seconds=10)
        async with admission.place():
            admission.close()
            with pytest.raises(CosyError) as stopping:
                async with admission.place():
                    pass
            assert stopping.value.fault.id == "CS-SRV-002"
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(admission.idle(), 0.01)
        await asyncio.wait_for(admission.idle(), HANGS)

    asyncio.run(run())


def test_a_full_server_answers_429_with_the_time_to_wait(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer, max_streams=1, max_queue=0) as url:
        synthesizer.budget = 1
        with httpx.stream("POST", f"{url}/v1/audio/speech", json={"input": "hello", "response_format": "pcm"}) as first:
            pieces = first.iter_raw()  # held: a dropped iterator closes the response
            next(pieces)
            second = httpx.post(f"{url}/tts", data={"text": "hello"})
            assert second.status_code == 429
            assert 1 <= int(second.headers["retry-after"]) <= 60
            assert second.json()["error"]["type"] == "rate_limit_error"
            assert "cosyserve_rejected_total 1.0" in httpx.get(f"{url}/metrics").text
            synthesizer.budget = math.inf


async def turns(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_one_place_is_left_where_places_are_borrowed() -> None:
    async def run() -> None:
        admission = Admission(streams=lambda: 3, queue=0, queue_seconds=HANGS)
        release = asyncio.Event()
        tasks = [asyncio.create_task(admission.borrow(release.wait)) for _ in range(5)]
        await turns(lambda: admission.lent == 2)
        async with admission.place():
            assert (admission.lent, admission.active) == (2, 1)
        release.set()
        assert await asyncio.gather(*tasks) == [True] * 5
        assert admission.lent == 0

    asyncio.run(run())


def test_a_request_takes_back_what_is_borrowed_and_the_queue_may_be_full() -> None:
    async def run() -> None:
        admission = Admission(streams=lambda: 1, queue=0, queue_seconds=HANGS)
        started, cleaned = [], []

        async def work() -> bool:
            started.append(True)
            try:
                return await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)  # what is cancelled may take a moment
                cleaned.append(True)

        borrowed = asyncio.create_task(admission.borrow(work))
        await turns(lambda: bool(started))
        async with admission.place():
            assert cleaned
            assert await borrowed is None
            with pytest.raises(CosyError):
                async with admission.place():
                    pass
            later = asyncio.create_task(admission.borrow(work))
            await asyncio.sleep(0)
            assert admission.lent == 0
        await turns(lambda: admission.lent == 1)
        later.cancel()
        with pytest.raises(asyncio.CancelledError):
            await later
        async with admission.place():  # the place has come back
            pass

    asyncio.run(run())


def test_nothing_is_borrowed_of_a_server_that_stops() -> None:
    async def run() -> None:
        admission = Admission(streams=lambda: 1, queue=0, queue_seconds=HANGS)
        first, second = (asyncio.create_task(admission.borrow(asyncio.Event().wait)) for _ in range(2))
        await turns(lambda: admission.lent == 1)
        admission.close()
        assert await first is None
        with pytest.raises(CosyError) as stopping:
            await second
        assert stopping.value.fault.id == "CS-SRV-002"
        await admission.idle()

    asyncio.run(run())


def test_what_fails_in_a_borrowed_place_fails_for_the_borrower() -> None:
    async def run() -> None:
        async def fail() -> None:
            raise ZeroDivisionError

        admission = Admission(streams=lambda: 1, queue=0, queue_seconds=HANGS)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await admission.borrow(fail)

    asyncio.run(run())
