"""Two hundred at once where sixteen fit: all are answered, none is cut, and nothing is left behind."""

import asyncio
import threading
from collections import Counter

import httpx
import psutil
import uvicorn

from cosyserve.server.app import create_app
from cosyserve.server.run import listen, url_of
from cosyserve.settings import Settings
from cosyserve.speech.choice import choose
from tests.running import HANGS, eventually

STREAMS, LIMIT, QUEUE = 200, 16, 32
TEXT = "今天天气很好，我们一起去公园散步吧。This sentence is spoken two hundred times. " * 4


async def _one(client: httpx.AsyncClient) -> tuple[int, int]:
    async with client.stream("POST", "/v1/audio/speech", json={"input": TEXT, "response_format": "flac"}) as response:
        body = b"".join([piece async for piece in response.aiter_raw()])  # raises where a stream is cut
    if response.status_code == 200:
        assert body.startswith(b"fLaC")
    else:
        assert b"CS-BUSY-001" in body
        assert response.headers["retry-after"]
    return response.status_code, len(body)


def _left() -> tuple[int, int]:
    return len(asyncio.all_tasks()), psutil.Process().num_fds()


def _threads() -> int:
    """But for the front end's own, a few that the whole process shares and keeps."""
    return sum(not each.name.startswith("text") for each in threading.enumerate())


def test_two_hundred_streams_at_once() -> None:
    threads = _threads()

    async def run() -> None:
        settings = Settings(max_streams=LIMIT, max_queue=QUEUE, queue_seconds=HANGS)
        bound = listen("127.0.0.1", 0)
        app = create_app(settings, choose(settings))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        serving = asyncio.create_task(server.serve([bound]))

        async def round_() -> Counter[int]:
            limits = httpx.Limits(max_connections=STREAMS)
            async with httpx.AsyncClient(base_url=url_of(bound), limits=limits, timeout=HANGS) as client:
                answers = await asyncio.gather(*(_one(client) for _ in range(STREAMS)))
            while server.server_state.connections:  # the server notices the hang-ups in its own time
                await asyncio.sleep(0.01)
            return Counter(status for status, _ in answers)

        while app.state.service.state != "ready":
            await asyncio.sleep(0.01)
        await round_()  # once for what is made at the first use and kept
        before = _left()
        counts = await round_()
        after = _left()
        assert set(counts) == {200, 429}
        assert counts[200] >= LIMIT + QUEUE
        assert app.state.service.admission.active == app.state.service.admission.waiting == 0
        assert after <= before
        assert _threads() - threads <= LIMIT + 1  # an encoder each, and the synthesizer's
        server.should_exit = True
        await serving
        bound.close()

    asyncio.run(run())
    eventually(lambda: _threads() == threads)
