"""Gives the host's memory back to the system while the server runs."""

import asyncio

from cosyserve.speech.host_memory import give_memory_back

_SECONDS = 30.0


async def give_back_regularly() -> None:
    """Never returns. What large requests, and many at once, have left behind would stay with the C library otherwise.

    In a thread of its own, because it takes a millisecond, and ten beside a model on a processor.
    """
    while True:
        await asyncio.sleep(_SECONDS)
        await asyncio.to_thread(give_memory_back)
