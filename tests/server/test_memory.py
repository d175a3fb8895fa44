"""What has been freed is given back to the system while the server runs."""

import asyncio

import psutil

from cosyserve.server.memory import give_back_regularly
from cosyserve.speech.host_memory import give_memory_back
from tests.running import HANGS


def held() -> int:
    return psutil.Process().memory_info().rss >> 20


def test_what_lies_below_something_that_is_still_in_use_is_given_back() -> None:
    give_memory_back()  # of other tests
    before = held()
    pieces = [b"a" * 100_000 for _ in range(2_000)]
    last = pieces.pop()  # the C library by itself gives back no more than what lies above
    del pieces
    assert held() - before > 150

    async def until_it_is() -> None:
        while held() - before > 50:
            await asyncio.sleep(0.01)

    async def regularly() -> None:
        giving_back = asyncio.create_task(give_back_regularly(0.01))
        await asyncio.wait_for(until_it_is(), HANGS)
        giving_back.cancel()

    asyncio.run(regularly())
    assert len(last) == 100_000
