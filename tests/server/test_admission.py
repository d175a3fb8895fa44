import asyncio
import math
from collections.abc import Callable

import httpx
import pytest

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
